"""Waiting for other threads and other processes that write to the SQLite file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import ID, connected, messages, statements


def test_threads_of_one_process_write_one_after_the_other(path: Path) -> None:
    """The next one is woken; SQLite itself would look again after up to 100 milliseconds."""
    with closing(SQLiteStore(path, timeout=0.05)) as store:
        store.merge(ID, messages(1))
        with store._connections.transaction(), pytest.raises(StoreError, match="of this process"):
            store.merge(ID, messages(1))
        store.merge(ID, messages(1))
        done: list[int] = []
        store._connections._timeout = 30.0

        def write() -> None:
            store.merge(ID, messages(1))
            done.append(1)

        writers = [threading.Thread(target=write) for _ in range(4)]
        with store._connections.transaction():
            for writer in writers:
                writer.start()
            # Only the one that writes has a connection.
            assert len(store._connections._in_use) == 1
            assert done == []
        for writer in writers:
            writer.join(30)
        assert done == [1] * 4


def test_a_busy_database_is_waited_for(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    with connected(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=store.merge, args=(ID, [Set("a", b"2")]))
        writer.start()
        # A read does not wait for a writer.
        assert store.restore(ID) == b'{"state":{"a":1}}'
        connection.execute("COMMIT")
        writer.join(30)
    assert store.restore(ID) == b'{"state":{"a":2}}'


def test_a_database_that_stays_busy_is_a_store_error(path: Path) -> None:
    with closing(SQLiteStore(path, timeout=0.05)) as store:
        store.merge(ID, [Set("a", b"1")])
        with connected(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            acts: list[Callable[[], object]] = [
                lambda: store.merge(ID, [Set("a", b"2")]),
                lambda: store.save(ID, b"{}"),
                lambda: store.delete(ID),
            ]
            for act in acts:
                with pytest.raises(StoreError, match=f"{ID}.*locked") as caught:
                    act()
                assert str(path) in str(caught.value)
            assert store.restore(ID) == b'{"state":{"a":1}}'
        store.merge(ID, [Set("a", b"2")])
        assert store.restore(ID) == b'{"state":{"a":2}}'


def test_the_timeout_is_one_for_threads_and_processes_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, is_waiting = [100.0, 104.0, 105.0], threading.Event()

    def monotonic() -> float:
        is_waiting.set()
        return times.pop(0)

    failed: list[StoreError] = []

    def delete() -> None:
        with pytest.raises(StoreError, match="locked") as caught:
            store.delete(ID)
        failed.append(caught.value)

    with closing(SQLiteStore(path, timeout=5)) as store, connected(path) as other:
        store.merge(ID, messages(1))
        monkeypatch.setattr(
            "flask_agentuity.stores.sqlite.connections.time", SimpleNamespace(monotonic=monotonic)
        )
        other.execute("BEGIN IMMEDIATE")
        with statements(store) as traced:
            with store._connections.writing:
                writer = threading.Thread(target=delete)
                writer.start()
                assert is_waiting.wait(30)
            # Four of the five seconds have gone by.
            writer.join(30)
        assert traced == ["BEGIN IMMEDIATE"] * 2
        assert len(failed) == 1


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_timeout_is_not_exceeded(path: Path, mode: str) -> None:
    """Without a write-ahead log, SQLite itself waits for the whole timeout."""
    with closing(SQLiteStore(path, timeout=0.2)) as store, connected(path) as other:
        store.merge(ID, messages(1))
        (connection,) = store._connections._idle
        other.execute("BEGIN IMMEDIATE")
        if mode == "delete":
            connection.execute("PRAGMA busy_timeout = 200")
        with statements(store) as traced, pytest.raises(StoreError, match="locked"):
            store.delete(ID)
        assert (traced.count("BEGIN IMMEDIATE") == 1) == (mode == "delete")


def test_who_waits_looks_often(store: SQLiteStore, path: Path) -> None:
    """SQLite's own pauses grow to 100 milliseconds, in which others take turn after turn."""
    store.merge(ID, [Set("a", b"1")])
    with statements(store) as traced, connected(path) as other:
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=store.merge, args=(ID, [Set("a", b"2")]))
        writer.start()
        while traced.count("BEGIN IMMEDIATE") < 10:
            assert writer.is_alive()
            time.sleep(0.001)
        other.execute("COMMIT")
        writer.join(30)
    assert store.restore(ID) == b'{"state":{"a":2}}'
