"""How long the SQLite store remembers that a thread was deleted."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ThreadGone
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import ID, OTHER, connected, require_consistent, write, written


def tombstones(path: Path) -> list[str]:
    with connected(path) as connection:
        rows = connection.execute("SELECT thread_id FROM tombstones ORDER BY 1").fetchall()
    return [thread_id for (thread_id,) in rows]


def test_another_process_finds_it(path: Path) -> None:
    began = time.monotonic()
    with closing(SQLiteStore(path)) as one, closing(SQLiteStore(path)) as other:
        written(one, Set("a", b"1"))
        other.delete(ID)
        with pytest.raises(ThreadGone) as caught:
            write(one, Push("l", b"1"), began=began)
        assert caught.value.thread_id == ID
        assert one.restore(ID) is None
        written(one, Push("l", b"1"))
        # Also when a new thread with the id has begun.
        with pytest.raises(ThreadGone):
            write(other, Push("l", b"1"), began=began)
        assert one.restore(ID) == b'{"state":{"l":[1]}}'


@pytest.mark.parametrize("ttl", [None, 1_000_000.0, 10.0])
def test_it_is_removed_after_an_hour(path: Path, ttl: float | None) -> None:
    with freeze_time("2030-01-01") as clock, closing(SQLiteStore(path, ttl=ttl)) as store:
        written(store, Set("a", b"1"))
        store.delete(ID)
        clock.tick(3_500)
        store.delete(OTHER)
        store.purge()
        assert tombstones(path) == [ID, OTHER]
        clock.tick(101)
        store.purge()
        assert tombstones(path) == [OTHER]
        # Without a call of purge(), writes remove them now and then.
        clock.tick(4_000)
        written(store, Set("a", b"1"))
        assert tombstones(path) == []
    require_consistent(path)


def test_the_hour_is_the_same_whether_it_was_removed_or_not(path: Path) -> None:
    with freeze_time("2030-01-01") as clock, closing(SQLiteStore(path)) as store:
        written(store, Set("a", b"1"))
        began = time.monotonic()
        store.delete(ID)
        clock.tick(3_599)
        with pytest.raises(ThreadGone):
            write(store, Set("a", b"1"), began=began)
        clock.tick(1)
        assert tombstones(path) == [ID]
        written(store, Set("a", b"1"), began=began)


def test_no_version_is_used_twice(path: Path) -> None:
    with freeze_time("2030-01-01") as clock, closing(SQLiteStore(path, ttl=100)) as store:
        versions = []
        for _ in range(3):
            for _ in range(2):
                began = time.monotonic()
                versions.append(written(store, Set("a", b"1"), began=began).version)
            store.delete(ID)
            # The clock of another process may be behind.
            clock.move_to("2029-12-31")
            store.delete(ID)
            clock.tick(1)
        assert versions == sorted(set(versions))


def test_a_thread_that_was_emptied_was_not_deleted(path: Path) -> None:
    began = time.monotonic()
    with closing(SQLiteStore(path)) as store:
        first = written(store, Set("a", b"1"))
        store.save(ID, b"", {})
        assert store.restore(ID) is None
        assert store.list().threads == []
        assert list(store.scan()) == []
        outcome = written(store, Push("l", b"1"), began=began, version=first.version)
        assert outcome.version > first.version
        assert store.restore(ID) == b'{"state":{"l":[1]}}'
