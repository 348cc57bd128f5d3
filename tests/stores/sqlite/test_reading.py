"""Reading threads whose lists are joined in Python, because they are large."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Operation, Push, Set, SetMetadata, Truncate
from flask_agentuity.stores.sqlite.reading import read_thread
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

from .support import ID, message, statements

LONG = codec.join_list([message(number) for number in range(1000)])
LONGER = codec.join_list([message(number) for number in range(1700)])
LARGE: list[Operation] = [
    Set("title", b'"hello"'),
    Set("messages", LONGER),
    Set("text", b'"%b"' % (b"t" * 5000)),
    Set("none", b"[]"),
    Set("short", b"[1,2]"),
    Set("lists", codec.join_list([b"[%d]" % number for number in range(3000)])),
    SetMetadata(b'{"name":"Ada"}'),
]


class Interrupted:
    """A connection; something else happens before statements that begin like these, in order."""

    def __init__(self, connection: sqlite3.Connection, before: list[str], event: Any) -> None:
        self._connection = connection
        self._before = before
        self._event = event

    def execute(self, statement: str, arguments: Any = ()) -> sqlite3.Cursor:
        if self._before and statement.lstrip().startswith(self._before[0]):
            del self._before[0]
            self._event()
        return self._connection.execute(statement, arguments)


def values_of(operations: list[Operation]) -> dict[str, bytes]:
    return {each.key: each.value for each in operations if isinstance(each, Set)}


def write(store: SQLiteStore, *operations: Operation) -> None:
    store.write(ID, Write(list(operations)))


@pytest.mark.parametrize("keys", [None, (), ("messages",), ("lists", "title", "missing")])
def test_all_kinds_of_values(store: SQLiteStore, keys: tuple[str, ...] | None) -> None:
    write(store, *LARGE)
    snapshot = store.read(ID, keys)
    assert snapshot is not None
    expected = values_of(LARGE)
    assert list(snapshot.encoded) == list(expected)
    for key, value in snapshot.encoded.items():
        if keys is None or key in keys or value is not None:
            assert value == expected[key]
    assert snapshot.metadata == b'{"name":"Ada"}'


def test_many_keys(store: SQLiteStore) -> None:
    many: list[Operation] = [Set(f"key {number}", b"[%d,0]" % number) for number in range(300)]
    write(store, *many, *LARGE)
    snapshot = store.read(ID)
    assert snapshot is not None
    assert snapshot.encoded == values_of([*many, *LARGE])


def test_a_window_and_a_push_behind_it(store: SQLiteStore) -> None:
    write(store, Set("messages", LONGER), Set("other", LONG), Push("messages", b"0", 1600))
    seen = store.read(ID)
    assert seen is not None
    store.write(ID, Write([Push("messages", b"1")], seen.version, seen.seen))
    write(store, Push("messages", b"2"))
    snapshot = store.read(ID)
    assert snapshot is not None
    items = [*codec.items_of(LONGER)[-1599:], b"0"]
    assert snapshot.encoded["messages"] == codec.join_list([*items, b"1", b"2"])


def test_a_short_thread_is_read_in_one_statement(store: SQLiteStore) -> None:
    write(store, Set("messages", LONG[:1] + LONG[1:20_000].rpartition(b"},{")[0] + b"}]"))
    with statements(store) as traced:
        store.read(ID)
    assert len(traced) == 1


@pytest.mark.parametrize(
    "changes",
    [
        [Set("messages", LONG)],
        [Push("messages", b"1")],
        [Set("messages", b"[1,2,3]")],
        [Truncate("messages", 1)],
    ],
)
@pytest.mark.parametrize("before", [["SELECT CAST"], ["SELECT CAST", "BEGIN"]])
def test_another_write_in_between(
    store: SQLiteStore, before: list[str], changes: list[Operation]
) -> None:
    found, stored = read_between(store, before, changes)
    assert found == stored[-1]


def test_another_write_in_the_second_attempt(store: SQLiteStore) -> None:
    found, stored = read_between(store, ["SELECT CAST", "SELECT CAST"], [Push("messages", b"1")])
    # The transaction of the attempt has begun with its first statement.
    assert found == stored[1]


def read_between(
    store: SQLiteStore, before: list[str], changes: list[Operation]
) -> tuple[Snapshot | None, list[Snapshot | None]]:
    """Return what is read with changes before some statements, and what was stored after each."""
    write(store, *LARGE)
    stored, waiting = [store.read(ID)], list(before)

    def change() -> None:
        write(store, *changes)
        stored.append(store.read(ID))

    with store._connections.read(ID) as connection:
        interrupted: Any = Interrupted(connection, waiting, change)
        found = read_thread(interrupted, ID, None)
        assert not connection.in_transaction
    assert found is not None
    assert not waiting
    return found[1], stored


def test_a_thread_that_is_deleted_in_between(store: SQLiteStore) -> None:
    write(store, *LARGE)
    with store._connections.read(ID) as connection:
        interrupted: Any = Interrupted(connection, ["SELECT CAST"], lambda: store.delete(ID))
        found = read_thread(interrupted, ID, None)
        assert not connection.in_transaction
    assert found is None or found[0].is_nothing
