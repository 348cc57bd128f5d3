"""Expired threads are removed in the background, so that requests do not wait for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freezegun import freeze_time
from support.waiting import eventually

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores import pacing
from flask_agentuity.stores.sqlite import background_removal
from flask_agentuity.stores.sqlite.background_removal import BackgroundRemoval
from flask_agentuity.stores.sqlite.removal import Removal
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

from .support import ID, connected, messages, require_consistent, size_of, statements

IDS = [f"thrd_{number:032x}" for number in range(45)]


def left(path: Path) -> int:
    with connected(path) as connection:
        return int(connection.execute("SELECT count(*) FROM threads").fetchone()[0])


def free_part(path: Path) -> float:
    with connected(path) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return float(free / pages)


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time("2026-01-01") as clock:
        yield clock


@pytest.fixture
def store(path: Path, clock: Any) -> Iterator[SQLiteStore]:
    """A store with 45 threads that have expired."""
    with closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in IDS:
            store.merge(thread_id, [Set("a", b"1")])
        clock.tick(2000)
        yield store


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread only waits, until the store is closed."""
    monkeypatch.setattr(background_removal, "_LOOK", (600.0, 600.0))


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "flask_agentuity-removal"]


def test_one_write_causes_the_removal_of_all(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    eventually(lambda: left(path) == 1)
    eventually(lambda: not threads())
    assert store.restore(ID) == b'{"state":{"a":1}}'


@pytest.mark.usefixtures("waiting")
def test_only_the_first_write_removes_some_itself(
    store: SQLiteStore, path: Path, clock: Any
) -> None:
    counts = []
    for _ in range(4):
        store.merge(ID, [Set("a", b"1")])
        counts.append(left(path))
        clock.tick(1)
    assert counts == [36] * 4


def test_what_expires_later_is_left(
    store: SQLiteStore, path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the request counts: another one, in the thread, may be wrong."""
    is_alone = BackgroundRemoval._is_alone

    def look(self: BackgroundRemoval) -> bool:
        clock.tick(5000)
        return is_alone(self)

    monkeypatch.setattr(BackgroundRemoval, "_is_alone", look)
    store.merge(ID, [Set("a", b"1")])
    eventually(lambda: not threads())
    assert left(path) == 1


@pytest.mark.usefixtures("waiting")
def test_closing_ends_it(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    assert threads()
    store.close()
    assert not threads()
    assert left(path) == 36
    with closing(SQLiteStore(path, ttl=1000)) as other:
        assert other.purge() == 35


@pytest.mark.parametrize("cause", ["not started", "not run"])
def test_without_threads_each_write_removes_some(
    store: SQLiteStore, path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """Stands for uWSGI without threads, and for a process that may have no more."""

    def start() -> None:
        if cause == "not started":
            raise RuntimeError("can't start new thread")

    thread = SimpleNamespace(start=start, join=lambda: None)
    fake = SimpleNamespace(
        Thread=lambda **options: thread, Lock=threading.Lock, Event=threading.Event
    )
    monkeypatch.setattr(background_removal, "threading", fake)
    counts = []
    for _ in range(5):
        store.merge(ID, [Set("a", b"1")])
        counts.append(left(path))
        if len(counts) == 1:
            clock.tick(61)
    assert counts == [36, 26, 16, 6, 1]


def test_space_that_is_not_needed_is_returned(path: Path, clock: Any) -> None:
    """A tenth of the file stays free for new threads."""
    with closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in IDS[:20]:
            store.merge(thread_id, messages(500))
        before = size_of(path)
        clock.tick(1001)
        store.merge(ID, messages(500))
        eventually(lambda: left(path) == 1)
        eventually(lambda: not threads())
        assert size_of(path) < before / 5
        assert 0.05 < free_part(path) <= 0.1
    require_consistent(path)


class Looking(BackgroundRemoval):
    """What removes in the background, while *other* acts during the time of its look."""

    def __init__(self, store: SQLiteStore, other: Any) -> None:
        super().__init__(Removal(store._connections, store.ttl))
        self._now = time.time()
        self.other = other

    def _wait(self, seconds: float) -> None:
        self.other()


def test_others_that_remove_threads_are_noticed(store: SQLiteStore, path: Path) -> None:
    with closing(SQLiteStore(path, ttl=1000)) as other:
        removing = Removal(other._connections, 1000)
        assert not Looking(store, lambda: removing.remove_some(time.time()))._is_alone()
        assert Looking(store, lambda: None)._is_alone()
        other._purging.due = float("inf")
        assert Looking(store, lambda: other.merge(ID, messages(1)))._is_alone()
        # The last ones.
        assert not Looking(store, other.purge)._is_alone()
        assert left(path) == 1


def test_others_that_return_space_are_noticed(path: Path, clock: Any) -> None:
    with closing(SQLiteStore(path)) as store, closing(SQLiteStore(path)) as other:
        store.merge(ID, messages(2_000))
        store.delete(ID)
        removing = Removal(other._connections, None)
        assert not Looking(store, lambda: removing.free_some(0.0))._is_alone()
        assert Looking(store, lambda: None)._is_alone()


def test_it_is_left_to_others(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_removal, "_AWAY", (600.0, 600.0))
    monkeypatch.setattr(BackgroundRemoval, "_is_alone", lambda self: False)
    waits: list[float] = []
    wait = BackgroundRemoval._wait

    def note(self: BackgroundRemoval, seconds: float) -> None:
        waits.append(seconds)
        wait(self, seconds)

    monkeypatch.setattr(BackgroundRemoval, "_wait", note)
    store.merge(ID, [Set("a", b"1")])
    eventually(lambda: waits)
    assert waits == [600.0]
    assert left(path) == 36


def test_a_failure_ends_it_until_the_next_look(
    store: SQLiteStore, path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Removal, now: float) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Removal, "mark", fail)
        store.merge(ID, [Set("a", b"1")])
        eventually(lambda: not threads())
        assert left(path) == 36
    clock.tick(61)
    store.merge(ID, [Set("a", b"1")])
    eventually(lambda: left(path) == 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("waiting")
def test_a_forked_process_removes_as_well(
    store: SQLiteStore, path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.merge(ID, [Set("a", b"1")])
    assert threads()
    clock.tick(61)
    if (child := os.fork()) == 0:
        monkeypatch.setattr(background_removal, "_LOOK", (0.0, 0.0))
        store.merge(ID, [Set("a", b"2")])
        eventually(lambda: left(path) == 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert left(path) == 1


def test_a_transaction_that_takes_long_removes_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is not in the system's memory takes long to remove, and others wait meanwhile."""
    now = iter(range(1_000_000))
    slow = SimpleNamespace(sleep=lambda seconds: None, perf_counter=lambda: next(now) * 0.0006)
    with freeze_time("2026-01-01") as clock, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in IDS:
            store.merge(thread_id, messages(30))
        clock.tick(2000)
        monkeypatch.setattr(pacing, "time", slow)
        with statements(store) as traced:
            assert store.purge() == len(IDS)
        batches = "\n".join(traced).split("BEGIN IMMEDIATE")
        assert max(batch.count("DELETE FROM threads") for batch in batches) == 2
        assert max(batch.count("incremental_vacuum") for batch in batches) == 2
    require_consistent(path)


@pytest.mark.parametrize("before", ["ON", "FAST", "OFF"])
def test_what_a_removal_sets_for_its_connection_ends_with_it(path: Path, before: str) -> None:
    def settings(connection: Any) -> list[int]:
        names = "secure_delete", "wal_autocheckpoint"
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    with freeze_time("2026-01-01") as clock, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in IDS:
            store.merge(thread_id, messages(1))
        (connection,) = store._connections._idle
        connection.execute(f"PRAGMA secure_delete = {before}")
        usual = settings(connection)
        clock.tick(2000)
        with statements(store) as traced:
            assert store.purge() == len(IDS)
        # What is removed goes back to the disk, so it is not overwritten first.
        assert ("PRAGMA secure_delete = FAST" in traced) == (before == "ON")
        assert settings(connection) == usual
        with pytest.raises(ZeroDivisionError), store._purging._removal._transaction():
            raise ZeroDivisionError
        assert settings(connection) == usual
        assert not connection.in_transaction


def test_the_end_of_a_transaction_does_not_copy_the_log(store: SQLiteStore, path: Path) -> None:
    """The other threads of the process wait for it."""
    with store._connections.read() as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 1")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with freeze_time("2027-01-01"):
        store._purging._removal.remove_some(time.time())
    assert path.read_bytes() == before
    store._purging._removal.copy_log()
    assert path.read_bytes() != before


def test_erasing_removes_few_at_a_time_and_pauses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1_000_000))
    pauses: list[float] = []
    slow = SimpleNamespace(sleep=pauses.append, perf_counter=lambda: next(now) * 0.0006)
    with closing(SQLiteStore(path)) as store:
        for thread_id in IDS:
            store.write(thread_id, Write(messages(30), owner="ada"))
        monkeypatch.setattr(pacing, "time", slow)
        with statements(store) as traced:
            assert store.erase("ada") == len(IDS)
        batches = "\n".join(traced).split("BEGIN IMMEDIATE")
        assert max(batch.count("DELETE FROM threads") for batch in batches) == 2
        assert len(pauses) > len(IDS) / 2
    require_consistent(path)
