from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
from flask import Flask, Response, current_app, g

import flask_agentuity
from flask_agentuity import (
    ThreadManager,
    session_completed,
    session_started,
    signals,
    thread_created,
    thread_destroyed,
    thread_restore_failed,
    thread_restored,
    thread_save_failed,
    thread_saved,
)
from flask_agentuity.errors import ServiceUnavailable

from recording import RecordingStore  # isort: skip

ALL = [
    thread_created,
    thread_restored,
    thread_saved,
    thread_destroyed,
    thread_restore_failed,
    thread_save_failed,
    session_started,
    session_completed,
]


def make_app(name: str = "app", **config: Any) -> tuple[Flask, RecordingStore]:
    app = Flask(name)
    app.config.update({"SECRET_KEY": "secret"} | config)
    store = RecordingStore()
    ThreadManager(app, store=store)
    app.add_url_rule("/untouched", "untouched", lambda: "")

    @app.post("/")
    def write() -> str:
        g.thread.state["a"] = g.thread.state.get("a", 0) + 1
        return str(g.thread.state["a"])

    @app.get("/")
    def read() -> str:
        return str(g.thread.state.get("a"))

    @app.get("/stream")
    def stream() -> Response:
        thread = g.thread

        def body() -> Any:
            thread.state.push("chunks", 1)
            yield "1"

        assert thread.id
        return Response(body())

    @app.get("/destroy")
    def destroy() -> str:
        g.thread.destroy()
        return ""

    return app, store


class Heard:
    """Everything that is sent for one app."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.names: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self._receivers = []
        for signal in ALL:
            receiver = functools.partial(self._receive, signal.name)
            self._receivers.append(receiver)
            signal.connect(receiver, app)

    def _receive(self, name: str, sender: Any, **named: Any) -> None:
        assert sender is self.app
        assert current_app == self.app
        assert set(named) == {"thread", "session", "error"}
        self.names.append(name)
        self.sent.append(named)

    def take(self) -> list[str]:
        names, self.names = self.names, []
        return names


def test_what_is_sent_for_each_request() -> None:
    app, _ = make_app()
    heard = Heard(app)
    client = app.test_client()
    client.get("/untouched")
    assert heard.take() == ["session.started", "session.completed"]
    client.post("/")
    assert heard.take() == [
        "session.started",
        "thread.created",
        "thread.saved",
        "session.completed",
    ]
    client.post("/")
    assert heard.take() == [
        "session.started",
        "thread.restored",
        "thread.saved",
        "session.completed",
    ]
    client.get("/")
    assert heard.take() == ["session.started", "thread.restored", "session.completed"]
    client.get("/stream").get_data()
    assert heard.take() == ["session.started", "thread.saved", "session.completed"]
    client.get("/destroy")
    assert heard.take() == ["session.started", "thread.destroyed", "session.completed"]
    client.get("/")
    assert heard.take() == ["session.started", "thread.created", "session.completed"]
    sessions = {id(named["session"]) for named in heard.sent}
    assert len(sessions) == 7
    for named in heard.sent:
        assert named["thread"] is named["session"].thread
        assert named["error"] is None


def test_failures_say_why() -> None:
    app, store = make_app()
    client = app.test_client()
    client.post("/")
    heard = Heard(app)
    down = ServiceUnavailable("down")
    store.read_errors = [down]
    client.get("/")
    assert heard.take()[1] == "thread.restore_failed"
    assert heard.sent[1]["error"] is down
    store.merge_errors = [down]
    heard.sent.clear()
    assert client.post("/").status_code == 200
    assert heard.take()[1:3] == ["thread.restored", "thread.save_failed"]
    assert heard.sent[2]["error"] is down


def test_a_receiver_that_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, _ = make_app()
    called: list[str] = []

    def make(signal: Any, number: int) -> Any:
        def receiver(sender: Any, **named: Any) -> None:
            called.append(signal.name)
            raise RuntimeError(f"oops {number}")

        return receiver

    receivers = [make(signal, number) for signal in ALL for number in range(2)]
    for receiver, signal in zip(receivers, [s for s in ALL for _ in range(2)], strict=True):
        signal.connect(receiver, app)
    assert app.test_client().post("/").text == "1"
    assert sorted(called) == sorted(
        2 * ["session.started", "thread.created", "thread.saved", "session.completed"]
    )
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 8
    assert all(record.levelno == logging.ERROR for record in records)
    assert all("receiver" in record.getMessage() for record in records)
    assert "oops 1" in caplog.text


def test_a_receiver_of_one_app_hears_no_other() -> None:
    one, _ = make_app("one")
    two, _ = make_app("two")
    heard = Heard(one)
    everything: list[Any] = []

    def receiver(sender: Any, **named: Any) -> None:
        everything.append(sender)

    with session_completed.connected_to(receiver):
        two.test_client().post("/")
        assert heard.names == []
        one.test_client().post("/")
    assert "thread.saved" in heard.names
    assert everything == [two, one]


def test_async_receivers_and_listeners_run() -> None:
    pytest.importorskip("asgiref")
    app, _ = make_app()
    called: list[str] = []

    async def receiver(sender: Any, **named: Any) -> None:
        called.append("receiver")

    async def listener(event: str, source: Any) -> None:
        called.append(event)

    class Callable:
        async def __call__(self, sender: Any, **named: Any) -> None:
            called.append("callable")

    @app.get("/listen")
    def listen() -> str:
        g.thread.add_event_listener("destroyed", listener)
        g.session.add_event_listener("completed", listener)
        g.thread.destroy()
        return ""

    instance = Callable()
    thread_destroyed.connect(receiver, app)
    thread_destroyed.connect(instance, app)
    app.test_client().get("/listen")
    assert sorted(called) == ["callable", "completed", "destroyed", "receiver"]


def test_a_muted_signal_is_not_sent() -> None:
    app, _ = make_app()
    heard = Heard(app)
    with thread_created.muted():
        app.test_client().post("/")
    assert "thread.created" not in heard.take()
    app.test_client().post("/")
    assert "thread.created" in heard.take()


def test_every_signal_is_a_public_name() -> None:
    for signal in [*ALL, signals.service_connected, signals.service_disconnected]:
        name = signal.name.replace(".", "_")
        assert getattr(flask_agentuity, name) is signal
        assert name in flask_agentuity.__all__
