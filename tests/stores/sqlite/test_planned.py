"""Writes that begin with what their request has seen: the result is the same without it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import (
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Truncate,
)
from flask_agentuity.errors import StateTooLarge, StoreError, ThreadGone
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Conflict, Write, Written

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
    write,
    written,
)

ALWAYS = 1 << 62


def seen_of(store: SQLiteStore, thread_id: str = ID) -> Any:
    snapshot = store.read(thread_id)
    assert snapshot is not None
    return snapshot.seen


LONG = b'"%b"' % (b"l" * 2_000)

OPERATIONS: list[tuple[Operation, ...]] = [
    (Push("messages", b"7"), Push("other", b"8"), Push("messages", b"null")),
    (Push("messages", b"7"), Push("messages", b'"%b"' % (b"x" * 5_000))),
    (Push("messages", message(1), unique="n"), Push("messages", message(777), unique="n")),
    (Push("messages", b"7", 5, 1),),
    (Push("name", b"7"),),
    (Push("missing", b"7"),),
    (splice(9, [message(9)], [b"1", b"2"]), Push("messages", b"7")),
    (splice(3, [message(3)], []),),
    (splice(3, [message(4)], []), Push("messages", b"7")),
    (
        Replace("name", b'"Ada"', b"[1]", ALWAYS),
        Replace("long", LONG := b'"%b"' % (b"l" * 2_000), b"1", ALWAYS),
    ),
    (Replace("long", b'"%b"' % (b"m" * 2_000), b"1", ALWAYS),),
    (Replace("other", b"[1,2]", b"{}", ALWAYS), Set("messages", b"[]")),
    (Increment("count", 2), Increment("missing", 0.5), Increment("name", 1)),
    (PopLast("messages"), Truncate("other", 1), PopLast("name")),
    (ReplaceMetadata(b'{"m":1}', b'{"m":2,"n":3}'), Push("messages", b"7")),
    (ReplaceMetadata(b'{"m":7}', b"{}"), Push("messages", b"7")),
    (SetMetadata(b"{}"),),
]


def fill(store: SQLiteStore) -> None:
    names = Set("name", b'"Ada"'), Set("count", b"1"), Set("other", b"[1,2]"), Set("long", LONG)
    written(store, *messages(10), *names, SetMetadata(b'{"m":1}'))


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("operations", OPERATIONS)
def test_the_result_is_the_same_with_and_without_what_was_seen(
    tmp_path: Path, operations: Sequence[Operation], between: bool
) -> None:
    results = []
    for name, is_used in (("with", True), ("without", False)):
        path = tmp_path / name
        with closing(SQLiteStore(path)) as store, closing(SQLiteStore(path)) as other:
            fill(store)
            seen = seen_of(store)
            if between:
                # By another connection, as another process would.
                written(other, Push("messages", b"6"), Set("another", b"1"))
            outcome = write(
                store, *operations, seen=seen if is_used else None, counted=("messages", "other")
            )
            if isinstance(outcome, Written):
                told: object = dict(outcome.preceding)
                # And once more, with what the write has seen.
                written(store, Push("messages", b"9"), seen=outcome.seen if is_used else None)
            else:
                told = outcome
            results.append((told, store.restore(ID), store.list({"m": 1}).threads != []))
        require_consistent(path)
    assert results[0] == results[1]


def test_a_push_after_another_process_has_written(store: SQLiteStore, path: Path) -> None:
    written(store, *messages(10))
    seen = seen_of(store)
    with closing(SQLiteStore(path)) as other:
        written(other, Push("messages", b"1"), Push("messages", b"2"))
    with statements(store) as traced:
        outcome = written(store, *messages(2), seen=seen, counted=["messages"])
    assert [each.split()[0] for each in traced].count("SELECT") == 1
    assert outcome.preceding == {"messages": 12}
    assert items_of(store)[10:] == [b"1", b"2", message(0), message(1)]


def test_the_row_of_another_thread_is_not_written(path: Path) -> None:
    """The number of a deleted thread can be used again, even at the same moment."""
    with freeze_time("2030-01-01"), closing(SQLiteStore(path)) as store:
        written(store, *messages(3))
        seen = seen_of(store)
        with connected(path) as connection:
            connection.execute("UPDATE threads SET id = ?", (OTHER,))
        push = Push("messages", b"1")
        store.write(ID, Write([push], seen=seen))
        assert store.restore(ID) == b'{"state":{"messages":[1]}}'
        assert len(items_of(store, thread_id=OTHER)) == 3


def test_what_was_seen_of_another_thread_is_not_used(store: SQLiteStore) -> None:
    written(store, *messages(3))
    store.write(OTHER, Write([Push("messages", b"1")], seen=seen_of(store)))
    assert store.restore(OTHER) == b'{"state":{"messages":[1]}}'
    assert len(items_of(store)) == 3


def test_a_thread_that_was_deleted_and_begun_again_is_gone_for_an_older_request(
    store: SQLiteStore,
) -> None:
    began = time.monotonic()
    written(store, *messages(1))
    store.delete(ID)
    written(store, *messages(2))
    # The old request reads the new thread.
    with pytest.raises(ThreadGone):
        write(store, Push("messages", b"1"), seen=seen_of(store), began=began)
    outcome = written(store, Push("messages", b"1"), seen=seen_of(store))
    with pytest.raises(ThreadGone):
        write(store, Push("messages", b"1"), seen=outcome.seen, began=began)
    assert items_of(store) == [message(0), message(1), b"1"]


def test_a_thread_that_has_expired_since_it_was_read(path: Path) -> None:
    with freeze_time("2030-01-01") as clock, closing(SQLiteStore(path, ttl=100)) as store:
        written(store, *messages(3))
        seen = seen_of(store)
        clock.tick(101)
        written(store, Push("messages", b"1"), seen=seen)
        assert store.restore(ID) == b'{"state":{"messages":[1]}}'


def test_the_use_of_a_thread_is_noted_now_and_then(path: Path) -> None:
    with freeze_time("2030-01-01") as clock, closing(SQLiteStore(path, ttl=1_000)) as store:
        written(store, *messages(3))
        seen, noted = seen_of(store), []
        for _ in range(10):
            clock.tick(60)
            with statements(store) as traced:
                seen = written(store, Push("messages", b"1"), seen=seen).seen
            noted.append(any("SET used" in statement for statement in traced))
        assert noted == [False, True] * 5


def test_the_limit_is_the_same(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        written(store, *messages(3))
        size = len(store.restore(ID) or b"")
        store.max_bytes = size + 10
        for seen in (None, seen_of(store)):
            with pytest.raises(StateTooLarge) as caught:
                write(store, Push("messages", b"1234567890"), seen=seen)
            assert caught.value.size == size + 11
        written(store, Push("messages", b"123456789"), seen=seen_of(store))
        # Over the limit, a document may only shrink.
        store.max_bytes = 100
        written(store, PopLast("messages"), seen=seen_of(store))


def test_damage_is_reported_and_left_alone(store: SQLiteStore, path: Path) -> None:
    written(store, *messages(3))
    with connected(path) as connection:
        connection.execute("UPDATE segments SET body = CAST('{\"cut' AS BLOB)")
    for seen in (None, seen_of(store)):
        for operation in (splice(2, [message(2)], []), PopLast("messages")):
            with pytest.raises(StoreError, match=f"{ID} is damaged"):
                write(store, operation, seen=seen)


def test_damaged_metadata_are_reported_or_replaced(store: SQLiteStore, path: Path) -> None:
    written(store, *messages(3), SetMetadata(b'{"m":1}'))
    with connected(path) as connection:
        connection.execute("UPDATE threads SET metadata = CAST('{\"cut' AS BLOB)")
    with pytest.raises(StoreError, match=f"{ID} is damaged"):
        write(store, EditMetadata(b'{"m":1}', b'{"m":2}'))
    assert write(store, ReplaceMetadata(b'{"m":1}', b'{"m":2}')) == Conflict(set(), set(), True)
    written(store, SetMetadata(b'{"m":2}'), seen=seen_of(store))
    assert [thread.id for thread in store.list({"m": 2}).threads] == [ID]
    require_consistent(path)


def test_items_are_counted_once_they_were_not(store: SQLiteStore, path: Path) -> None:
    """After an edit within a list its last row does not say how many items come before it."""
    written(store, *messages(100))
    written(store, splice(50, [message(50)], [message(50), b"1"]))
    assert written(store, Push("messages", b"1"), counted=["messages"]).preceding == {
        "messages": 101
    }
    with statements(store) as traced:
        told = written(
            store, Push("messages", b"1", max_records=200), counted=["messages"]
        ).preceding
    assert told == {"messages": 102}
    assert not [statement for statement in traced if "sum(items)" in statement]
    require_consistent(path)


def test_an_edit_of_an_assigned_value_is_a_conflict_also_if_it_was_read_again(
    store: SQLiteStore,
) -> None:
    first = written(store, *messages(3))
    written(store, Set("messages", b"[1,2]"))
    outcome = write(
        store,
        splice(0, [b"1"], []).__class__("messages", splice(0, [b"1"], []).changes, first.version),
        seen=seen_of(store),
    )
    assert outcome == Conflict({"messages"}, {"messages"})
