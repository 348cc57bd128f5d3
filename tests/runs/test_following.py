"""Runs of other processes. Here two apps on one file stand for two processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.waiting import eventually

from flask_agentuity.errors import StoreError
from flask_agentuity.stores import leases
from flask_agentuity.stores.runs import NewRun, RunKey
from flask_agentuity.thread.runs import writer
from flask_agentuity.thread.runs.following import StoredLog
from flask_agentuity.web.runs import reading

from .answers import Answer, Chat, events_of


@pytest.fixture
def chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Chat, Chat]]:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    first, second = (Chat(AGENTUITY_THREAD_STORE=url) for _ in range(2))
    yield first, second
    for chat in (first, second):
        chat.client.finish_runs()
        eventually(partial(is_idle, chat))
        chat.threads._threads_at_work().store.close()


def is_idle(chat: Chat) -> bool:
    return not chat.runs.here._is_watching


def share_cookie(first: Chat, second: Chat) -> None:
    cookie = first.client.get_cookie("atid")
    assert cookie is not None
    second.client.set_cookie("atid", cookie.value)


def test_a_reader_in_another_process(chats: tuple[Chat, Chat]) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer, "sse")
    share_cookie(first, second)
    reader = second.client.get("/chat/stream", buffered=False)
    chunks = iter(reader.iter_encoded())
    received = next(chunks) + next(chunks)
    assert b'"a"' in received
    answer.say("b")
    received += next(chunks)
    answer.say("c").finish()
    received += b"".join(chunks)
    assert received == b"".join(response.iter_encoded())
    assert second.messages() == ["hello", "abc"]
    reader.close()


def test_a_stop_in_another_process(chats: tuple[Chat, Chat]) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer)
    share_cookie(first, second)
    assert second.client.post("/chat/stop").status_code == 202
    key = stored_key(first)
    log = first.runs.here.find_live(key)
    assert log is not None
    eventually(lambda: log.reason == "stopped")
    answer.say("b")
    response.close()
    first.client.finish_runs()
    assert second.status() == "stopped"


def stored_key(chat: Chat) -> RunKey:
    stored = chat.runs.find(chat.client.thread_id or "")
    assert stored is not None
    return stored.key


def begin_abandoned(chat: Chat, *, with_turn: bool) -> RunKey:
    """Begin a run whose process is gone; its turn may be taken and not renewed."""
    chat.client.run_to_end(chat.ask())
    thread_id = chat.client.thread_id
    assert thread_id is not None
    if with_turn:
        chat.runs.turns.lease_turn(thread_id, "gone")
    key = RunKey(thread_id, "abandoned")
    chat.runs.store.begin(NewRun(key, "sse", "gone", time.time(), 300.0))
    return key


@pytest.mark.parametrize("with_turn", [True, False])
def test_a_run_whose_process_is_gone_is_interrupted(
    chats: tuple[Chat, Chat], with_turn: bool
) -> None:
    chat = chats[0]
    begin_abandoned(chat, with_turn=with_turn)
    began = time.monotonic()
    events = events_of(chat.client.get("/chat/stream").data)
    assert [each.get("event") for each in events] == [None, "error", "end"]
    assert events[-1]["data"] == '{"status":"interrupted"}'
    assert not with_turn or time.monotonic() - began > 0.3
    # The turn that the reader has taken for that is given back.
    assert chat.ask().data == b"abc"


def test_output_that_was_lost_with_its_process(chats: tuple[Chat, Chat]) -> None:
    """A reader was ahead of the store when the worker was killed."""
    chat = chats[0]
    key = begin_abandoned(chat, with_turn=True)
    events = events_of(chat.client.get(f"/chat/stream?run={key.run_id}&after=99").data)
    assert [each.get("event") for each in events] == [None, "error", "end"]
    assert events[-1]["data"] == '{"status":"interrupted"}'


def test_a_reader_that_is_ahead_comes_again_to_another_process(chats: tuple[Chat, Chat]) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer, "sse")
    share_cookie(first, second)
    run = response.headers["X-Run-ID"]
    ending = threading.Thread(target=cut_when_followed, args=(second,))
    ending.start()
    found = second.client.get(f"/chat/stream?run={run}&after=999")
    ending.join()
    assert (found.status_code, events_of(found.data)) == (200, [{"retry": "1000"}])
    answer.finish()
    response.close()


def cut_when_followed(chat: Chat) -> None:
    eventually(lambda: bool(chat.runs.here._followed.keys))
    chat.runs.here.begin_to_end()


def test_a_view_sees_that_a_turn_is_over(chats: tuple[Chat, Chat]) -> None:
    begin_abandoned(chats[0], with_turn=False)
    assert chats[0].status() == "interrupted"


def test_a_turn_that_another_has_taken_over_ends_the_run(chats: tuple[Chat, Chat]) -> None:
    chat = chats[0]
    key = begin_abandoned(chat, with_turn=False)
    chat.runs.turns.lease_turn(key.thread_id, "another")
    assert b'"interrupted"' in chat.client.get("/chat/stream").data
    # It still has the turn.
    assert chat.runs.turns.lease_turn(key.thread_id, "third").holder == "another"
    chat.runs.turns.end_turn(key.thread_id, "another")


def test_readers_of_other_processes_go_when_the_process_ends(chats: tuple[Chat, Chat]) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer, "sse")
    share_cookie(first, second)
    reader = second.client.get("/chat/stream", buffered=False)
    chunks = iter(reader.iter_encoded())
    received = next(chunks) + next(chunks)
    second.runs.here.begin_to_end()
    # Without an end: the client comes again, and gets another process.
    received += b"".join(chunks)
    assert b"event: end" not in received
    answer.finish()
    response.close()
    reader.close()


def test_output_that_the_other_process_has_not_stored_yet(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chats
    answer = Answer().say("abc")
    response = first.ask(answer)
    share_cookie(first, second)
    run = response.headers["X-Run-ID"]
    eventually(lambda: first.runs.store.read(stored_key(first)) == b"abc")
    timer = threading.Timer(0.1, lambda: answer.say("def").finish())
    timer.start()
    assert second.client.get(f"/chat/stream?run={run}&after=5").data == b"f"
    timer.join()
    response.close()
    monkeypatch.setattr(reading, "catch_up_seconds", lambda: 0.05)
    assert second.client.get(f"/chat/stream?run={run}&after=7").status_code == 400


def test_a_reader_that_is_ahead_waits_longer_on_a_busy_machine(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds out that the process was killed is late as well."""
    chat = chats[0]
    key = begin_abandoned(chat, with_turn=True)
    log = chat.runs.here.open(key)
    assert isinstance(log, StoredLog)
    waits: list[float] = []

    def wait_long(after: int, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2 * leases.RENEWALS - 1:
            chat.runs.store.interrupt(key)
            log.update(chat.runs.store.look([key])[key])

    monkeypatch.setattr(log, "wait", wait_long)
    assert reading._valid_offset(log, 99) == 0
    # However long each of these took.
    assert max(waits) <= leases.renewal_seconds()
    log.close()


def test_a_store_that_fails_for_a_while(
    chats: tuple[Chat, Chat], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chat = chats[0]
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.01)
    store = chat.runs.store
    failing = threading.Event()
    append = type(store).append

    def fail_sometimes(self: Any, additions: Any) -> Any:
        # Some are applied although their outcome is not known.
        result = append(self, additions)
        if failing.is_set():
            raise StoreError("blocked")
        return result

    monkeypatch.setattr(type(store), "append", fail_sometimes)
    answer = Answer().say("a")
    response = chat.ask(answer)
    failing.set()
    answer.say("b", "c")
    eventually(lambda: "is not stored yet: blocked" in caplog.text)
    answer.say("d").finish()
    # The end is not there before it is stored.
    eventually(lambda: len(answer.said) == 4)
    assert chat.runs.here.find_live(stored_key(chat)) is not None
    failing.clear()
    assert chat.client.run_to_end(response) == b"abcd"
    assert store.read(stored_key(chat)) == b"abcd"
    assert caplog.text.count("is not stored yet") == 1


def test_a_turn_that_was_lost_saves_nothing(
    chats: tuple[Chat, Chat], caplog: pytest.LogCaptureFixture
) -> None:
    chat = chats[0]
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    thread_id = chat.client.thread_id
    assert thread_id is not None
    turns = chat.runs.turns
    # Another process has seen the turn stand still, for example while this one was suspended.
    other = Chat(AGENTUITY_THREAD_STORE="memory://")
    lease = turns.lease_turn(thread_id, "another")
    while lease.holder != "another":
        lease = turns.lease_turn(thread_id, "another", lease)
    answer.say("b").finish()
    data = b"".join(response.iter_encoded())
    chat.client.finish_runs()
    assert b'"interrupted"' in data
    assert chat.messages() == ["hello"]
    assert chat.status() == "interrupted"
    turns.end_turn(thread_id, "another")
    other.client.finish_runs()
