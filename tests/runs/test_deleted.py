"""The thread of a run is deleted, or gets another id, while the run is under way."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from flask import g
from support.waiting import eventually

from flask_agentuity import ThreadGone, thread_run_finished, thread_save_failed

from .answers import Answer, Chat, events_of


@pytest.mark.parametrize("how", ["destroy", "stop and destroy", "rotate"])
def test_the_loss_is_a_warning_that_gives_no_wrong_advice(
    chat: Chat, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    finished: list[str] = []
    failures: list[object] = []

    def note_end(sender: object, status: str, **extra: Any) -> None:
        finished.append(status)

    def note_failure(sender: object, error: BaseException, **extra: Any) -> None:
        failures.append(type(error))

    @chat.app.post("/end")
    def end() -> str:
        if how == "rotate":
            chat.threads.rotate()
        else:
            if how.startswith("stop"):
                chat.threads.stop()
            g.thread.destroy()
        return ""

    thread_run_finished.connect(note_end, chat.app)
    thread_save_failed.connect(note_failure, chat.app)
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    eventually(lambda: answer.asked == 2)
    assert chat.client.post("/end").status_code == 200
    with caplog.at_level(logging.WARNING, "flask_agentuity"):
        answer.say("b", "c").finish()
        data = b"".join(response.iter_encoded())
        response.close()
        eventually(lambda: finished and failures)
        chat.client.finish_runs()
    assert events_of(data)[-1]["data"] == '{"status":"interrupted"}'
    assert finished == ["interrupted"]
    assert failures == [ThreadGone]
    (record,) = [each for each in caplog.records if each.name == "flask_agentuity"]
    assert record.levelno == logging.WARNING
    assert "another id at a login" in record.getMessage()
    assert chat.messages() == (["hello"] if how == "rotate" else [])


def test_the_next_message_need_not_wait_for_the_generator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat = Chat(AGENTUITY_THREAD_STORE=f"sqlite:///{tmp_path / 'threads.db'}")

    @chat.app.post("/end")
    def end() -> str:
        g.thread.destroy()
        return ""

    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    eventually(lambda: answer.asked == 2)
    cookie = chat.client.get_cookie("atid")
    assert cookie is not None
    chat.client.post("/end")
    # As with an id in the URL, or a request that was under way.
    chat.client.set_cookie("atid", cookie.value)
    following = chat.ask(Answer().say("next").finish())
    assert (following.status_code, following.data) == (200, b"next")
    assert b'"interrupted"' in b"".join(response.iter_encoded())
    answer.say("b").finish()
    chat.client.finish_runs()
    eventually(lambda: "another id at a login" in caplog.text)
    assert "Call its save()" not in caplog.text
    assert chat.messages() == ["hello", "next"]
    chat.threads._threads_at_work().store.close()


def test_another_process_has_deleted_the_thread(chat: Chat) -> None:
    """The store is all that another process can reach."""
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    eventually(lambda: answer.asked == 2)
    turns, thread_id = chat.runs.turns, chat.client.thread_id or ""
    chat.runs.store.delete(thread_id)
    eventually(lambda: turns.lease_turn(thread_id, "another").holder == "another")
    turns.end_turn(thread_id, "another")
    assert b'"interrupted"' in b"".join(response.iter_encoded())
    answer.say("b").finish()
    chat.client.finish_runs()
    assert chat.messages() == ["hello"]
