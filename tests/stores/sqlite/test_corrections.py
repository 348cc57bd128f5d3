"""Threads that were written before the clock was set back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from support.waiting import eventually

from flask_agentuity.document.operations import Set, SetMetadata
from flask_agentuity.stores.sqlite import purging
from flask_agentuity.stores.sqlite.corrections import MOST_CORRECTED
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Written

from .support import ID, OTHER, connected, messages, require_consistent, statements, write

DAY = 86_400
IDS = [f"thrd_{number:032x}" for number in range(120)]


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time("2026-01-01") as clock:
        yield clock


def now(clock: Any) -> float:
    return float(clock().timestamp())


def listed(store: SQLiteStore) -> list[str]:
    return [thread.id for thread in store.list(limit=1_000).threads]


def latest(path: Path) -> float:
    with connected(path) as connection:
        query = "SELECT max(max(created, updated, used, listed)) FROM threads"
        return float(connection.execute(query).fetchone()[0])


def write_ahead(store: SQLiteStore, clock: Any, ids: list[str]) -> None:
    """Write threads while the clock is a day ahead."""
    clock.tick(DAY)
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")], {"m": 1})
        clock.tick(0.001)
    clock.tick(-DAY)


def test_a_listing_corrects_many_in_their_order(store: SQLiteStore, path: Path, clock: Any) -> None:
    store.merge(ID, messages(1))
    write_ahead(store, clock, IDS)
    clock.tick(1)
    with statements(store) as traced:
        page = store.list(limit=1_000).threads
    assert [thread.id for thread in page] == [*reversed(IDS), ID]
    batches = "\n".join(traced).split("BEGIN IMMEDIATE")
    updates = [batch.count("UPDATE threads SET created") for batch in batches]
    assert max(updates) == MOST_CORRECTED and sum(updates) == len(IDS)
    clock.tick(1)
    store.merge(ID, messages(1))
    with statements(store) as traced:
        assert listed(store) == [ID, *reversed(IDS)]
    assert not any("UPDATE" in each for each in traced)
    assert latest(path) < now(clock) + 1
    require_consistent(path)


def test_a_write_to_another_thread_corrects(store: SQLiteStore, path: Path, clock: Any) -> None:
    write_ahead(store, clock, IDS)
    write(store, Set("a", b"1"))
    clock.tick(1)
    store.merge(OTHER, messages(1))
    eventually(lambda: latest(path) <= now(clock))
    assert listed(store) == [OTHER, ID, *reversed(IDS)]
    require_consistent(path)


def test_a_short_jump_corrects_itself(store: SQLiteStore, clock: Any) -> None:
    """The clocks of processes differ by nothing, and time servers correct small errors often."""
    clock.tick(30)
    store.merge(ID, messages(1))
    clock.tick(-30)
    with statements(store) as traced:
        assert listed(store) == [ID]
        store.purge()
    assert not any("UPDATE" in each for each in traced)


@pytest.mark.parametrize("column", ["created", "updated", "used", "listed"])
def test_a_damaged_time_stays_and_hides_nothing(
    store: SQLiteStore, path: Path, clock: Any, column: str
) -> None:
    write_ahead(store, clock, [OTHER])
    store.merge(ID, messages(1))
    with connected(path) as connection:
        connection.execute(f"UPDATE threads SET {column} = 'x' WHERE id = ?", (OTHER,))
    assert sorted(listed(store)) == sorted([ID, OTHER])
    assert store.purge() == 0
    with connected(path) as connection:
        query = f"SELECT {column} FROM threads WHERE id = ?"
        found = connection.execute(query, (OTHER,)).fetchone()
    if column != "listed":
        assert found == ("x",)


def test_a_request_that_has_read_before_the_correction_writes(
    store: SQLiteStore, path: Path, clock: Any
) -> None:
    write_ahead(store, clock, [ID])
    snapshot = store.read(ID)
    assert snapshot is not None
    assert listed(store) == [ID]
    clock.tick(1)
    written = write(
        store,
        SetMetadata(b'{"m":2}'),
        *messages(1),
        version=snapshot.version,
        seen=snapshot.seen,
    )
    assert isinstance(written, Written)
    (thread,) = store.list({"m": 2}).threads
    assert thread.updated == now(clock)
    require_consistent(path)


def test_a_listing_shows_the_threads_even_if_it_cannot_write(
    path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SQLiteStore(path, timeout=0)) as store:
        write_ahead(store, clock, [ID])
        with connected(path) as other:
            other.execute("BEGIN IMMEDIATE")
            assert listed(store) == [ID]
        assert listed(store) == [ID]


def test_a_listing_does_not_correct_for_long(
    store: SQLiteStore, path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "_MOST_CORRECTIONS", 1)
    write_ahead(store, clock, IDS)
    for _ in range(3):
        assert listed(store) == IDS[::-1]
    assert latest(path) < now(clock) + 1
