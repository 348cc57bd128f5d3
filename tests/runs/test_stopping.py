"""Stopping: what was said is saved and marked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from flask import g
from support.waiting import eventually

from flask_agentuity import thread_run_finished

from .answers import Answer, Chat, events_of


def test_a_generator_stops_when_it_yields_next(chat: Chat) -> None:
    told: list[str] = []

    def note(sender: object, status: str, **extra: Any) -> None:
        told.append(status)

    thread_run_finished.connect(note, chat.app)
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    # Not only said: it waits for more.
    eventually(lambda: answer.asked == 2)
    stopped = chat.client.post("/chat/stop")
    assert stopped.status_code == 202
    assert stopped.json == {"run": response.headers["X-Run-ID"]}
    # It may be asked twice.
    assert chat.client.post("/chat/stop").status_code == 202
    answer.say("b", "c")
    data = b"".join(response.iter_encoded())
    chat.client.finish_runs()
    assert isinstance(answer.ended_by, GeneratorExit)
    assert events_of(data)[-1]["data"] == '{"status":"stopped"}'
    assert chat.messages() == ["hello", "ab"]
    assert chat.status() == "stopped"
    assert told == ["stopped"]
    assert chat.client.post("/chat/stop").status_code == 204


def test_an_asynchronous_generator_stops_at_once(chat: Chat) -> None:
    waiting = threading.Event()

    async def answer() -> AsyncIterator[str]:
        state = g.thread.state
        try:
            yield "a"
            waiting.set()
            await asyncio.sleep(3_600)
            yield "b"
        finally:
            # Work that takes more than one step is possible.
            await asyncio.sleep(0)
            state.push("messages", "cut off")

    response = chat.ask(answer)
    assert waiting.wait(30)
    chat.client.post("/chat/stop")
    assert chat.client.run_to_end(response) == b"a"
    assert chat.messages() == ["hello", "cut off"]
    assert chat.status() == "stopped"


def test_stop_from_python(chat: Chat) -> None:
    answer = Answer().say("a")
    response = chat.ask(answer)
    eventually(lambda: answer.asked == 2)
    with chat.app.app_context():
        assert chat.threads.stop(chat.client.thread_id)
        with chat.client.thread() as thread:
            assert chat.threads.stop(thread)
    answer.say("b")
    response.close()
    chat.client.finish_runs()
    assert chat.status() == "stopped"
    with chat.app.app_context():
        assert not chat.threads.stop(chat.client.thread_id)


def test_a_stop_from_another_process_arrives(chat: Chat) -> None:
    """The store is all that another process can reach."""
    answer = Answer().say("a")
    response = chat.ask(answer)
    eventually(lambda: answer.asked == 2)
    stored = chat.runs.find(chat.client.thread_id or "")
    assert stored is not None
    assert chat.runs.store.stop(stored.key)
    log = chat.runs.here.find_live(stored.key)
    assert log is not None
    eventually(lambda: log.reason == "stopped")
    answer.say("b")
    response.close()
    chat.client.finish_runs()
    assert chat.status() == "stopped"


def test_a_generator_that_does_not_want_to_stop_has_failed(chat: Chat) -> None:
    gate, begun = threading.Event(), threading.Event()

    def answer() -> Iterator[str]:
        try:
            yield "a"
            begun.set()
            gate.wait(30)
            yield "b"
        finally:
            yield "still here"

    response = chat.ask(answer)
    assert begun.wait(30)
    chat.client.post("/chat/stop")
    gate.set()
    response.close()
    chat.client.finish_runs()
    assert chat.status() == "failed"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "anything"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:5000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_other_sites_stop_nothing(chat: Chat, headers: dict[str, str], allowed: bool) -> None:
    answer = Answer().say("a")
    response = chat.ask(answer)
    answered = chat.client.post("/chat/stop", headers=headers)
    assert answered.status_code == (202 if allowed else 403)
    answer.say("b").finish()
    response.close()
    chat.client.finish_runs()
    assert chat.status() == ("stopped" if allowed else "done")


def test_only_a_post_stops(chat: Chat) -> None:
    assert chat.client.get("/chat/stop").status_code == 405
    assert chat.client.post("/chat/stream").status_code == 405


@pytest.mark.parametrize("exempt", [False, True])
def test_beside_flask_wtf(exempt: bool) -> None:
    csrf = pytest.importorskip("flask_wtf.csrf")
    chat = Chat()
    protect = csrf.CSRFProtect(chat.app)
    chat.app.add_url_rule("/token", view_func=csrf.generate_csrf)
    if exempt:
        protect.exempt(chat.threads.blueprint)
    token = chat.client.get("/token").text
    assert chat.client.post("/chat/stop").status_code == (204 if exempt else 400)
    headers = {"X-CSRFToken": token}
    assert chat.client.post("/chat/stop", headers=headers).status_code == 204
