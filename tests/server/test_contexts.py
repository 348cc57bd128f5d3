"""Which thread is found where: contexts within contexts, copied, kept and nested."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import (
    Flask,
    Response,
    copy_current_request_context,
    g,
    jsonify,
    request,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from support.servers import PATIENCE
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_agentuity import ThreadManager, current_session, current_thread

from .app import create_app
from .test_session_completed import recorded


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(str(tmp_path))


def run_in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_outer_app_context_keeps_nothing_of_a_request(app: Flask) -> None:
    first, second = app.test_client(), app.test_client()
    with app.app_context():
        first.post("/state", json={"who": "first"})
        assert not hasattr(g, "thread")
        assert g.get("thread") is None
        second.post("/state", json={"who": "second"})
        assert first.get("/state").json == {"who": "first"}
        assert second.get("/state").json == {"who": "second"}
        with pytest.raises(RuntimeError):
            current_thread.id  # noqa: B018


def test_a_client_block_keeps_the_last_request(app: Flask) -> None:
    with app.test_client() as client:
        client.post("/state", json={"turn": 1})
        thread_id, session_id = g.thread.id, g.session.id
        assert g.thread.state["turn"] == 1
        client.post("/state", json={"turn": 2})
        assert g.thread.id == thread_id
        assert g.session.id != session_id
        assert current_thread.state["turn"] == 2
        assert current_session.thread.id == thread_id


@pytest.mark.parametrize("path", ["/stream?mark=1", "/stream?mark=1&context"])
def test_a_client_block_keeps_the_request_of_a_stream(app: Flask, path: str) -> None:
    with app.test_client() as client:
        with client.get(path) as response:
            assert response.data
        assert g.thread.state["after"] == "1"


def test_a_request_context_of_ones_own(app: Flask) -> None:
    client = app.test_client()
    client.post("/state", json={"a": 1})
    cookie = client.get_cookie("atid")
    assert cookie is not None
    headers = {"Cookie": f"atid={cookie.value}"}
    with recorded(app) as completed:
        with app.test_request_context("/plain", headers=headers):
            assert g.thread.state["a"] == 1
            g.thread.state["b"] = 2
            g.thread.save()
            # Nothing answers here. The end of the context saves.
            g.thread.state["c"] = 3
        assert completed == []
        with app.test_request_context("/plain", headers=headers):
            assert dict(g.thread.state) == {"a": 1, "b": 2, "c": 3}
            g.thread.state["d"] = 4
            response = app.process_response(Response())
            assert "atid" in response.headers["Set-Cookie"]
        assert completed == [None]
    assert client.get("/state").json == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_a_copied_context_finds_the_thread_and_ends_nothing(app: Flask) -> None:
    seen: list[Any] = []

    @app.get("/copied")
    def copied() -> Response:
        @copy_current_request_context
        def work() -> None:
            seen.extend([g.thread, current_thread.id, g.session, current_session.id])
            g.thread.state.push("messages", "of the copy")

        if "touch" in request.args:
            g.thread.state["before"] = True
        run_in_thread(work)
        assert seen == [g.thread, g.thread.id, g.session, g.session.id]
        # The copy has ended, and nothing is saved or over.
        assert completed == []
        assert "messages" not in (
            app.test_client().get("/state", headers={"Cookie": cookie_of(response)}).json or {}
        )
        g.thread.state["after"] = True
        return jsonify("copied")

    def cookie_of(response: Any) -> str:
        return str(response.headers["Set-Cookie"]).partition(";")[0]

    for touch in ("", "?touch"):
        seen.clear()
        client = app.test_client()
        response = client.get("/state")
        with recorded(app) as completed:
            assert client.get(f"/copied{touch}").status_code == 200
            # The inner client's request has been completed, too.
            assert completed == [None, None]
        expected = {"messages": ["of the copy"], "after": True}
        assert client.get("/state").json == expected | ({"before": True} if touch else {})


@pytest.mark.parametrize(
    ("error", "touch"), [(RuntimeError, False), (RuntimeError, True), (SystemExit, True)]
)
def test_a_copied_context_that_ends_with_an_exception(
    app: Flask, error: type[BaseException], touch: bool
) -> None:
    @app.get("/copied")
    def copied() -> str:
        @copy_current_request_context
        def work() -> None:
            g.thread.state["of_the_copy"] = True
            raise error("in the copy")

        def attempt() -> None:
            with pytest.raises(error):
                work()

        if touch:
            g.thread.state["before"] = True
        run_in_thread(attempt)
        assert completed == []
        g.thread.state["after"] = True
        return "copied"

    client = app.test_client()
    with recorded(app) as completed:
        assert client.get("/copied").status_code == 200
        assert completed == [None]
    expected = {"of_the_copy": True, "after": True}
    assert client.get("/state").json == expected | ({"before": True} if touch else {})


def test_a_copied_context_while_the_response_streams(app: Flask) -> None:
    @app.get("/copied")
    def copied() -> Response:
        @copy_current_request_context
        def work() -> None:
            g.thread.state.push("messages", "of the copy")

        def generate() -> Iterator[str]:
            yield "a"
            run_in_thread(work)
            assert completed == []
            yield "b"
            thread.state["after"] = True

        thread = g.thread
        thread.id  # noqa: B018
        return Response(generate())

    client = app.test_client()
    with recorded(app) as completed:
        assert client.get("/copied").text == "ab"
        assert completed == [None]
    assert client.get("/state").json == {"messages": ["of the copy"], "after": True}


@pytest.mark.parametrize("saves", [False, True])
def test_a_copied_context_that_outlives_the_request(
    app: Flask, caplog: pytest.LogCaptureFixture, saves: bool
) -> None:
    answered = threading.Event()
    threads: list[threading.Thread] = []

    @app.get("/copied")
    def copied() -> str:
        @copy_current_request_context
        def work() -> None:
            answered.wait(PATIENCE)
            g.thread.state.push("messages", "late")
            if saves:
                g.thread.save()

        g.thread.state["before"] = True
        threads.append(threading.Thread(target=work))
        threads[0].start()
        return "copied"

    client = app.test_client()
    with recorded(app) as completed:
        client.get("/copied")
        answered.set()
        threads[0].join(PATIENCE)
        assert completed == [None]
    assert not caplog.records
    assert client.get("/state").json == {"before": True, "messages": ["late"]}


@pytest.mark.parametrize("touch", [False, True])
def test_a_change_in_a_teardown_function_is_saved_if_the_client_knows_the_thread(
    app: Flask, caplog: pytest.LogCaptureFixture, touch: bool
) -> None:
    @app.teardown_request
    def change(error: BaseException | None) -> None:
        g.thread.state["too_late"] = True

    client = app.test_client()
    client.get("/state" if touch else "/plain")
    assert ("the change is lost" in caplog.text) is not touch
    assert (client.get("/state").json == {"too_late": True}) is touch


def make_app(tmp_path: Path, name: str) -> Flask:
    app = Flask(name, instance_path=str(tmp_path / name))
    app.secret_key = "one secret for both"
    ThreadManager(app)

    @app.route("/", methods=["GET", "POST"])
    def index() -> Response:
        if request.method == "POST":
            g.thread.state.push("messages", f"{name}: {request.get_data(as_text=True)}")
        return jsonify(g.thread.state.get("messages"))

    return app


def test_an_app_mounted_beside_another(tmp_path: Path) -> None:
    outer, inner = make_app(tmp_path, "outer"), make_app(tmp_path, "inner")
    client = Client(DispatcherMiddleware(outer, {"/inner": inner}))
    with recorded(outer) as outer_completed, recorded(inner) as inner_completed:
        client.post("/", data="1")
        client.post("/inner/", data="2")
        assert client.get("/").json == ["outer: 1"]
        assert client.get("/inner/").json == ["inner: 2"]
        assert outer_completed == inner_completed == [None, None]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_an_app_that_calls_another_with_the_same_environ(
    tmp_path: Path, before: bool, after: bool
) -> None:
    outer, inner = make_app(tmp_path, "outer"), make_app(tmp_path, "inner")

    @outer.get("/nested")
    def nested() -> ResponseReturnValue:
        if before:
            g.thread.state["before"] = True
        environ = request.environ | {"PATH_INFO": "/", "REQUEST_METHOD": "POST"}
        request.environ.update(environ)
        response = Response.from_app(inner, request.environ)
        if after:
            g.thread.state["after"] = True
        return response

    @outer.get("/all")
    def everything() -> Response:
        return jsonify(dict(g.thread.state))

    client = outer.test_client()
    client.get("/")
    with recorded(outer) as outer_completed, recorded(inner) as inner_completed:
        assert client.get("/nested").json == ["inner: "]
        assert outer_completed == inner_completed == [None]
    expected = {"before": before, "after": after}
    assert client.get("/all").json == {key: True for key, value in expected.items() if value}


def test_an_app_that_calls_itself_with_the_same_environ(app: Flask) -> None:
    """A request within a request is separate: both are saved, in the order of their ends."""

    @app.get("/again")
    def again() -> ResponseReturnValue:
        g.thread.state["before"] = True
        request.environ["PATH_INFO"] = "/stream"
        response = Response.from_app(app, request.environ)
        g.thread.state["after_it"] = True
        return response

    client = app.test_client()
    with recorded(app) as completed:
        with client.get("/again?mark=1") as response:
            assert response.data
        assert completed == [None, None]
    assert client.get("/state").json == {
        "before": True,
        "after_it": True,
        "during": "1 2",
        "after": "1",
    }


def test_a_middleware_that_tries_a_request_again(app: Flask) -> None:
    """The second attempt has the environ of the first, and nothing of its thread."""
    attempts: list[int] = []

    @app.get("/shaky")
    def shaky() -> str:
        attempts.append(1)
        g.thread.state.push("attempts", len(attempts))
        if len(attempts) == 1:
            raise RuntimeError("only this time")
        return "at last"

    client = app.test_client()
    client.get("/state")
    inner = app.wsgi_app

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        for _ in range(2):
            started: list[Any] = []
            body: Any = inner(
                environ, lambda *arguments, started=started: started.append(arguments)
            )
            with closing(body):
                chunks = list(body)
            if not started[0][0].startswith("500"):
                break
        start_response(*started[0])
        return chunks

    app.wsgi_app = call  # type: ignore[method-assign]
    with recorded(app) as completed:
        assert client.get("/shaky").text == "at last"
        assert completed == ["RuntimeError", None]
    assert client.get("/state").json == {"attempts": [2]}


def test_a_stream_in_an_async_view(app: Flask) -> None:
    pytest.importorskip("asgiref")

    @app.get("/async")
    async def async_view() -> Response:
        g.thread.state["view"] = True

        def generate() -> Iterator[str]:
            yield "a"
            thread.state["generator"] = True

        thread = g.thread
        return Response(generate())

    client = app.test_client()
    with recorded(app) as completed:
        assert client.get("/async").text == "a"
        assert completed == [None]
    assert client.get("/state").json == {"view": True, "generator": True}


def test_a_stream_with_context_that_is_never_read(app: Flask) -> None:
    """Its generator holds the request's context until it is closed."""

    @app.get("/held")
    def held() -> Response:
        g.thread.state["view"] = True
        return Response(stream_with_context(iter(["a", "b"])))

    client = app.test_client()
    with recorded(app) as completed:
        client.get("/held").close()
        assert completed == [None]
    assert client.get("/state").json == {"view": True}
