"""When threads of the SQLite store expire, and when they are removed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import (
    ID,
    OTHER,
    connected,
    items_of,
    messages,
    require_consistent,
    size_of,
    statements,
)


def updates(traced: list[str]) -> list[str]:
    return [statement for statement in traced if statement.startswith("UPDATE threads SET used")]


def test_a_read_renews_a_thread_at_most_once_in_a_tenth_of_its_time(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        store.merge(ID, [Set("a", b"1")])
        for elapsed, renews in [(50, 0), (49, 0), (2, 1), (50, 0), (49, 0), (2, 1), (100, 0)]:
            time.tick(elapsed)
            with statements(store) as traced:
                assert store.read(ID) is not None
            assert len(updates(traced)) == renews
        for _ in range(30):
            time.tick(900)
            assert store.read(ID) is not None
        time.tick(1001)
        assert store.read(ID) is None
        assert store.restore(ID) is None


def test_a_thread_that_never_expires(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=None)) as store:
        store.merge(ID, [Set("a", b"1")])
        time.tick(100 * 365 * 86_400)
        assert store.read(ID) is not None
        assert store.purge() == 0


def test_a_write_to_an_expired_thread_starts_afresh(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=10)) as store:
        store.merge(ID, [Set("a", b"1")], {"m": 1})
        time.tick(11)
        store.merge(ID, [Set("b", b"2")])
        assert store.restore(ID) == b'{"state":{"b":2}}'


def test_expired_threads_are_purged_in_small_batches(path: Path) -> None:
    ids = [f"thrd_{number:032x}" for number in range(53)]
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in ids:
            store.merge(thread_id, messages(30))
        time.tick(900)
        store.merge(ID, messages(30))
        time.tick(101)
        with statements(store) as traced:
            assert store.purge() == 53
        removing = [each for each in traced if each.startswith("DELETE FROM threads")]
        assert len(removing) == 53
        # Threads of 5 kilobytes each: ten at a time.
        batches = "\n".join(traced).split("BEGIN IMMEDIATE")
        assert max(batch.count("DELETE FROM threads") for batch in batches) == 10
        assert store.read(ID) is not None
    with connected(path) as connection:
        assert connection.execute("SELECT count(*) FROM threads").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM thread_entries").fetchone() == (1,)
        (left,) = connection.execute("SELECT count(DISTINCT number >> 24) FROM segments").fetchone()
        assert left == 1


def test_a_thread_is_read_also_when_its_use_cannot_be_noted(path: Path) -> None:
    with (
        freeze_time("2026-01-01") as time,
        closing(SQLiteStore(path, ttl=1000, timeout=0)) as store,
    ):
        store.merge(ID, [Set("a", b"1")])
        time.tick(500)
        with connected(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert store.read(ID) is not None


def test_large_threads_are_purged_one_by_one(path: Path) -> None:
    """What one transaction removes is limited in bytes."""
    ids = [f"thrd_{number:032x}" for number in range(5)]
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in ids:
            store.merge(thread_id, messages(1_000))
        time.tick(1001)
        with statements(store) as traced:
            assert store.purge() == 5
        batches = "\n".join(traced).split("BEGIN IMMEDIATE")
        assert max(batch.count("DELETE FROM threads") for batch in batches) == 1


def test_a_purge_returns_space_to_the_disk(path: Path) -> None:
    """In small steps: what one transaction returns is limited."""
    ids = [f"thrd_{number:032x}" for number in range(20)]
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in ids:
            store.merge(thread_id, messages(500))
        time.tick(1001)
        # Not in the background.
        store._purging.due = float("inf")
        store.merge(ID, messages(500))
        before = size_of(path)
        with statements(store) as traced:
            assert store.purge() == len(ids)
        after = size_of(path)
        assert after < before / 10
        assert path.stat().st_size < before / 10 + 100_000
        batches = "\n".join(traced).split("BEGIN IMMEDIATE")
        assert max(batch.count("incremental_vacuum") for batch in batches) == 64
        assert len(items_of(store)) == 500
    require_consistent(path)


@pytest.mark.parametrize("ttl", [None, 1000.0])
@pytest.mark.parametrize("column", ["used", "updated"])
def test_a_damaged_time_is_named_by_reads_and_writes(
    path: Path, column: str, ttl: float | None
) -> None:
    with closing(SQLiteStore(path, ttl=ttl)) as store:
        store.merge(ID, messages(1))
        with connected(path) as other:
            other.execute(f"UPDATE threads SET {column} = 'x'")
        with pytest.raises(StoreError, match=r"is damaged \(a time is not a number\)"):
            store.read(ID)
        if column == "used":
            with pytest.raises(StoreError, match=r"is damaged \(a time is not a number\)"):
                store.merge(ID, messages(1))


@pytest.mark.parametrize("damaged", ["'x'", "x'ff'"])
def test_a_damaged_size_does_not_stop_the_removal(path: Path, damaged: str) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        store.merge(ID, messages(1))
        with connected(path) as other:
            other.execute(f"UPDATE threads SET entries_size = {damaged}")
        time.tick(2000)
        store.merge(OTHER, [Set("a", b"1")])
        assert store.purge() == 0
        with connected(path) as other:
            assert other.execute("SELECT id FROM threads").fetchall() == [(OTHER,)]
