"""Readers in other processes, while the store is slow and while logs go away."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from support.waiting import PATIENCE, eventually

from flask_agentuity.stores.runs import RunKey, StoredRun

from .answers import Answer, Chat
from .test_following import chats, share_cookie, stored_key

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
