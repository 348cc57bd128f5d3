"""What reads and writes of the SQLite store cost: statements, steps, bytes of the log."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.operations import (
    Operation,
    PopLast,
    Push,
    ReplaceMetadata,
    Set,
    SetMetadata,
)
from flask_agentuity.errors import StateTooLarge
from flask_agentuity.stores.sqlite.schema import SEGMENT_BYTES
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import (
    ID,
    OTHER,
    connected,
    items_of,
    message,
    messages,
    require_consistent,
    splice,
    statements,
    written,
)


def steps_of(store: SQLiteStore, act: Callable[[], object]) -> int:
    """Return how many steps of SQLite's machine *act* takes."""
    taken: list[None] = []
    (connection,) = store._connections._idle
    connection.set_progress_handler(lambda: taken.append(None), 1)
    act()
    connection.set_progress_handler(None, 1)
    return len(taken)


def wal_bytes(path: Path, act: Callable[[SQLiteStore], object]) -> int:
    with closing(SQLiteStore(path)) as store:
        store.read(OTHER)
        with connected(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
        act(store)
        return log.stat().st_size


@pytest.mark.parametrize("size", [1, 180, 1500, 5000])
@pytest.mark.parametrize("windowed", [False, True])
def test_a_push_writes_the_same_at_any_length(tmp_path: Path, size: int, windowed: bool) -> None:
    logged = []
    # With a window every push takes from the first segment too, so there has to be one.
    for count in (100 if windowed else 10, 4_000):
        path = tmp_path / f"{count}.db"
        with closing(SQLiteStore(path, max_bytes=50_000_000)) as store:
            store.merge(ID, messages(count))
            if not windowed:
                store.merge(ID, [Set("other", b"1"), *messages(7)])
        window = count if windowed else None
        push = Push("messages", b'"%s"' % (b"y" * size), window)

        def act(store: SQLiteStore, push: Push = push) -> None:
            for _ in range(20):
                store.merge(ID, [push])

        logged.append(wal_bytes(path, act))
    assert logged[1] <= 1.5 * logged[0], logged


def test_a_small_key_is_read_without_the_history(store: SQLiteStore) -> None:
    def steps(thread_id: str, count: int, key: str) -> int:
        long = Set("long", b'"%s"' % (b"l" * 5000))
        store.merge(thread_id, [*messages(count), Set("name", b'"Ada"'), long])
        snapshot = store.read(thread_id, (key,))
        assert snapshot is not None
        wanted = {name: value for name, value in snapshot.encoded.items() if name != "name"}
        assert snapshot.encoded["name"] == b'"Ada"'
        assert [name for name, value in wanted.items() if value is not None] == (
            [] if key == "name" else [key]
        )
        return steps_of(store, lambda: store.read(thread_id, (key,)))

    assert steps(ID, 10, "name") == steps(OTHER, 1_000, "name")
    # The test can see a history that is read.
    assert steps(OTHER, 1, "messages") > steps(ID, 1, "messages") + 50


def test_the_statements_of_a_read_and_of_a_push(store: SQLiteStore) -> None:
    """Each statement lets other threads of the process run, and so costs more than its work."""
    store.merge(ID, [*messages(10), Set("name", b'"Ada"'), Set("other", b"[1]")])
    for keys in (None, (), ("messages",), ("messages", "name", "missing")):
        with statements(store) as traced:
            store.read(ID, keys)
        assert len(traced) == 1
    with statements(store) as traced:
        store.merge(ID, messages(2))
    assert len(traced) == 5
    with statements(store) as traced:
        store.merge(ID, [*messages(2), Push("other", b"2")])
    assert len(traced) == 6


def test_a_segment_is_no_longer_than_a_page(store: SQLiteStore, path: Path) -> None:
    for number in range(100):
        store.merge(ID, messages(1 + number % 3))
    with connected(path) as connection:
        sizes = [size for (size,) in connection.execute("SELECT length(body) FROM segments")]
    assert max(sizes) <= SEGMENT_BYTES
    # And most of a page is used.
    assert min(sizes[:-1]) > SEGMENT_BYTES * 0.8


@pytest.mark.parametrize("room", [0, 1, 2, 60, 65, 120, 200])
def test_pushes_up_to_the_last_byte(path: Path, room: int) -> None:
    with closing(SQLiteStore(path)) as store:
        store.merge(ID, [Push("messages", b'"first"')], {"m": "x" * 50})
        size = len(store.restore(ID) or b"")
        item = b'"%s"' % (b"y" * 10)
        store.max_bytes = size + 3 * (len(item) + 1) + room
        for _ in range(3):
            store.merge(ID, [Push("messages", item)])
        fitting = room // (len(item) + 1)
        for _ in range(fitting):
            store.merge(ID, [Push("messages", item)])
        with pytest.raises(StateTooLarge):
            store.merge(ID, [Push("messages", item)])
        assert len(store.restore(ID) or b"") == size + (3 + fitting) * (len(item) + 1)
        assert store.list().threads[0].size == len(store.restore(ID) or b"")


def test_many_keys_in_one_write(store: SQLiteStore) -> None:
    """More than SQLite takes as arguments of one statement."""
    keys = [f"key {number}" for number in range(1_000)]
    written(store, Set("first", b"1"))
    for connection in store._connections._idle:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 500)
    written(store, *(Set(key, b"1") for key in keys))
    written(store, *(Set(key, b"2") for key in keys))
    snapshot = store.read(ID, keys)
    assert snapshot is not None
    assert snapshot.encoded == {"first": b"1", **dict.fromkeys(keys, b"2")}


