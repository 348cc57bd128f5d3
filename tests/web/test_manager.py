from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Request, Response, g
from support.visitor import visitor
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_agentuity import (
    ConfigurationError,
    InvalidThreadId,
    Thread,
    ThreadIDProvider,
    ThreadManager,
    current_session,
    current_thread,
    thread_created,
    thread_destroyed,
)
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing.client import ThreadTestClient
from flask_agentuity.thread.state import ThreadState
from flask_agentuity.thread.thread import contents_of
from flask_agentuity.web.app_threads import threads_of

OWN_ID = "thrd_0123456789abcdef0123456789abcdef"


def make_app(manager: ThreadManager | None = None, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": "tested", "AGENTUITY_THREAD_STORE": "memory://", **config})
    app.test_client_class = ThreadTestClient
    (manager or ThreadManager()).init_app(app)

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/count")
    def count() -> dict[str, int]:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        return {"count": g.thread.state["count"]}

    @app.get("/id")
    def identify() -> str:
        return str(g.thread.id)

    return app


@pytest.fixture
def manager() -> ThreadManager:
    return ThreadManager()


@pytest.fixture
def app(manager: ThreadManager) -> Flask:
    return make_app(manager)


def marked(response: Any) -> set[str]:
    return {"Set-Cookie", "x-thread-id", "Vary", "Cache-Control"} & set(response.headers.keys())


def test_a_visitor_is_remembered(app: Flask) -> None:
    client = app.test_client()
    assert [client.get("/count").json for _ in range(3)] == [{"count": n} for n in (1, 2, 3)]
    assert app.test_client().get("/count").json == {"count": 1}


def test_only_the_responses_of_requests_that_touched_are_marked(app: Flask) -> None:
    client = app.test_client()
    assert marked(client.get("/plain")) == set()
    for marks in ({"Set-Cookie", "Vary", "Cache-Control"}, {"Vary", "Cache-Control"}):
        response = client.get("/count")
        assert marked(response) == marks
        assert response.headers["Vary"] == "Cookie, x-thread-id"
        assert response.headers["Cache-Control"] == "private"
    assert marked(client.get("/plain")) == set()


def test_what_the_app_says_of_caching_stays(app: Flask) -> None:
    @app.get("/cached")
    def cached() -> Response:
        response = Response(g.thread.id)
        response.headers["Cache-Control"] = "no-store"
        return response

    assert app.test_client().get("/cached").headers["Cache-Control"] == "no-store"


def test_secure_follows_the_scheme_that_a_trusted_proxy_tells(app: Flask) -> None:
    client = app.test_client(use_cookies=False)
    assert "Secure" not in client.get("/count").headers["Set-Cookie"]
    told = {"X-Forwarded-Proto": "https"}
    assert "Secure" not in client.get("/count", headers=told).headers["Set-Cookie"]
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    assert "Secure" in client.get("/count", headers=told).headers["Set-Cookie"]


def test_two_managers_or_two_calls_on_one_app_are_refused(app: Flask, manager: Any) -> None:
    for again in (manager, ThreadManager()):
        with pytest.raises(ConfigurationError, match=r"once for each app"):
            again.init_app(app)


def test_an_app_that_has_handled_a_request_is_refused(manager: ThreadManager) -> None:
    """Like Flask's own hooks: requests would be without threads until then."""
    app = Flask(__name__)
    app.config["AGENTUITY_THREAD_STORE"] = "memory://"
    app.get("/")(lambda: str(hasattr(g, "thread")))
    assert app.test_client().get("/").text == "False"
    with pytest.raises(ConfigurationError, match=r"before it handles its first request") as caught:
        manager.init_app(app)
    assert app.name in str(caught.value)
    assert app.extensions == {}
    assert app.test_client().get("/").text == "False"
    with pytest.raises(ConfigurationError, match=r"serves no app"):
        manager.list()


def test_a_wrong_setting_leaves_the_app_as_it_was() -> None:
    app = Flask(__name__)
    app.config["AGENTUITY_THREAD_TTL"] = -1
    with pytest.raises(ConfigurationError, match=r"AGENTUITY_THREAD_TTL=-1"):
        ThreadManager(app)
    assert not app.before_request_funcs
    assert "agentuity" not in app.extensions


def test_an_app_that_is_not_served_says_what_to_do(manager: ThreadManager) -> None:
    other = Flask("other")
    with other.test_request_context():
        with pytest.raises(ConfigurationError, match=r"init_app"):
            _ = current_thread.id
        with pytest.raises(ConfigurationError, match=r"init_app"):
            manager.new()
    with pytest.raises(ConfigurationError, match=r"init_app"), manager.open(OWN_ID):
        pass


def test_one_manager_serves_many_apps_apart(manager: ThreadManager) -> None:
    apps = [make_app(manager, AGENTUITY_THREAD_COOKIE_NAME=name) for name in ("one", "two")]
    for app, name in zip(apps, ("one", "two"), strict=True):
        response = app.test_client().get("/count")
        assert response.json == {"count": 1}
        assert response.headers["Set-Cookie"].startswith(f"{name}=")
    with pytest.raises(ConfigurationError, match=r"2 apps"), manager.open(OWN_ID):
        pass
    with apps[0].app_context():
        assert len(manager.list().threads) == 1


def test_an_app_that_is_gone_is_not_kept(manager: ThreadManager) -> None:
    make_app(manager)
    gc.collect()
    with pytest.raises(ConfigurationError, match=r"no app"):
        manager.list()


def test_what_a_request_has_read_is_freed_with_it(app: Flask) -> None:
    read: list[weakref.ref[ThreadState]] = []

    @app.get("/read")
    def view() -> dict[str, Any]:
        read.append(weakref.ref(g.thread.state))
        return dict(g.thread.state)

    client = app.test_client(state={"messages": ["a", "b"]})
    gc.disable()
    try:
        for _ in range(3):
            client.get("/read").close()
        # The last one may be in the hands of the client, or of an old Flask's proxies.
        assert [reference() for reference in read[:-1]] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("above", [True, False])
def test_an_exempt_view_has_no_thread(app: Flask, manager: ThreadManager, above: bool) -> None:
    def view() -> str:
        assert not hasattr(g, "thread")
        with pytest.raises(RuntimeError, match=r"exempt"):
            _ = current_thread.id
        return "exempt"

    if above:
        manager.exempt(app.get("/exempt")(view))
    else:
        app.get("/exempt")(manager.exempt(view))
    client = app.test_client(state={"count": 1})
    assert marked(client.get("/exempt")) == set()


def test_g_agrees_with_itself(app: Flask) -> None:
    absent = object()

    @app.get("/look")
    def look() -> str:
        for name in ("thread", "session"):
            assert hasattr(g, name)
            assert name in g
            assert g.get(name) is getattr(g, name)
            assert g.get(name, absent) is getattr(g, name)
            assert g.setdefault(name, absent) is getattr(g, name)
            assert g.pop(name, absent) is absent
            assert name not in list(g)
        assert contents_of(g.thread).source.known_id is None
        return "looked"

    @app.get("/assigned")
    def assigned() -> str:
        g.thread = "assigned"
        assert g.thread == g.get("thread") == g.setdefault("thread", absent) == "assigned"
        assert list(g) == ["thread"]
        assert g.pop("thread") == "assigned"
        return str(g.thread.id)

    client = visitor(app)
    app.testing = True
    assert marked(client.get("/look")) == set()
    assert client.get("/assigned").text == client.thread_id
    with app.app_context():
        for name in ("thread", "session"):
            assert not hasattr(g, name)
            assert name not in g
            assert g.get(name) is None
            assert g.get(name, absent) is absent
        g.other = 1
        assert g.other == g.get("other") == 1
        assert "other" in g
        assert g.setdefault("another", 2) == g.another == 2
        assert g.setdefault("thread", absent) is g.thread is absent


def test_g_says_why_it_has_no_thread(app: Flask, manager: ThreadManager) -> None:
    @app.get("/exempt")
    @manager.exempt
    def view() -> str:
        assert "thread" not in g
        assert g.get("thread") is None
        with pytest.raises(AttributeError, match="exempt"):
            _ = g.thread
        with pytest.raises(AttributeError, match="unknown"):
            _ = g.unknown
        return "exempt"

    app.testing = True
    assert app.test_client().get("/exempt").text == "exempt"
    with app.app_context(), pytest.raises(AttributeError, match="request"):
        _ = g.thread


def test_an_exempt_view_behind_a_decorator(app: Flask, manager: ThreadManager) -> None:
    from functools import wraps

    @manager.exempt
    def view() -> str:
        return str(hasattr(g, "thread"))

    @wraps(view)
    def wrapped() -> str:
        return view()

    app.get("/exempt")(wrapped)
    assert app.test_client().get("/exempt").text == "False"


def test_a_view_may_be_exempted_late(app: Flask, manager: ThreadManager) -> None:
    client = app.test_client()
    client.get("/count")
    manager.exempt(app.view_functions["count"])
    assert client.get("/count").status_code == 500


def test_an_exempt_blueprint_takes_its_children_along(app: Flask, manager: ThreadManager) -> None:
    parent, child, other = (Blueprint(name, __name__) for name in ("parent", "child", "other"))
    for blueprint in (parent, child, other):
        blueprint.add_url_rule(f"/{blueprint.name}", "look", lambda: str(hasattr(g, "thread")))
    parent.register_blueprint(child)
    manager.exempt(parent)
    app.register_blueprint(parent)
    app.register_blueprint(other)
    client = app.test_client()
    assert client.get("/parent").text == "False"
    assert client.get("/child").text == "False"
    assert client.get("/other").text == "True"


def test_static_files_are_exempt(manager: ThreadManager, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("a file")
    folder: dict[str, Any] = {"static_folder": str(tmp_path), "static_url_path": "/static"}
    app = Flask(__name__, **folder)
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    blueprint = Blueprint("pages", __name__, url_prefix="/pages", **folder)
    app.register_blueprint(blueprint)
    manager.init_app(app)
    found: list[bool] = []

    @app.before_request
    def look() -> None:
        found.append(hasattr(g, "thread"))

    client = app.test_client()
    for path in ("/static/file.txt", "/pages/static/file.txt"):
        with client.get(path) as response:
            assert response.get_data(as_text=True) == "a file"
            assert marked(response) == {"Cache-Control"}  # Flask's own
            assert response.headers["Cache-Control"] == "no-cache"
    assert found == [False, False]


class Given(ThreadIDProvider):
    """Takes the id from a header, and does not tell the client."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get_thread_id(self, app: Flask, request: Request) -> str:
        return request.headers.get("X-Given", OWN_ID)

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append(thread_id)


def test_a_provider_of_ones_own(app: Flask, manager: ThreadManager) -> None:
    provider = Given()
    manager.set_thread_id_provider(provider)
    created: list[str] = []

    def note(sender: Flask, thread: Thread, **extra: Any) -> None:
        created.append(thread.id)

    with thread_created.connected_to(note, app):
        responses = [app.test_client().get("/count") for _ in range(2)]
    assert [response.json for response in responses] == [{"count": 1}, {"count": 2}]
    assert "Set-Cookie" not in responses[0].headers
    assert responses[0].headers["Vary"] == "Cookie"
    assert provider.told == [OWN_ID, OWN_ID]
    assert created == [OWN_ID]
    manager.set_thread_id_provider(None)
    assert app.test_client().get("/id").text != OWN_ID


@pytest.mark.parametrize("wrong", ["thrd_short", "x" * 300, "thrd_" + "ä" * 32])
def test_a_wrong_id_of_a_provider_is_an_error(
    app: Flask, manager: ThreadManager, wrong: str
) -> None:
    class Wrong(Given):
        def get_thread_id(self, app: Flask, request: Request) -> str:
            return wrong

    manager.set_thread_id_provider(Wrong())
    app.testing = True
    with pytest.raises(InvalidThreadId) as caught:
        app.test_client().get("/id")
    assert wrong[:90] in str(caught.value)
    assert "32 to 64 characters" in str(caught.value)


def test_new_starts_another_conversation_and_keeps_the_old_one(
    app: Flask, manager: ThreadManager
) -> None:
    @app.post("/new")
    def new() -> dict[str, Any]:
        g.thread.state["left"] = True
        another = manager.new()
        assert another is g.thread is g.session.thread
        assert another.is_new
        another.state["begun"] = True
        return {"state": dict(another.state)}

    client = visitor(app, state={"count": 7})
    earlier = client.thread_id
    assert client.post("/new").json == {"state": {"begun": True}}
    assert client.thread_id != earlier
    with client.thread() as thread:
        assert dict(thread.state) == {"begun": True}
    assert earlier is not None
    with manager.open(earlier) as thread:
        assert dict(thread.state) == {"count": 7, "left": True}


def test_destroy_is_for_good(app: Flask, manager: ThreadManager) -> None:
    destroyed: list[Any] = []

    @app.post("/destroy")
    def destroy() -> str:
        g.thread.state["changed"] = 1
        g.thread.add_event_listener("destroyed", lambda event, thread: destroyed.append(event))
        g.thread.destroy()
        g.thread.state["again"] = 1
        g.thread.metadata["again"] = 1
        g.thread.save()
        return str(len(g.thread.state))

    def note(sender: Flask, **extra: Any) -> None:
        destroyed.append(sender)

    client = visitor(app, state={"count": 7})
    thread_id = client.thread_id
    with thread_destroyed.connected_to(note, app):
        response = client.post("/destroy")
    assert destroyed == ["destroyed", app]
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert "x-thread-id" not in response.headers
    assert client.thread_id is None
    assert threads_of(app).store.restore(str(thread_id)) is None


def test_new_after_destroy(app: Flask, manager: ThreadManager) -> None:
    @app.post("/again")
    def again() -> str:
        g.thread.destroy()
        return manager.new().id

    client = visitor(app, state={"count": 7})
    assert client.post("/again").text == client.thread_id


def test_the_proxies_point_to_the_request(app: Flask) -> None:
    @app.get("/proxies")
    def proxies() -> str:
        assert current_thread.id == g.thread.id
        assert current_session.id == g.session.id
        assert current_session.thread is g.thread
        return "same"

    assert app.test_client().get("/proxies").text == "same"
    with pytest.raises(RuntimeError, match=r"context"):
        _ = current_thread.id


@pytest.mark.parametrize("store", [object(), 7, MemoryStore, b"memory://"])
def test_what_is_no_store_is_refused(store: Any) -> None:
    """A client of redis-py above all: the default address might be another Redis."""
    with pytest.raises(ConfigurationError, match=r"RedisStore\(client\)"):
        make_app(ThreadManager(store=store))


def test_a_store_given_to_the_manager() -> None:
    store = MemoryStore()
    app = make_app(ThreadManager(store=store), AGENTUITY_THREAD_STORE="sqlite:///never.db")
    client = visitor(app)
    client.get("/count")
    assert store.restore(str(client.thread_id)) == b'{"state":{"count":1}}'


def test_a_shared_store_needs_a_secret() -> None:
    pytest.importorskip("redis")
    app = Flask(__name__)
    app.config["AGENTUITY_THREAD_STORE"] = "redis://127.0.0.1:1"
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY or AGENTUITY_THREAD_SECRET"):
        ThreadManager(app)
