"""Listings cost what their pages hold, and writes do not pay for them."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.document.operations import Push, Set, SetMetadata
from flask_agentuity.stores.listing import ListedThread, Query, encode_cursor
from flask_agentuity.stores.sqlite import listing, ordering
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

from .support import connected, require_consistent, statements

NOW = time.time()


def id_of(number: int) -> str:
    return f"thrd_{number:032x}"


def fill(path: Path, count: int) -> None:
    """Fill a file with threads, of which each second belongs to ada and is red."""
    with closing(SQLiteStore(path)) as store:
        store.read(id_of(0))
    chance = random.Random(count)
    with connected(path) as connection:
        connection.execute("BEGIN")
        for number in range(count):
            updated = NOW - chance.random() * 100_000
            owner, color = (("ada", "red"), (f"o{number}", f"c{number}"))[number % 2]
            metadata = json.dumps({"app": "x", "color": color}, separators=(",", ":"))
            connection.execute(
                "INSERT INTO threads (number, id, created, updated, used, entries_size, metadata,"
                " owner, listed) VALUES (?, ?, ?, ?, ?, 6, CAST(? AS BLOB), ?, ?)",
                (number + 1, id_of(number), *[updated] * 3, metadata, owner, updated),
            )
            connection.execute(
                "INSERT INTO thread_entries (thread, key, kind, nulls, value)"
                " VALUES (?, 'a', 0, 0, x'31')",
                (number + 1,),
            )
            terms = [("app", '"x"'), ("color", f'"{color}"')]
            connection.executemany(
                "INSERT INTO index_terms (key, value, listed, thread) VALUES (?, ?, ?, ?)",
                [(*term, updated, number + 1) for term in terms],
            )
        connection.execute("COMMIT")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("filled")
    paths = {count: folder / f"{count}.db" for count in (1_000, 8_000)}
    for count, path in paths.items():
        fill(path, count)
    return paths


def steps_of(store: SQLiteStore, act: Callable[[sqlite3.Connection], object]) -> int:
    """Return how many steps SQLite's virtual machine takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with store._connections.read() as connection:
        connection.set_progress_handler(count, 1)
        act(connection)
        connection.set_progress_handler(None, 1)
    return steps


def list_page(query: Query, connection: sqlite3.Connection) -> None:
    listing.list_threads(connection, query, None)


QUERIES: list[dict[str, Any]] = [
    {},
    {"owner": "ada"},
    {"metadata": {"color": "red"}},
    {"metadata": {"app": "x"}},
    {"metadata": {"app": "x"}, "owner": "ada"},
    {"metadata": {"app": "x", "color": "red"}},
]


@pytest.mark.parametrize("wanted", QUERIES, ids=str)
def test_a_page_costs_the_same_at_any_number_of_threads(
    filled: dict[int, Path], wanted: dict[str, Any]
) -> None:
    taken = []
    for path in filled.values():
        with closing(SQLiteStore(path)) as store:
            first = Query(**wanted)
            page = store.list(wanted.get("metadata"), owner=wanted.get("owner"), limit=400)
            # The 21st page.
            later = Query(**wanted, cursor=page.cursor)
            for query in (first, later):
                taken.append(steps_of(store, partial(list_page, query)))
    assert max(taken) < 1.4 * min(taken)
    # Two filters count how many threads have each, up to a limit.
    assert max(taken) < 2_500 + 10_000 * (len(wanted.get("metadata", ())) > 1)


def test_an_export_of_some_threads_follows_the_index(filled: dict[int, Path]) -> None:
    taken = []
    for path in filled.values():
        with closing(SQLiteStore(path)) as store:
            for query in (Query({"app": "x", "color": "c1"}), Query(owner="o1")):
                threads = list(store.scan_for(query))
                assert [thread.id for thread in threads] == [id_of(1)]
                taken.append(steps_of(store, partial(listing.find_numbers, query=query)))
    # The larger file has eight times as many threads.
    assert taken[:2] == taken[2:]


