"""Runs in the SQLite file: what stays there, and what an append costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Set
from flask_agentuity.stores.runs import Addition, RunKey, RunStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.testing.conformance.runs import KEEP, begin

from .support import ID, connected, statements


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path)) as store:
        yield store


def runs_of(store: SQLiteStore) -> RunStore:
    assert store.runs is not None
    return store.runs


def rows(path: Path) -> tuple[int, int]:
    """Return how many runs and chunks are in the file."""
    with connected(path) as connection:
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        (chunks,) = connection.execute("SELECT count(*) FROM run_chunks").fetchone()
    return runs, chunks


def keys_of(count: int) -> list[RunKey]:
    return [RunKey(f"thrd_{number:032x}", "r1") for number in range(count)]


def test_nothing_of_a_run_is_left_when_its_thread_is_deleted(
    store: SQLiteStore, path: Path
) -> None:
    store.merge(ID, [Set("a", b"1")])
    key = begin(runs_of(store), ID)
    other = begin(runs_of(store), "thrd_" + "1" * 32)
    for each in (key, other):
        runs_of(store).append([Addition(each, 0, b"abc")])
    store.delete(ID)
    assert rows(path) == (1, 1)
    assert runs_of(store).read(other) == b"abc"


@pytest.mark.parametrize("way", ["purge", "begin", "write"])
def test_expired_runs_are_removed(store: SQLiteStore, path: Path, way: str) -> None:
    with freeze_time("2030-01-01") as clock:
        for key in keys_of(12 if way == "purge" else 4):
            begin(runs_of(store), key.thread_id)
            runs_of(store).append(
                [
                    Addition(key, 0, b"abc"),
                ]
            )
            runs_of(store).append([Addition(key, 3, b"def", "done")])
        assert rows(path)[0] * 2 == rows(path)[1] > 0
        clock.tick(KEEP + 100)
        match way:
            case "purge":
                assert store.purge() == 0
            case "begin":
                begin(runs_of(store), ID)
            case _:
                store.merge(ID, [Set("a", b"1")])
        assert rows(path) == ((1, 0) if way == "begin" else (0, 0))


def test_a_clock_that_jumps_by_a_day_ends_no_run(store: SQLiteStore) -> None:
    with freeze_time("2030-01-01") as clock:
        key = begin(runs_of(store), ID)
        at = 0
        for seconds in (3_600, 86_400, -86_400, -7_200):
            clock.tick(seconds)
            store.purge()
            assert not runs_of(store).append([Addition(key, at, b"abc")])
            at += 3
        assert runs_of(store).read(key) == b"abc" * 4


def test_appending_is_one_transaction_of_two_statements_for_each_run(store: SQLiteStore) -> None:
    runs = runs_of(store)
    keys = keys_of(50)
    for key in keys:
        begin(runs, key.thread_id)
    runs.append([Addition(key, 0, b"x" * 100) for key in keys])
    with statements(store) as traced:
        assert not runs.append([Addition(key, 100, b"x" * 100) for key in keys])
    assert len(traced) == 2 * 50 + len(["BEGIN", "the row that watches look at", "COMMIT"])
    # A repeated addition is as good as the first.
    assert not runs.append([Addition(key, 0, b"x" * 100) for key in keys])


def test_small_additions_fill_chunks_of_a_page(store: SQLiteStore, path: Path) -> None:
    runs = runs_of(store)
    key = begin(runs, ID)
    written = b""
    for number in range(300):
        part = bytes(range(number % 100)) + b"\0\xff"
        assert not runs.append([Addition(key, len(written), part)])
        written += part
    whole = b"y" * 10_000
    assert not runs.append([Addition(key, len(written), whole)])
    assert not runs.append([Addition(key, len(written) + 10_000, b"z")])
    written += whole + b"z"
    assert runs.read(key) == written
    for after in range(0, len(written), 97):
        assert runs.read(key, after, 300) == written[after : after + 300]
    assert rows(path)[1] <= len(written) // 3_700 + 4


def test_a_watch_looks_at_runs_only_after_one_has_changed(store: SQLiteStore) -> None:
    runs = runs_of(store)
    key = begin(runs, ID)
    with runs.watch() as watch:
        watch.wait([key], 0)
        with statements(store) as traced:
            watch.wait([key], 0.02)
            store.merge(ID, [Set("a", b"1")])
            traced.clear()
            watch.wait([key], 0.02)
        assert traced
        assert set(traced) == {"SELECT count FROM run_changes"}


def test_the_number_of_a_removed_run_can_be_used_again(store: SQLiteStore) -> None:
    runs = runs_of(store)
    first = begin(runs, ID)
    runs.append([Addition(first, 0, b"secret of another")])
    store.delete(ID)
    second = begin(runs, "thrd_" + "1" * 32)
    assert runs.read(second) == b""
    runs.append([Addition(second, 0, b"mine")])
    assert runs.read(second, 0) == b"mine"
    assert runs.read(first) == b""
    assert time.time() - (runs.look([second])[second].started) < 60
