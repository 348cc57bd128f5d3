"""Stores and callers of version 1: take_turn() with a time, and end_turn()."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.leasing import is_renewing

from flask_agentuity.document.operations import Set
from flask_agentuity.stores import ThreadStore, leases
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write
from flask_agentuity.thread.turns import take_turn

ID = "thrd_0123456789abcdef0123456789abcdef"


class OwnTurns(ThreadStore):
    """Keeps turns in its own way, as stores of version 1 do."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.turns: dict[str, tuple[str, float]] = {}
        self.asked: list[float] = []

    def restore(self, thread_id: str) -> bytes | None:
        return self.documents.get(thread_id)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self.documents[thread_id] = document

    def delete(self, thread_id: str) -> None:
        self.documents.pop(thread_id, None)

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        self.asked.append(seconds)
        current, until = self.turns.get(thread_id, (holder, 0.0))
        if current != holder and until > time.time():
            return False
        self.turns[thread_id] = holder, time.time() + seconds
        return True

    def end_turn(self, thread_id: str, holder: str) -> None:
        if self.turns.get(thread_id, ("", 0.0))[0] == holder:
            del self.turns[thread_id]


def test_a_store_with_its_own_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.05)
    store = OwnTurns()
    turn = take_turn(store, ID, 0)
    assert turn is not None
    assert take_turn(store, ID, 0) is None
    deadline = time.monotonic() + 30
    while len(store.asked) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Saves are not fenced.
    assert turn.token is None
    store.write(ID, Write([Set("a", b"1")], turn=turn.token))
    assert take_turn(store, ID, 0.1) is None
    turn.end()
    while is_renewing(store):
        time.sleep(0.01)
    assert store.turns == {}
    # The store itself says when the turn of a killed process is over.
    assert min(store.asked) >= 5
    store.turns[ID] = "killed", time.time() + 0.2
    again = take_turn(store, ID, 30.0)
    assert again is not None
    assert not again.is_lost
    again.end()


def test_those_who_wait_for_such_a_store_are_limited() -> None:
    store = OwnTurns()
    store.turns[ID] = "another", time.time() + 60
    began: list[float] = []

    def come_too(seconds: float) -> None:
        began.append(seconds)
        if len(began) == 1:
            assert take_turn(store, ID, 5.0, most_waiting=1) is None
            del store.turns[ID]

    turn = take_turn(store, ID, 30.0, most_waiting=1, sleep=come_too)
    assert turn is not None
    assert len(began) == 1
    turn.end()
    store.turns[ID] = "another", time.time() + 60
    # The first no longer waits.
    assert take_turn(store, ID, 0.1, most_waiting=1) is None
    assert take_turn(store, ID, 0.1, most_waiting=1) is None


class Noting(SQLiteStore):
    """Extends a method of version 1 of a store of this package."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.takers: list[str] = []

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        self.takers.append(holder)
        return super().take_turn(thread_id, holder, seconds)


def test_a_store_that_extends_a_method_of_version_1(tmp_path: Path) -> None:
    store, other = Noting(tmp_path / "threads.db"), SQLiteStore(tmp_path / "threads.db")
    turn = take_turn(store, ID, 0)
    assert turn is not None
    assert store.takers
    assert take_turn(store, ID, 0) is None
    assert take_turn(other, ID, 0) is None
    turn.end()
    another = take_turn(other, ID, 0)
    assert another is not None
    assert take_turn(store, ID, 0) is None
    another.end()
    store.close()
    other.close()


@pytest.mark.parametrize("make", [MemoryStore, SQLiteStore])
def test_callers_of_version_1(make: type, tmp_path: Path) -> None:
    store = make() if make is MemoryStore else make(tmp_path / "threads.db")
    assert store.take_turn(ID, "a", 60)
    assert not store.take_turn(ID, "b", 60)
    assert store.take_turn(ID, "a", 60)
    store.end_turn(ID, "b")
    assert not store.take_turn(ID, "b", 60)
    store.end_turn(ID, "a")
    assert store.take_turn(ID, "b", 60)
    # Without renewals it is over after the time that its next holder gives.
    deadline = time.monotonic() + 30
    while not store.take_turn(ID, "c", 0.05):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not store.take_turn(ID, "b", 60)
    store.close()