def test_pages_have_every_thread_once_in_order(filled: dict[int, Path], tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    fill(path, 700)
    chance = random.Random(1)
    with closing(SQLiteStore(path)) as store:
        for number in chance.sample(range(700), 250):
            store.write(id_of(number), Write([Push("l", b"1")]))
        with connected(path) as connection:
            assert connection.execute("SELECT sum(stale) FROM threads").fetchone() == (250,)
        for wanted in QUERIES:
            expected = [
                thread
                for thread in store.scan()
                if thread.owner == wanted.get("owner", thread.owner)
                and thread.metadata | wanted.get("metadata", {}) == thread.metadata
            ]
            expected.sort(key=lambda thread: (thread.updated, thread.id), reverse=True)
            found: list[ListedThread] = []
            cursor = None
            while True:
                page = store.list(
                    wanted.get("metadata"), owner=wanted.get("owner"), limit=37, cursor=cursor
                )
                found += page.threads
                cursor = page.cursor
                if cursor is None:
                    break
            assert [thread.id for thread in found] == [thread.id for thread in expected]


def test_threads_of_one_moment_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        ids = [id_of(number) for number in range(30)]
        for thread_id in random.Random(2).sample(ids, 30):
            thread = ListedThread(thread_id, {"m": 1}, NOW, NOW, 0, "ada")
            store.import_thread(thread, b'{"state":{"a":1}}')
        for filters in ({}, {"owner": "ada"}, {"metadata": {"m": 1}}):
            found, cursor = [], None
            while True:
                page = store.list(limit=4, cursor=cursor, **filters)
                found += [thread.id for thread in page.threads]
                if (cursor := page.cursor) is None:
                    break
            assert found == ids[::-1]


def test_only_the_first_write_marks_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    with closing(SQLiteStore(path)) as store:
        write = Write([Push("l", b"1"), SetMetadata(b'{"m":1}')], owner="ada")
        store.write(id_of(1), write)
        marking = []
        for _ in range(3):
            snapshot = store.read(id_of(1))
            assert snapshot is not None
            for seen in (snapshot.seen, None):
                with statements(store) as traced:
                    store.write(id_of(1), Write([Push("l", b"2")], seen=seen))
                marking.append(any("stale = 1 WHERE" in statement for statement in traced))
                assert not any("index_terms" in statement for statement in traced)
        assert marking == [True] + [False] * 5
    require_consistent(path)


def test_stale_threads_stay_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MOST_STALE", 60)
    path = tmp_path / "threads.db"
    fill(path, 600)
    with closing(SQLiteStore(path)) as store:
        most = 0
        for round_ in range(2):
            for number in range(600):
                store.write(id_of(number), Write([Push("l", b"%d" % round_)]))
                # One that is used again and again.
                store.write(id_of(7), Write([Push("l", b"0")]))
                if number % 20 == 0:
                    with connected(path) as connection:
                        (count,) = connection.execute("SELECT sum(stale) FROM threads").fetchone()
                        most = max(most, count)
        assert 30 < most <= 60 + 2 * ordering.SETTLED
        page = store.list(limit=600)
        times = [thread.updated for thread in page.threads]
        assert times == sorted(times, reverse=True)
        with connected(path) as connection:
            is_stale = "SELECT stale FROM threads WHERE id = ?"
            # It is not put into its place and taken out again all the time.
            assert connection.execute(is_stale, (id_of(7),)).fetchone() == (1,)
    require_consistent(path)


def test_a_thread_that_is_put_into_its_place_during_a_request(tmp_path: Path) -> None:
    """The request has seen that it is stale, and it is no longer."""
    path = tmp_path / "threads.db"
    with closing(SQLiteStore(path)) as store:
        for number in range(2):
            store.write(id_of(1), Write([Push("l", b"%d" % number)]))
        snapshot = store.read(id_of(1))
        assert snapshot is not None
        with connected(path) as connection:
            connection.execute("UPDATE threads SET listed = updated, stale = 0")
        store.write(id_of(2), Write([Set("a", b"1")]))
        written = store.write(id_of(1), Write([Push("l", b"2")], seen=snapshot.seen))
        store.write(id_of(1), Write([Push("l", b"3")], seen=written.seen))  # type: ignore[union-attr]
        assert store.restore(id_of(1)) == b'{"state":{"l":[0,1,2,3]}}'
        assert [thread.id for thread in store.list().threads] == [id_of(1), id_of(2)]
    require_consistent(path)


def test_listings_during_writes_miss_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "MOST_STALE", 10)
    path = tmp_path / "threads.db"
    fill(path, 120)
    stopped = threading.Event()
    with closing(SQLiteStore(path)) as store:

        def write(worker: int) -> None:
            chance = random.Random(worker)
            while not stopped.is_set():
                store.write(id_of(chance.randrange(120)), Write([Push("l", b"1")]))

        workers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(40):
                ids = [thread.id for thread in store.list(limit=200).threads]
                assert sorted(ids) == sorted(map(id_of, range(120)))
        finally:
            stopped.set()
            for worker in workers:
                worker.join()
    require_consistent(path)


def test_the_cursor_of_a_thread_that_is_gone(filled: dict[int, Path]) -> None:
    with closing(SQLiteStore(filled[1_000])) as store:
        page = store.list(limit=3)
        last = page.threads[-1]
        assert page.cursor == encode_cursor(last.updated, last.id)
        before = encode_cursor(last.updated, last.id + "0")
        assert store.list(limit=1, cursor=before).threads == [last]


@pytest.mark.parametrize("damage", ["'damaged'", "x'31'", "1e300", "-1e300"])
@pytest.mark.parametrize("stale", [0, 1])
def test_a_damaged_time_does_not_end_listings(tmp_path: Path, damage: str, stale: int) -> None:
    path = tmp_path / "threads.db"
    fill(path, 20)
    with connected(path) as connection:
        connection.execute(
            f"UPDATE threads SET updated = {damage}, listed = {damage}, stale = {stale}"
            " WHERE number IN (3, 4)"
        )
    with closing(SQLiteStore(path, ttl=None)) as store:
        for limit in (7, 50):
            found: list[str] = []
            cursor = None
            while True:
                page = store.list(limit=limit, cursor=cursor)
                found += [thread.id for thread in page.threads]
                if (cursor := page.cursor) is None:
                    break
            assert set(found) >= {id_of(number) for number in range(20) if number not in (2, 3)}
            assert len(found) == len(set(found))
        assert len(list(store.scan())) == 20


@pytest.mark.parametrize(
    "damage",
    [
        "metadata = 5",
        "metadata = CAST('5' AS BLOB)",
        "metadata = 1e300",
        "metadata = CAST('{\"cut' AS BLOB)",
        "entries_size = 'damaged'",
        "entries_size = x'00'",
        "owner = x'00'",
    ],
)
def test_a_damaged_thread_does_not_end_listings(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "threads.db"
    fill(path, 5)
    with connected(path) as connection:
        connection.execute(f"UPDATE threads SET {damage} WHERE number = 3")
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert len(store.list().threads) == len(list(store.scan())) == 5
        assert {type(thread.metadata) for thread in store.scan()} == {dict}
        assert all(type(thread.size) is int for thread in store.scan())
        assert {type(thread.owner) for thread in store.list().threads} <= {str, type(None)}
