"""session_completed comes exactly once, whatever the response is; on every Flask from 3.0 on."""

from __future__ import annotations

import gc
import http.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g
from flask.sessions import SecureCookieSessionInterface
from support.servers import Visitor, running
from support.waiting import eventually

from flask_agentuity.web import events as signals

from .app import create_app
from .conftest import COMMANDS


@dataclass(frozen=True)
class Case:
    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    error: str | None = None


CASES = {
    "plain": Case("/plain"),
    "options": Case("/plain", "OPTIONS"),
    "read": Case("/state"),
    "written": Case("/push", "POST"),
    "redirect": Case("/redirect", "POST"),
    "streamed": Case("/stream?mark=1"),
    "streamed with context": Case("/stream?mark=1&context"),
    "streamed with length": Case("/stream?mark=1&length"),
    "streamed directly": Case("/stream?mark=1&direct"),
    "touched in the stream": Case("/late?mark=1"),
    "failed": Case("/fail?mark=1", error="RuntimeError"),
    "failed in the stream": Case("/stream?mark=1&fails_at=1", error="RuntimeError"),
    "failed in the stream with context": Case(
        "/stream?mark=1&fails_at=1&context", error="RuntimeError"
    ),
    "failed at the stream's beginning": Case("/stream?mark=1&fails_at=0", error="RuntimeError"),
    "failed after the view": Case("/plain?after_request", error="RuntimeError"),
    "failed after a stream": Case("/stream?mark=1&after_request", error="RuntimeError"),
    "aborted with 404": Case("/abort/404?mark=1"),
    "aborted with 500": Case("/abort/500?mark=1"),
    "handled": Case("/handled?mark=1"),
    "returned 500": Case("/status/500?mark=1"),
    "streamed 500": Case("/stream?mark=1&status=500"),
    "answered early": Case("/plain?early=1"),
    "file": Case("/file"),
    "file and thread": Case("/file?mark=1"),
    "range of a file": Case("/file?mark=1", headers={"Range": "bytes=0-9"}),
    "HEAD": Case("/plain", "HEAD"),
    "HEAD of a stream": Case("/stream?mark=1", "HEAD"),
    "HEAD of a stream with context": Case("/stream?mark=1&context", "HEAD"),
    "HEAD of a file": Case("/file?mark=1", "HEAD"),
    "204": Case("/empty?mark=1"),
    "204 with a stream": Case("/stream?mark=1&status=204"),
    "204 with a stream with context": Case("/stream?mark=1&status=204&context"),
    "304": Case("/not-modified?mark=1", headers={"If-None-Match": '"same"'}),
    "no such view": Case("/nothing"),
    "no such method": Case("/plain", "DELETE"),
}


@contextmanager
def recorded(app: Flask) -> Iterator[list[str | None]]:
    """Give the list of what ended the app's sessions: each error's name, or None."""
    completed: list[str | None] = []

    def record(sender: Flask, error: BaseException | None, **extra: Any) -> None:
        completed.append(type(error).__name__ if error else None)

    with signals.session_completed.connected_to(record, app):
        yield completed


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(str(tmp_path))


@pytest.mark.parametrize("way", ["read", "unread", "buffered", "in a block", "left"])
@pytest.mark.parametrize("name", CASES)
def test_with_the_test_client(app: Flask, name: str, way: str) -> None:
    case = CASES[name]
    client = app.test_client()
    with recorded(app) as completed:
        with suppress(RuntimeError):
            response = client.open(
                case.path, method=case.method, headers=case.headers, buffered=way == "buffered"
            )
            if way == "read":
                response.get_data()
            elif way == "in a block":
                with response:
                    response.get_data()
            elif way == "left":
                next(iter(response.response), None)
            response.close()
        if case.error and "stream" in name and way in ("unread", "left"):
            # The client has gone before the error.
            assert completed in ([None], [case.error])
        else:
            assert completed == [case.error]


@pytest.mark.parametrize("name", CASES)
def test_inside_a_client_block(app: Flask, name: str) -> None:
    case = CASES[name]
    with recorded(app) as completed:
        with app.test_client() as client, suppress(RuntimeError):
            response = client.open(case.path, method=case.method, headers=case.headers)
            response.get_data()
            response.close()
        assert completed == [case.error]


@pytest.mark.parametrize("name", ["failed", "failed after the view", "failed after a stream"])
def test_when_the_exception_goes_on_to_the_test(app: Flask, name: str) -> None:
    app.testing = True
    with recorded(app) as completed:
        with pytest.raises(RuntimeError):
            app.test_client().get(CASES[name].path)
        assert completed == ["RuntimeError"]


def test_no_session_for_static_files(app: Flask) -> None:
    with recorded(app) as completed:
        app.test_client().get("/static/app.py").close()
        app.test_client().get("/static/nothing").close()
    assert completed == []


@pytest.mark.parametrize("streamed", [False, True])
def test_when_something_after_it_fails(app: Flask, streamed: bool) -> None:
    """The Flask session is saved last of all, when the response is wrapped already."""

    class Broken(SecureCookieSessionInterface):
        def save_session(self, *args: Any) -> None:
            raise RuntimeError("the Flask session cannot be saved")

    app.secret_key = "secret"
    app.session_interface = Broken()
    if not streamed:
        # Flask's own page is streamed, too.
        app.register_error_handler(500, lambda error: ("an error", 500))
    for path in ("/plain", "/stream?mark=1", "/stream?mark=1&context"):
        with recorded(app) as completed:
            with app.test_client().get(path) as response:
                assert response.status_code == 500
            assert completed == ["RuntimeError"], path
        # The stream that was replaced is not closed. Up to Flask 3.1.1 its generator, freed
        # in the middle of a later request, takes that request's context away.
        gc.collect()


def test_what_ends_the_worker(app: Flask) -> None:
    @app.get("/exit")
    def leave() -> str:
        g.thread.state["a"] = 1
        raise SystemExit

    with recorded(app) as completed:
        with pytest.raises(SystemExit):
            app.test_client().get("/exit")
        assert completed == ["SystemExit"]


def test_listeners_of_one_session(app: Flask) -> None:
    told: list[str] = []

    @app.get("/listen")
    def listen() -> Response:
        g.session.add_event_listener("completed", lambda event, session: told.append(event))
        return Response(iter(["a", "b"]))

    with app.test_client().get("/listen") as response:
        assert not told
        assert response.get_data(as_text=True) == "ab"
    assert told == ["completed"]


@pytest.mark.parametrize("kind", COMMANDS)
def test_over_a_server(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, COMMANDS[kind]) as server:
        for name, case in CASES.items():
            with suppress(http.client.HTTPException):
                Visitor(server).ask(case.method, case.path, None, {**case.headers, "X-Name": name})
        leavers = ["left a stream", "left a stream with context"]
        Visitor(server).leave("/endless?mark=1", X_Name=leavers[0])
        Visitor(server).leave("/endless?mark=1&context", X_Name=leavers[1])
        expected = [["session.completed", name, case.error] for name, case in CASES.items()]
        expected += [["session.completed", name, None] for name in leavers]
        names = [*CASES, *leavers]
        eventually(
            lambda: {*names} <= {event[1] for event in server.events("session.completed")},
            "every session is completed",
        )
        # Whatever came a second time would be here by now: this request is after all of them.
        Visitor(server).get("/plain", X_Name="last")
        eventually(lambda: server.events("session.completed", "last"), "the last is completed")
    expected.append(["session.completed", "last", None])
    assert sorted(server.events("session.completed"), key=str) == sorted(expected, key=str)
