"""A store that fails: what the client is answered, what is logged, and what is kept."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g, stream_with_context
from support.servers import PATIENCE, Visitor, running
from support.waiting import eventually
from werkzeug.exceptions import HTTPException

from flask_agentuity import ThreadManager
from flask_agentuity.errors import AgentuityError, StoreError
from flask_agentuity.web import events as signals

from .app import create_app
from .conftest import COMMANDS
from .test_session_completed import recorded

STORE = "sqlite:///threads.db?timeout=0.05"

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process hold the write lock of a database."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("kind", ["werkzeug", "gthread"])
@pytest.mark.parametrize("on_error", ["log", "raise"])
def test_a_locked_database(tmp_path: Path, kind: str, on_error: str) -> None:
    with running(
        tmp_path,
        COMMANDS[kind],
        AGENTUITY_THREAD_STORE=STORE,
        AGENTUITY_THREAD_ON_SAVE_ERROR=on_error,
    ) as server:
        visitor = Visitor(server)
        visitor.post("/state", {"old": True})
        with locked(server.instance / "threads.db"):
            begin = len(server.log())
            # Reading goes on.
            assert visitor.state() == {"old": True}
            assert visitor.get("/plain").status == 200
            answer = visitor.post("/push", "lost", X_Name="post")
            assert answer.status == (200 if on_error == "log" else 503)
            if on_error == "raise":
                assert b"SQLite" not in answer.body
            assert len(server.events("thread.save_failed", "post")) == 1
            eventually(lambda: server.events("session.completed", "post"), "it is completed")
            assert len(server.events("session.completed", "post")) == 1
            assert "could not be saved: SQLite could not serve" in server.log()[begin:]

            # Of a stream, the headers are gone when its end cannot be saved: if it is to raise,
            # the client sees that the body has no end.
            if on_error == "log":
                assert visitor.get("/stream?mark=1", X_Name="stream").status == 200
            else:
                assert visitor.get("/stream?mark=1", X_Name="stream").status == 503
                with pytest.raises(http.client.IncompleteRead):
                    visitor.get("/late?mark=1", X_Name="late")
            eventually(lambda: server.events("session.completed", "stream"), "it is completed")
        assert visitor.state() == {"old": True}
        assert visitor.post("/push", "kept").status == 200
        assert visitor.state() == {"old": True, "messages": ["kept"]}


@pytest.mark.parametrize("on_error", ["empty", "raise"])
def test_a_damaged_file(tmp_path: Path, on_error: str) -> None:
    with running(
        tmp_path,
        COMMANDS["gthread"],
        AGENTUITY_THREAD_STORE=STORE,
        AGENTUITY_THREAD_ON_RESTORE_ERROR=on_error,
        AGENTUITY_THREAD_SECRET="secret",
    ) as server:
        visitor = Visitor(server)
        assert visitor.get("/state").json() == {}
        server.instance.mkdir(exist_ok=True)
        damaged = b"this is no database " * 1000
        (server.instance / "threads.db").write_bytes(damaged)
        answer = visitor.get("/state", X_Name="get")
        assert answer.status == (200 if on_error == "empty" else 503)
        assert len(server.events("thread.restore_failed", "get")) == 1
        # A view that only writes does not read; what it writes is for on_save_error.
        assert visitor.post("/push", "lost").status == 200
        assert visitor.get("/plain").status == 200
        assert (server.instance / "threads.db").read_bytes() == damaged
        assert "could not be read" in server.log()


Register = Callable[[Flask], object]


def answer_by_code(app: Flask) -> object:
    return app.register_error_handler(503, lambda error: ("by the app", 503))


def answer_store_errors(app: Flask) -> object:
    return app.register_error_handler(StoreError, lambda error: ("by the app", 503))


def answer_everything_of_ours(app: Flask) -> object:
    return app.register_error_handler(AgentuityError, lambda error: ("by the app", 503))


def answer_everything(app: Flask) -> object:
    def answer(error: Exception) -> Any:
        assert isinstance(error, (HTTPException, StoreError))
        return "by the app", 503

    return app.register_error_handler(Exception, answer)


REGISTER = [answer_by_code, answer_store_errors, answer_everything_of_ours, answer_everything]


@pytest.mark.parametrize("path", ["/read", "/write", "/stream", "/stream-with-context", "/file"])
@pytest.mark.parametrize("first", [True, False], ids=["registered before", "registered after"])
@pytest.mark.parametrize("register", [None, *REGISTER])
def test_the_handlers_of_the_app(
    tmp_path: Path, register: Register | None, first: bool, path: str
) -> None:
    app = Flask("app", instance_path=str(tmp_path), static_folder=str(Path(__file__).parent))
    app.config.update(
        AGENTUITY_THREAD_STORE=STORE,
        AGENTUITY_THREAD_ON_SAVE_ERROR="raise",
        AGENTUITY_THREAD_ON_RESTORE_ERROR="raise",
        AGENTUITY_THREAD_SECRET="secret",
    )
    if register and first:
        register(app)
    ThreadManager(app)
    if register and not first:
        register(app)

    @app.get("/new")
    def new() -> str:
        return str(g.thread.id)

    @app.get("/read")
    def read() -> Any:
        return dict(g.thread.state)

    @app.get("/write")
    def write() -> str:
        g.thread.state["a"] = 1
        return "written"

    @app.get("/stream")
    def stream() -> Response:
        g.thread.state["a"] = 1
        return Response(iter(["a", "b"]))

    @app.get("/stream-with-context")
    def stream_in_context() -> Response:
        g.thread.state["a"] = 1
        return Response(stream_with_context(iter(["a", "b"])))

    @app.get("/file")
    def file() -> Response:
        g.thread.state["a"] = 1
        return app.send_static_file("app.py")

    client = app.test_client()
    client.get("/new")
    (tmp_path / "threads.db").write_bytes(b"this is no database " * 1000)
    with recorded(app) as completed:
        with client.get(path) as response:
            assert response.status_code == 503
            text = response.get_data(as_text=True)
            assert text == "by the app" if register else "SQLite" not in text
        assert completed == [None]


def test_a_failed_save_that_only_logs_is_signalled_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(str(tmp_path), AGENTUITY_THREAD_STORE=STORE)
    failures: list[Any] = []

    def note(sender: Flask, error: Any, **extra: Any) -> None:
        failures.append(error)

    client = app.test_client()
    client.post("/state", json={"a": 1})
    with (
        locked(tmp_path / "threads.db"),
        signals.thread_save_failed.connected_to(note, app),
    ):
        assert client.post("/state", json={"a": 2}).status_code == 200
    assert [type(failure) for failure in failures] == [StoreError]
    assert caplog.text.count("could not be saved") == 1
    assert client.get("/state").json == {"a": 1}
