"""What a request is answered when its store fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, g
from support.recording import RecordingStore

from flask_agentuity import ThreadManager
from flask_agentuity.errors import OutcomeUnknown, ServiceUnavailable

DOWN = ServiceUnavailable("The service is down.")


def make_app(**config: Any) -> tuple[Flask, RecordingStore, ThreadManager]:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": "tested"} | config)
    store = RecordingStore()
    manager = ThreadManager(app, store=store)

    @app.get("/count")
    def count() -> dict[str, Any]:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        return dict(g.thread.state)

    @app.get("/push")
    def push() -> str:
        g.thread.state.push("messages", 1)
        return "pushed"

    @app.get("/bad")
    def bad() -> str:
        g.thread.state["list"] = []
        g.thread.state["list"].append({1, 2})
        return "too late"

    @app.get("/new")
    def new() -> str:
        g.thread.state.push("messages", "last")
        manager.new().state.push("messages", "first")
        return str(g.thread.id)

    return app, store, manager


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_failed_read_is_an_empty_state_that_replaces_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, store, _ = make_app()
    client = app.test_client()
    assert client.get("/count").json == {"count": 1}
    store.read_errors = [DOWN]
    assert client.get("/count").json == {"count": 1}
    told = errors(caplog)
    assert any("could not be read" in message for message in told)
    assert any('state["count"]' in message and "not saved" in message for message in told)
    assert client.get("/count").json == {"count": 2}


def test_a_failed_read_is_503_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    app, store, _ = make_app(AGENTUITY_THREAD_ON_RESTORE_ERROR="raise")
    client = app.test_client()
    assert client.get("/count").json == {"count": 1}
    store.read_errors = [DOWN]
    response = client.get("/count")
    assert response.status_code == 503
    assert "The service is down" not in response.text
    assert any("The service is down" in message for message in errors(caplog))
    assert len(store.merges) == 1
    assert client.get("/count").json == {"count": 2}


@pytest.mark.parametrize("error", [DOWN, OutcomeUnknown("lost")])
@pytest.mark.parametrize(("policy", "status"), [("log", 200), ("raise", 503)])
def test_a_failed_save(
    error: Exception, policy: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app, store, _ = make_app(AGENTUITY_THREAD_ON_SAVE_ERROR=policy)
    store.merge_errors = [error]
    assert app.test_client().get("/push").status_code == status
    assert len(store.merges) == 1
    assert any(str(error) in message for message in errors(caplog))


def test_what_json_cannot_hold_is_an_error_of_the_app() -> None:
    for policy in ("log", "raise"):
        app, store, _ = make_app(AGENTUITY_THREAD_ON_SAVE_ERROR=policy)
        assert app.test_client().get("/bad").status_code == 500
        assert store.merges == []


def test_a_state_over_the_limit_goes_by_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    for policy, status in (("log", 200), ("raise", 413)):
        app, store, _ = make_app(AGENTUITY_THREAD_ON_TOO_LARGE=policy)
        store.max_bytes = 10
        assert app.test_client().get("/push").status_code == status
        assert any("the limit is 10" in message for message in errors(caplog))
        caplog.clear()


def test_a_conversation_that_cannot_be_saved_does_not_keep_the_next_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, store, manager = make_app()
    client = app.test_client()
    client.get("/push")
    store.merge_errors = [DOWN]
    thread_id = client.get("/new").text
    with manager.open(thread_id) as thread:
        assert dict(thread.state) == {"messages": ["first"]}
    assert len(errors(caplog)) == 1
