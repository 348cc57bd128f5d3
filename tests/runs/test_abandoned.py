"""Runs whose process was killed, and who finds that out. See test_following.py."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import g
from support.leasing import ID, Leasing
from support.waiting import eventually

from flask_agentuity.errors import StoreError
from flask_agentuity.stores import leases
from flask_agentuity.stores.leases import Lease
from flask_agentuity.stores.runs import RunKey
from flask_agentuity.thread.runs import abandoned

from .answers import Answer, Chat
from .test_following import begin_abandoned, chats, share_cookie

__all__ = ["chats"]


def wait_for_interruption(chat: Chat, key: RunKey) -> None:
    """Wait without further requests."""
    eventually(lambda: chat.runs.store.look([key])[key].status == "interrupted")


def watched_in(chat: Chat) -> list[str]:
    """Return the threads whose turns are watched."""
    watcher = abandoned._running.get().watchers.get(id(chat.runs.turns))
    return list(watcher.watched) if watcher else []


def test_a_look_at_the_status_finds_a_run_whose_process_was_killed(
    chats: tuple[Chat, Chat], caplog: pytest.LogCaptureFixture
) -> None:
    chat, other = chats
    caplog.set_level(logging.INFO, "flask_agentuity.runs")
    key = begin_abandoned(chat, with_turn=True)
    share_cookie(chat, other)
    # Only the next seconds can show that the turn is not renewed.
    assert chat.status() == "running"
    wait_for_interruption(chat, key)
    # A look in another process finds it at once.
    assert other.status() == chat.status() == "interrupted"
    assert chat.client.post("/chat/stop").status_code == 204
    assert chat.ask().data == b"abc"
    eventually(lambda: f"The run of thread {key.thread_id} is interrupted" in caplog.text)
    eventually(lambda: not watched_in(chat))


def test_asking_a_killed_run_to_stop_finds_that_too(chats: tuple[Chat, Chat]) -> None:
    chat = chats[0]
    key = begin_abandoned(chat, with_turn=True)
    assert chat.client.post("/chat/stop").status_code == 202
    wait_for_interruption(chat, key)
    assert chat.client.post("/chat/stop").status_code == 204


def test_a_message_that_is_rejected_finds_that_too(chats: tuple[Chat, Chat]) -> None:
    chat, other = chats
    key = begin_abandoned(chat, with_turn=True)
    share_cookie(chat, other)
    assert chat.ask().status_code == 409
    wait_for_interruption(chat, key)
    # The turn is given back a moment later.
    eventually(lambda: not watched_in(chat))
    # No other process has looked before.
    assert other.ask().data == b"abc"


@pytest.mark.parametrize("path", ["/chat", "/free"])
def test_a_message_long_after_the_kill_waits_for_certainty(
    chats: tuple[Chat, Chat], tmp_path: Path, path: str
) -> None:
    """Also without one_at_a_time()."""
    chat = chats[0]
    chat.app.add_url_rule("/free", view_func=chat.stream, methods=["POST"])
    begin_abandoned(chat, with_turn=True)
    with closing(sqlite3.connect(tmp_path / "threads.db")) as connection, connection:
        connection.execute("UPDATE leases SET renewed = renewed - 3600")
    assert chat.ask(path=path).data == b"abc"


def test_a_run_that_goes_on_is_watched_for_a_while(chats: tuple[Chat, Chat]) -> None:
    first, second = chats
    answer = Answer().say("a")
    response = first.ask(answer)
    share_cookie(first, second)
    assert second.status() == "running"
    assert watched_in(second) == [first.client.thread_id]
    # In three times the time of a lease.
    eventually(lambda: not watched_in(second))
    assert second.status() == "running"
    assert second.ask().status_code == 409
    answer.finish()
    assert response.data == b"a"
    assert second.status() == "done"
    # What has ended is not watched, nor are runs of this process.
    eventually(lambda: not watched_in(second))
    assert not watched_in(first)


def test_a_view_that_stands_still_keeps_its_turn(chats: tuple[Chat, Chat]) -> None:
    """It may only be suspended, and saves what it has done if no other request wants the turn."""
    first, second = chats
    first.client.run_to_end(first.ask())
    share_cookie(first, second)
    thread_id = first.client.thread_id or ""
    first.runs.turns.lease_turn(thread_id, "suspended")
    assert second.ask().status_code == 409
    assert not watched_in(second)
    first.runs.turns.end_turn(thread_id, "suspended")


def test_a_busy_view_of_an_app_without_runs_looks_for_none() -> None:
    chat = Chat()
    entered, leave = threading.Event(), threading.Event()

    @chat.app.post("/busy")
    @chat.threads.one_at_a_time(on_busy="reject")
    def busy() -> str:
        g.thread.state["x"] = 1
        entered.set()
        leave.wait(30)
        return ""

    assert chat.client.get("/messages").status_code == 200
    chat.client.run_to_end(chat.ask())
    other = chat.another_visitor()
    cookie = chat.client.get_cookie("atid")
    assert cookie is not None
    other.set_cookie("atid", cookie.value)
    thread = threading.Thread(target=lambda: chat.client.post("/busy"))
    thread.start()
    assert entered.wait(30)
    assert other.post("/busy").status_code == 409
    leave.set()
    thread.join()
    assert not watched_in(chat)


class Watched(Leasing):
    """A store whose looks fail when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[Sequence[str]] = []
        self.failing: list[Exception] = []

    def look_at_turns(self, thread_ids: Sequence[str]) -> Mapping[str, Lease]:
        self.looks.append(thread_ids)
        if self.failing:
            raise self.failing.pop()
        return super().look_at_turns(thread_ids)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.1)
    return Watched()


