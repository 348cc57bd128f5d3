"""Readers in other processes, while the store is slow and while logs go away."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from support.waiting import PATIENCE, eventually

from flask_agentuity.stores.runs import RunKey, StoredRun

from .answers import Answer, Chat
from .test_following import begin_abandoned, chats, is_idle, share_cookie, stored_key

__all__ = ["chats"]


class SlowLooks:
    """Holds the answers of a store to the looks of a watching thread, one after the other."""

    def __init__(self, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
        store = chat.runs.here.store
        self._look = store.look
        self._begun, self._go_on = threading.Semaphore(0), threading.Semaphore(0)
        self._is_over = False
        monkeypatch.setattr(store, "look", self)

    def wait(self) -> None:
        """Wait until the answer to the next look is held."""
        assert self._begun.acquire(timeout=PATIENCE)

    def go_on(self) -> None:
        """Give the answer, and wait until that to the look that follows is held."""
        self._go_on.release()
        self.wait()

    def end(self) -> None:
        self._is_over = True
        self._go_on.release()

    def __call__(self, keys: Collection[RunKey]) -> Mapping[RunKey, StoredRun]:
        found = self._look(keys)
        if threading.current_thread().name.endswith("run-watch") and not self._is_over:
            self._begun.release()
            assert self._go_on.acquire(timeout=PATIENCE)
        return found


def test_a_reader_who_joins_during_a_look_is_not_told_of_an_end(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chats
    other = first.another_visitor()
    answers = Answer().say("a"), Answer().say("x")
    responses = first.ask(answers[0], "sse"), first.ask(answers[1], "sse", client=other)
    share_cookie(first, second)
    reader = second.client.get("/chat/stream", buffered=False)
    slow = SlowLooks(second, monkeypatch)
    slow.wait()
    joining = second.another_visitor()
    cookie = other.get_cookie("atid")
    assert cookie is not None
    joining.set_cookie("atid", cookie.value)
    joined = joining.get("/chat/stream", buffered=False)
    run = joined.headers["X-Run-ID"]
    slow.go_on()
    log: Any = next(iter(second.runs.here._followed._logs[RunKey(other.thread_id or "", run)]))
    assert log.status == "running"
    slow.end()
    for answer in answers:
        answer.say("b").finish()
    assert b'{"status":"done"}' in b"".join(joined.iter_encoded())
    for each in (*responses, reader, joined):
        each.close()


def test_an_older_look_takes_nothing_away(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer)
    share_cookie(first, second)
    key = stored_key(first)
    eventually(lambda: first.runs.store.read(key) == b"a")
    reader = second.client.get("/chat/stream", buffered=False)
    slow = SlowLooks(second, monkeypatch)
    slow.wait()
    answer.say("b")
    eventually(lambda: first.runs.store.read(key) == b"ab")
    log: Any = second.runs.here.open(key)
    assert log.length == 2
    slow.go_on()
    assert log.length == 2
    slow.end()
    log.close()
    answer.finish()
    assert b"".join(reader.iter_encoded()).endswith(b"b")
    response.close()


def test_a_look_at_the_status_finds_a_run_whose_process_was_killed(
    chats: tuple[Chat, Chat],
) -> None:
    chat = chats[0]
    key = begin_abandoned(chat, with_turn=True)
    # The turn is not renewed, but only the next seconds can prove that.
    time.sleep(0.3)
    assert chat.status() == "running"
    stored: Any = None

    def is_interrupted() -> bool:
        nonlocal stored
        # Without further requests.
        stored = chat.runs.store.look([key])[key]
        return bool(stored.status == "interrupted")

    eventually(is_interrupted)
    eventually(lambda: is_idle(chat))
    assert chat.status() == "interrupted"
    assert chat.client.post("/chat/stop").status_code == 204
    assert chat.ask().data == b"abc"


def test_asking_a_killed_run_to_stop_finds_that_too(chats: tuple[Chat, Chat]) -> None:
    chat = chats[0]
    begin_abandoned(chat, with_turn=True)
    time.sleep(0.3)
    assert chat.client.post("/chat/stop").status_code == 202
    eventually(lambda: chat.client.post("/chat/stop").status_code == 204)
    assert chat.status() == "interrupted"


def test_a_living_run_is_not_doubted_and_a_doubted_one_may_go_on(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer)
    share_cookie(first, second)
    assert second.status() == "running"
    followed = second.runs.here._followed
    second.runs.here.doubt(second.runs.store.look([stored_key(first)])[stored_key(first)])
    assert followed.keys
    # In three times the time of the lease.
    eventually(lambda: is_idle(second))
    assert not followed.keys
    assert second.status() == "running"
    answer.finish()
    assert response.data == b"a"
