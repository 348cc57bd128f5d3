from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import Session, ThreadManager
from flask_agentuity.document.codec import MAX_DOCUMENT_BYTES


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    ThreadManager(app)
    return app


@pytest.fixture
def session(app: Flask) -> Any:
    with app.test_request_context():
        yield g.session


def test_an_id_is_made_once(session: Session) -> None:
    assert session.id == session.id
    assert session.id.startswith("sess_")
    assert len(session.id) == 37


def test_user_data_is_the_state_as_json(session: Session, caplog: Any) -> None:
    assert session.serialize_user_data() is None
    session.state["name"] = "Ada"
    assert session.serialize_user_data() == '{"name":"Ada"}'
    assert not caplog.records


@pytest.mark.parametrize(
    ("value", "words"),
    [({1, 2}, "session.state.a cannot be stored: JSON has no type for set"), (float("nan"), "nan")],
)
def test_user_data_that_is_no_json_is_left_out(
    session: Session, caplog: Any, value: object, words: str
) -> None:
    session.state["a"] = value
    assert session.serialize_user_data() is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert words in record.getMessage()


def test_user_data_has_a_limit(session: Session, caplog: Any) -> None:
    session.state["a"] = "x" * (MAX_DOCUMENT_BYTES - len('{"a":""}'))
    assert session.serialize_user_data() is not None
    session.state["a"] += "x"
    assert session.serialize_user_data() is None
    assert str(MAX_DOCUMENT_BYTES + 1) in caplog.text


def test_listeners_are_told_once_and_a_raising_one_stops_none(app: Flask, caplog: Any) -> None:
    told: list[str] = []

    def broken(event: str, session: Session) -> None:
        raise ValueError("a broken listener")

    async def whole(event: str, session: Session) -> None:
        told.append(event)

    def removed(event: str, session: Session) -> None:
        told.append("removed")

    @app.get("/")
    def view() -> str:
        for listener in (broken, whole, removed):
            g.session.add_event_listener("completed", listener)
        g.session.remove_event_listener("completed", removed)
        g.session.remove_event_listener("completed", removed)
        assert told == []
        return "answered"

    assert app.test_client().get("/").text == "answered"
    assert told == ["completed"]
    assert "a broken listener" in caplog.text


def test_there_is_no_other_event(session: Session) -> None:
    for method in (session.add_event_listener, session.remove_event_listener):
        with pytest.raises(ValueError, match=r"'started'.*'completed'"):
            method("started", lambda event, session: None)
