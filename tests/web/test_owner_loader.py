"""The function that names the current person, and the URLs that need it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from flask import Flask, Request, Response, abort, g, request, url_for
from support.visitor import visitor

from flask_agentuity import (
    ConfigurationError,
    ServiceUnavailable,
    Thread,
    ThreadIDProvider,
    ThreadManager,
    ThreadStore,
)
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.thread_ids import make_thread_id


class Served:
    def __init__(
        self, loader: Callable[[], Any] | None, store: ThreadStore | None = None, **config: Any
    ) -> None:
        self.app = app = Flask("tested")
        app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://", TESTING=True)
        app.config.update(config)
        app.test_client_class = ThreadTestClient
        self.threads = ThreadManager(app, store=store)
        if loader is not None:
            assert self.threads.owner_loader(loader) is loader

        @app.get("/")
        def show() -> dict[str, Any]:
            return {"id": g.thread.id, "owner": g.thread.owner, "state": dict(g.thread.state)}

        @app.get("/push")
        def push() -> str:
            g.thread.state.push("messages", "pushed")
            return ""

        @app.get("/c/<thread:conversation>")
        def at_url(conversation: str) -> dict[str, Any]:
            assert type(g.thread.id) is str
            assert conversation == g.thread.id
            return show()


# What the function may do


@pytest.mark.parametrize(("returned", "owner"), [("ada", "ada"), (5, "5"), (0, "0"), (None, None)])
def test_the_owner_is_what_it_returns(returned: Any, owner: str | None) -> None:
    tested = Served(lambda: returned)
    client = visitor(tested.app)
    client.get("/push")
    assert client.get("/").json["owner"] == owner  # type: ignore[index]
    with client.thread() as thread:
        assert thread.owner == owner


def test_it_may_be_async() -> None:
    async def load() -> str:
        return "ada"

    tested = Served(load)
    assert tested.app.test_client().get("/").json["owner"] == "ada"  # type: ignore[index]


@pytest.mark.parametrize("wrong", [True, 1.5, b"ada", ["ada"], {}, object()])
def test_another_type_is_a_clear_error(wrong: Any) -> None:
    def load_person() -> Any:
        return wrong

    tested = Served(load_person)
    with pytest.raises(ConfigurationError) as caught:
        tested.app.test_client().get("/")
    message = str(caught.value)
    assert f"load_person returned a {type(wrong).__name__}" in message
    assert "the id of the current user, a string or an integer, or None" in message


@pytest.mark.parametrize("wrong", ["", "half an \ud83d"])
def test_a_string_that_cannot_be_stored_is_a_clear_error(wrong: str) -> None:
    tested = Served(lambda: wrong)
    with pytest.raises(ConfigurationError, match=r"owner loader .* returned"):
        tested.app.test_client().get("/")


@pytest.mark.parametrize("path", ["/", "/push"])
def test_what_it_raises_is_a_clear_error(path: str) -> None:
    def load_person() -> str:
        raise AttributeError("no user here")

    tested = Served(load_person)
    with pytest.raises(ConfigurationError) as caught:
        tested.app.test_client().get(path)
    assert str(caught.value).endswith("load_person raised AttributeError: no user here")
    assert isinstance(caught.value.__cause__, AttributeError)
    tested.app.testing = False
    response = tested.app.test_client().get(path)
    assert response.status_code == 500
    assert "Set-Cookie" not in response.headers


def test_it_may_abort() -> None:
    tested = Served(lambda: abort(401))
    assert tested.app.test_client().get("/").status_code == 401


def test_it_cannot_use_the_thread() -> None:
    tested = Served(lambda: g.thread.metadata.get("user"))
    with pytest.raises(ConfigurationError, match="uses the thread"):
        tested.app.test_client().get("/")


# When it is called


def test_it_is_called_once_in_a_request_that_uses_its_thread() -> None:
    calls: list[str] = []

    def load() -> str:
        calls.append(request.path)
        return "ada"

    tested = Served(load)

    @tested.app.get("/stream")
    def stream() -> Response:
        thread = g.thread

        def answer() -> Iterator[str]:
            # Without a context: the loader has been called before.
            thread.state.push("messages", "answered")
            yield str(thread.owner)

        return Response(answer())

    client = visitor(tested.app)
    with client.get("/stream") as response:
        assert response.get_data(as_text=True) == "ada"
    assert calls == ["/stream"]


def test_a_late_loader_serves_all_apps() -> None:
    threads = ThreadManager()
    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
        app.get("/")(lambda: str(g.thread.owner))
        threads.init_app(app)
        apps.append(app)
    threads.owner_loader(lambda: "ada")
    assert [app.test_client().get("/").text for app in apps] == ["ada", "ada"]


# While the store cannot be read


class Flaky(MemoryStore):
    """Cannot be read for a number of times. Stands for a store whose server is away."""

    failures = 0

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        if self.failures > 0:
            self.failures -= 1
            raise ServiceUnavailable("away")
        return super().read(thread_id, keys)

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        self.read(thread_id, keys)
        return super().read_for(person, thread_id, keys)


@pytest.mark.parametrize("recovers", [True, False])
def test_nothing_is_written_to_a_thread_whose_owner_is_not_known(
    recovers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = Flaky()
    served = Served(lambda: "bob", store=store)

    @served.app.get("/read_and_push")
    def read_and_push() -> dict[str, Any]:
        found = dict(g.thread.state)
        g.thread.state.push("messages", "pushed")
        return found

    with served.threads.open(create=True, owner="ada") as thread:
        thread.state["messages"] = ["a secret"]
    client = visitor(served.app, thread_id=thread.id)
    store.failures = 1 if recovers else 100
    response = client.get("/read_and_push")
    # The app goes on as if the thread were empty.
    assert (response.status_code, response.get_json()) == (200, {})
    store.failures = 0
    assert store.restore(thread.id) == b'{"state":{"messages":["a secret"]}}'
    mine = [store.restore(each.id) for each in served.threads.list(owner="bob").threads]
    assert mine == ([b'{"state":{"messages":["pushed"]}}'] if recovers else [])
    assert "could not be read" in caplog.text


def test_an_id_is_not_handed_out_while_the_owner_is_not_known() -> None:
    store = Flaky()
    served = Served(lambda: "bob", store=store)
    served.app.testing = False
    with served.threads.open(create=True, owner="ada") as thread:
        thread.state["messages"] = ["a secret"]
    client = visitor(served.app, thread_id=thread.id)
    store.failures = 100
    for path in ("/", f"/c/{thread.id}"):
        response = client.get(path)
        assert response.status_code == 503
        assert thread.id not in response.text


# URLs


@pytest.mark.parametrize("public", [False, True])
def test_urls_need_an_owner_loader_or_to_be_public(public: bool) -> None:
    tested = Served(None, AGENTUITY_THREAD_PUBLIC_URLS=public)
    thread_id = make_thread_id()
    client = tested.app.test_client()
    if not public:
        with pytest.raises(ConfigurationError) as caught:
            client.get(f"/c/{thread_id}")
        assert "owner_loader" in str(caught.value)
        assert "AGENTUITY_THREAD_PUBLIC_URLS" in str(caught.value)
        tested.app.testing = False
        assert client.get(f"/c/{thread_id}").status_code == 500
        # Other URLs, and URLs that are no ids, work.
        assert client.get("/").status_code == 200
        assert client.get("/c/x").status_code == 404
        return
    with tested.threads.open(thread_id) as thread:
        thread.state["a"] = 1
    for each in (client, tested.app.test_client()):
        response = each.get(f"/c/{thread_id}")
        assert response.get_json() == {"id": thread_id, "owner": None, "state": {"a": 1}}
        assert "Set-Cookie" not in response.headers


def test_a_url_is_made_of_a_thread_a_listed_one_or_an_id() -> None:
    tested = Served(lambda: "ada")

    @tested.app.get("/url")
    def url() -> list[str]:
        thread: Thread = g.thread
        thread.metadata["title"] = "Holidays"
        thread.save()
        (listed,) = tested.threads.mine().threads
        return [url_for("at_url", conversation=each) for each in (thread, thread.id, listed)]

    first, second, third = tested.app.test_client().get("/url").get_json()
    assert first == second == third
    assert first.startswith("/c/thrd_")


def test_the_url_leaves_the_cookie_alone() -> None:
    tested = Served(lambda: "ada")
    client = visitor(tested.app)
    client.get("/push")
    cookie = client.thread_id
    with tested.threads.open(create=True, owner="ada") as thread:
        thread.state["a"] = 1
    response = client.get(f"/c/{thread.id}")
    assert response.get_json() == {"id": thread.id, "owner": "ada", "state": {"a": 1}}
    assert "Set-Cookie" not in response.headers
    assert "Cookie" in response.headers["Vary"]
    assert client.thread_id == cookie


@pytest.mark.parametrize("person", ["ada", None])
def test_a_redirect_to_a_new_conversation_finds_it(person: str | None) -> None:
    tested = Served(lambda: person)

    @tested.app.get("/new")
    def new() -> Response:
        from flask import redirect

        response = redirect(url_for("at_url", conversation=tested.threads.new()))
        assert isinstance(response, Response)
        return response

    client = visitor(tested.app)
    shown = client.get("/new", follow_redirects=True)
    assert shown.get_json() == {"id": client.thread_id, "owner": person, "state": {}}
    # It is not listed before something is said in it.
    assert tested.threads.list().threads == []
    client.get("/push")
    assert [each.owner for each in tested.threads.list().threads] == [person]


# Providers


def test_a_provider_that_disagrees_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Fixed(ThreadIDProvider):
        def get_thread_id(self, app: Flask, request: Request) -> str:
            return thread_id

        def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
            pass

    tested = Served(lambda: "bob")
    with tested.threads.open(create=True, owner="ada") as thread:
        thread.state["a"] = 1
    thread_id = thread.id
    tested.threads.set_thread_id_provider(Fixed())
    assert tested.app.test_client().get("/").get_json()["state"] == {}
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "provider" in record.getMessage()
    assert thread_id not in record.getMessage()


# Outside requests


def test_open_is_trusted_and_says_for_whom_a_thread_is_new() -> None:
    tested = Served(lambda: "bob")
    with tested.threads.open(create=True, owner=5) as thread:
        thread.state["a"] = 1
        assert thread.owner == "5"
    with tested.threads.open(thread.id) as again:
        assert (again.owner, again.state["a"]) == ("5", 1)
    assert [each.owner for each in tested.threads.list(owner=5).threads] == ["5"]
    assert threads_of(tested.app).store.restore(thread.id)