def is_watching(store: Watched) -> bool:
    return id(store) in abandoned._running.get().watchers


def watch(store: Watched) -> Any:
    return abandoned._running.get().watchers[id(store)]


def test_a_turn_is_given_back_when_it_was_taken_over(store: Watched) -> None:
    abandoned.interrupt_if_abandoned(store, store.take_over("killed"))
    eventually(lambda: not is_watching(store), "nothing is watched any more")
    assert store.is_free
    assert len(store.looks) >= leases.RENEWALS


def test_a_store_that_fails_for_a_while(store: Watched) -> None:
    store.failing = [StoreError("it is down"), ValueError("a bug")] * 3
    abandoned.interrupt_if_abandoned(store, store.take_over("killed"))
    eventually(lambda: not is_watching(store), "nothing is watched any more")
    assert store.is_free
    assert len(store.looks) >= 6 + leases.RENEWALS


def test_a_turn_that_another_has_taken_is_not_judged_by_the_former_one(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    abandoned.interrupt_if_abandoned(store, store.take_over("killed"))
    known = watch(store).watched[ID]
    known.watch._still = 50.0
    other = store.take_over("alive")
    abandoned.interrupt_if_abandoned(store, other)
    assert watch(store).watched[ID].watch._still == 0.0
    watch(store)._look({ID: known})
    # Its successor is still watched.
    assert watch(store).watched[ID].lease == other
    store.end_turn(ID, "alive")
    watch(store)._look(dict(watch(store).watched))
    assert not watch(store).watched


def test_no_more_than_some_are_watched(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    monkeypatch.setattr(abandoned, "_MOST_WATCHED", 2)
    for name in "a", "b", "a", "c":
        abandoned.interrupt_if_abandoned(store, Lease(name, "killed", 1))
    # The one that was found longest ago has given way.
    assert list(watch(store).watched) == ["a", "c"]


def test_a_turn_that_is_renewed_is_forgotten(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    held = store.take_over("alive")
    abandoned.interrupt_if_abandoned(store, held)
    known = watch(store).watched[ID]
    now = known.until + 1
    # Nothing is known of one that stands still.
    known.watch._still = 30.0
    watch(store)._forget(now)
    assert watch(store).watched
    store.renew_turns([held])
    watch(store)._look(dict(watch(store).watched))
    watch(store)._forget(now)
    assert not watch(store).watched
    store.end_turn(ID, "alive")


def test_stores_of_version_1_end_turns_themselves(store: Watched) -> None:
    abandoned.interrupt_if_abandoned(store, Lease(ID, ""))
    assert not is_watching(store)
