"""The thread of a run is deleted, or gets another id, while the run is under way."""

from __future__ import annotations

import logging
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