def test_a_read_writes_nothing(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, messages(10))
    assert not wal_bytes(path, lambda store: [store.read(ID) for _ in range(10)])


def test_writes_are_short_transactions_that_begin_at_once(store: SQLiteStore) -> None:
    store.merge(ID, messages(1))
    with statements(store) as traced:
        store.merge(ID, [*messages(2), Set("a", b"1")], {"m": 1})
    assert traced[0] == "BEGIN IMMEDIATE"
    assert traced.count("COMMIT") == 1


EDITS: dict[str, Callable[[list[bytes]], Operation]] = {
    "grow the last": lambda items: splice(len(items) - 1, items[-1:], [longer(items[-1])]),
    "grow the first": lambda items: splice(0, items[:1], [longer(items[0])]),
    "edit": lambda items: splice(len(items) // 2, [middle(items)], [longer(middle(items))]),
    "delete": lambda items: splice(len(items) // 2, [middle(items)], []),
    "insert": lambda items: splice(len(items) // 2, [middle(items)], [message(7), middle(items)]),
    "prepend": lambda items: splice(0, items[:1], [message(7), items[0]]),
    "push": lambda items: Push("messages", message(len(items))),
    "pop": lambda items: PopLast("messages"),
}


def longer(item: bytes) -> bytes:
    return item[:-2] + b' and more"}'


def middle(items: list[bytes]) -> bytes:
    return items[len(items) // 2]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    """Files with lists of several lengths, to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    paths = {count: folder / f"{count}.db" for count in (10, 1_000, 4_000)}
    for count, path in paths.items():
        with closing(SQLiteStore(path, max_bytes=50_000_000)) as store:
            written(store, *messages(count))
            # The first write to a thread that was created marks it for listings.
            written(store, Push("messages", b"1"), PopLast("messages"))
    return paths


@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_writes_two_pages_at_any_length(
    tmp_path: Path, filled: Mapping[int, Path], edit: str, is_seen: bool
) -> None:
    for count, source in filled.items():
        path = tmp_path / f"{count}.db"
        shutil.copy(source, path)

        def act(store: SQLiteStore) -> None:
            snapshot = store.read(ID)
            assert snapshot is not None
            operation = EDITS[edit](codec.items_of(snapshot.encoded["messages"] or b""))
            written(store, operation, seen=snapshot.seen if is_seen else None)

        assert wal_bytes(path, act) <= 10_000


def test_a_write_needs_not_read_what_its_request_has_read(store: SQLiteStore) -> None:
    written(store, *messages(100), Set("name", b'"Ada"'))
    items = items_of(store)
    snapshot = store.read(ID, ("messages",))
    assert snapshot is not None
    seen = snapshot.seen
    writes: list[list[Operation]] = [
        [*messages(2)],
        [splice(101, [message(1)], [longer(message(1))])],
        [Push("messages", b"1"), Set("name", b"1"), PopLast("messages")],
        [ReplaceMetadata(b"{}", b'{"m":1}')],
    ]
    for operations in writes:
        with statements(store) as traced:
            outcome = written(store, *operations, seen=seen, counted=("messages",))
        assert not [statement for statement in traced if statement.startswith("SELECT")]
        assert [traced[0], traced[-1]] == ["BEGIN IMMEDIATE", "COMMIT"]
        seen = outcome.seen
    assert items_of(store) == [*items, message(0), longer(message(1))]
    with statements(store) as traced:
        written(store, *messages(2), seen=seen)
    assert len(traced) == 4


def test_a_window_costs_the_same_at_any_length(tmp_path: Path) -> None:
    taken = []
    for count in (100, 4_000):
        with closing(SQLiteStore(tmp_path / f"{count}.db", max_bytes=50_000_000)) as store:
            written(store, *messages(count))
            push = Push("messages", message(1), count, keep_first=1)
            written(store, push)
            taken.append(steps_of(store, partial(written, store, push)))
    assert taken[1] <= 1.2 * taken[0], taken


def test_a_change_of_the_metadata_costs_the_same_with_many_keys(store: SQLiteStore) -> None:
    def steps(number: int) -> int:
        replace = ReplaceMetadata(b'{"m":%d}' % number, b'{"m":%d}' % (number + 1))
        return steps_of(store, lambda: written(store, replace))

    written(store, SetMetadata(b'{"m":0}'), Set("a", b"1"))
    written(store, Set("a", b"2"))
    few = steps(0)
    written(store, *(Set(f"key {number}", b"1") for number in range(1_000)))
    assert steps(1) == few


def test_index_terms_that_stay_are_not_written(store: SQLiteStore, path: Path) -> None:
    written(store, SetMetadata(b'{"m":1,"n":2}'))
    with statements(store) as traced:
        written(store, SetMetadata(b'{"m":1,"n":3}'))
        written(store, ReplaceMetadata(b'{"m":1,"n":3}', b'{"m":1,"n":4}'))
    touched = [statement for statement in traced if "index_terms" in statement]
    assert len([each for each in touched if each.startswith(("INSERT", "DELETE"))]) == 4
    assert len([each for each in touched if each.startswith("SELECT")]) == 1
    require_consistent(path)
