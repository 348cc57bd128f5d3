from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, Response, current_app, g
from support.recording import RecordingStore

import flask_agentuity
from flask_agentuity import (
    ThreadManager,
    session_completed,
    session_started,
    thread_destroyed,
    thread_saved,
)
from flask_agentuity.errors import ServiceUnavailable

NAMES = (
    "session_started",
    "thread_created",
    "thread_restored",
    "thread_saved",
    "thread_destroyed",
    "thread_restore_failed",
    "thread_save_failed",
    "session_completed",
)


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    ThreadManager(app)

    @app.get("/count")
    def count() -> str:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        return "counted"

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/fail")
    def fail() -> str:
        raise LookupError("the view failed")

    @app.get("/destroy")
    def destroy() -> str:
        g.thread.destroy()
        return "gone"

    return app


def listen(app: Flask, stack: ExitStack) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = []
    for name in NAMES:

        def receive(sender: Flask, name: str = name, **extra: Any) -> None:
            assert sender is app
            assert current_app.name == app.name
            assert set(extra) == {"thread", "session", "error"}
            assert extra["session"].thread is extra["thread"]
            told.append((name, extra["error"]))

        stack.enter_context(getattr(flask_agentuity, name).connected_to(receive, app))
    return told


def test_the_life_of_a_thread_is_told_in_order(app: Flask) -> None:
    client = app.test_client()
    with ExitStack() as stack:
        told = listen(app, stack)
        client.get("/count")
        assert [name for name, _ in told] == [
            "session_started",
            "thread_created",
            "thread_saved",
            "session_completed",
        ]
        told.clear()
        client.get("/count")
        client.get("/destroy")
        assert [name for name, _ in told] == [
            "session_started",
            "thread_restored",
            "thread_saved",
            "session_completed",
            "session_started",
            "thread_destroyed",
            "session_completed",
        ]


def test_a_request_that_uses_nothing_also_has_a_session(app: Flask) -> None:
    sessions: list[str] = []

    def note(sender: Flask, session: Any, **extra: Any) -> None:
        sessions.append(session.id)

    with session_started.connected_to(note, app), session_completed.connected_to(note, app):
        app.test_client().get("/plain")
        app.test_client().get("/nowhere")
    assert len(sessions) == 4
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3]


def test_what_ended_a_session_is_told(app: Flask) -> None:
    with ExitStack() as stack:
        told = listen(app, stack)
        assert app.test_client().get("/fail").status_code == 500
    (name, error) = told[-1]
    assert name == "session_completed"
    assert isinstance(error, LookupError)


def test_a_receiver_that_raises_does_not_stop_the_others(app: Flask, caplog: Any) -> None:
    heard: list[str] = []

    def broken(sender: Flask, **extra: Any) -> None:
        raise ValueError("a broken receiver")

    def whole(sender: Flask, **extra: Any) -> None:
        heard.append("whole")

    with thread_saved.connected_to(broken, app), thread_saved.connected_to(whole, app):
        assert app.test_client().get("/count").text == "counted"
    assert heard == ["whole"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "broken" in record.getMessage()
    assert record.exc_info is not None


def test_a_receiver_may_be_async(app: Flask) -> None:
    heard: list[str] = []

    async def receive(sender: Flask, thread: Any, **extra: Any) -> None:
        heard.append(thread.id)

    with thread_saved.connected_to(receive, app):
        app.test_client().get("/count")
    assert len(heard) == 1


def test_a_receiver_of_one_app_hears_of_no_other(app: Flask) -> None:
    other = Flask("other")
    other.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    ThreadManager(other)
    heard: list[Flask] = []

    def receive(sender: Flask, **extra: Any) -> None:
        heard.append(sender)

    with session_completed.connected_to(receive, other):
        app.test_client().get("/count")
        assert heard == []
        other.test_client().get("/")
    assert heard == [other]


def test_a_streamed_response_and_one_that_begins_again(app: Flask) -> None:
    @app.get("/stream")
    def stream() -> Response:
        thread = g.thread
        thread.state["begun"] = True

        def body() -> Iterator[str]:
            thread.state.push("chunks", 1)
            yield "1"

        return Response(body())

    client = app.test_client()
    with ExitStack() as stack:
        told = listen(app, stack)
        assert client.get("/stream").text == "1"
        client.get("/destroy")
        client.get("/count")
    assert [name for name, _ in told] == [
        "session_started",
        "thread_created",
        "thread_saved",
        "thread_saved",
        "session_completed",
        "session_started",
        "thread_destroyed",
        "session_completed",
        "session_started",
        "thread_created",
        "thread_saved",
        "session_completed",
    ]


def test_failures_say_why() -> None:
    app = Flask("failing")
    app.secret_key = "tested"
    store = RecordingStore()
    ThreadManager(app, store=store)

    @app.get("/count")
    def count() -> str:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        return "counted"

    client = app.test_client()
    client.get("/count")
    down = ServiceUnavailable("down")
    with ExitStack() as stack:
        told = listen(app, stack)
        store.read_errors = [down]
        assert client.get("/count").status_code == 200
        assert told[1] == ("thread_restore_failed", down)
        # What was computed without the state is lost, which is told as well.
        assert told[2][0] == "thread_save_failed"
        assert "could not be read" in str(told[2][1])
        told.clear()
        store.merge_errors = [down]
        assert client.get("/count").status_code == 200
        assert told[1:3] == [("thread_restored", None), ("thread_save_failed", down)]
    assert len(store.merges) == 2


def test_listeners_and_objects_may_be_async_too(app: Flask) -> None:
    heard: list[str] = []

    async def listener(event: str, source: Any) -> None:
        heard.append(event)

    class Receiver:
        async def __call__(self, sender: Any, **extra: Any) -> None:
            heard.append("receiver")

    @app.get("/listen")
    def listen() -> str:
        g.thread.add_event_listener("destroyed", listener)
        g.session.add_event_listener("completed", listener)
        g.thread.destroy()
        return ""

    with thread_destroyed.connected_to(Receiver(), app):
        app.test_client().get("/listen")
    assert sorted(heard) == ["completed", "destroyed", "receiver"]


def test_a_muted_signal_is_not_sent(app: Flask) -> None:
    with ExitStack() as stack:
        told = listen(app, stack)
        with thread_saved.muted():
            app.test_client().get("/count")
        assert "thread_saved" not in dict(told)
        app.test_client().get("/count")
        assert "thread_saved" in dict(told)


def test_a_request_begins_with_a_hook_only_while_there_is_a_listener(app: Flask) -> None:
    """Every request would pay for it; and who listens late is heard before anything else."""
    order: list[str] = []

    @app.before_request
    def of_the_app() -> None:
        order.append("app")

    client = app.test_client()
    client.get("/plain")
    assert app.before_request_funcs[None] == [of_the_app]

    def note(sender: Flask, **_: Any) -> None:
        order.append("listener")

    for _ in range(2):
        # Another thread has a request under way, and is at the app's own hook.
        going_through = iter(app.before_request_funcs[None])
        while next(going_through) is not of_the_app:
            pass
        with session_started.connected_to(note, app):
            order.clear()
            client.get("/plain")
            assert order == ["listener", "app"]
        assert list(going_through) == []
    order.clear()
    client.get("/plain")
    assert order == ["app"]


def test_a_listener_of_before_the_app_is_heard() -> None:
    heard: list[Flask] = []

    def note(sender: Flask, **_: Any) -> None:
        heard.append(sender)

    with session_started.connected_to(note):
        app = Flask(__name__)
        app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
        ThreadManager(app)
        app.test_client().get("/")
    assert heard == [app]
