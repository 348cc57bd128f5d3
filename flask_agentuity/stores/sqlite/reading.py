"""Reading a thread: which rows are fetched, and what is kept for a later write."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, cast

from ...document import codec, packed
from ...document.codec import Snapshot
from . import schema
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, Head, Seen, TailRow, new_tuple

_first_column = itemgetter(0)

# Lists of threads of this size, in bytes, are read by a statement for each, which copies them less
# often. More statements would slow the reading of smaller threads.
_LARGE = 250_000

# One statement reads rows of one moment: that of the thread, and behind it those of its
# entries. The last segment comes by itself, because a write may need it. The others are joined
# by SQLite (group_concat keeps the order of its subquery), so that a long list is few objects.
_READ = f"""
SELECT 0, {HEAD_COLUMNS} FROM threads t WHERE t.id = ?
UNION ALL
SELECT {ENTRY_COLUMNS}, s.number, s.items, s.items_before, s.epoch, CAST(s.body AS BLOB),
  CASE WHEN s.number AND t.entries_size < {_LARGE} THEN CAST((
    SELECT group_concat(body, ',') FROM (
      SELECT body FROM segments
      WHERE number >= e.number << {schema.SEGMENT_BITS} AND number < s.number
      ORDER BY number
    )
  ) AS BLOB) END
FROM threads t JOIN thread_entries e ON e.thread = t.number
LEFT JOIN segments s ON s.number = CASE
  WHEN e.kind != {schema.INLINE} AND {{}}
  THEN (SELECT max(number) FROM segments WHERE number {schema.OF_ENTRY}) END
WHERE t.id = ?
"""
_READ_ALL = _READ.format("1")

# The whole list between two numbers, if the thread still has the version that was read. Brackets
# are added to segments, because adding them to the list would copy it.
_WHOLE = """
SELECT CAST(group_concat(body, ',') AS BLOB) FROM (
  SELECT CASE number
    WHEN (SELECT min(number) FROM segments WHERE number >= ?1)
    THEN '[' || body || CASE number WHEN ?2 THEN ']' ELSE '' END
    WHEN ?2 THEN body || ']'
    ELSE body
  END AS body
  FROM segments
  WHERE number >= ?1 AND number <= ?2
  AND EXISTS (SELECT 1 FROM threads WHERE number = ?3 AND version = ?4 AND id = ?5)
  ORDER BY number
)
"""


@lru_cache(maxsize=schema.MOST_NAMED + 1)
def _query(count: int) -> str:
    """Return the statement that reads the values of this number of keys."""
    return _READ.format(f"e.key IN ({', '.join('?' * count)})")


class _Changed(Exception):
    """Another write came between two statements."""


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Return the row of a thread, and its contents; None if there is no row.

    The values of keys that are not in *keys* (None: all keys) may be left out.
    """
    try:
        return _read(connection, thread_id, keys)
    except _Changed:
        connection.execute("BEGIN")
    try:
        # In a transaction, all statements read the file as it was at the first one.
        return _read(connection, thread_id, keys)
    finally:
        connection.execute("ROLLBACK")


def _read(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Do what :func:`read_thread` does.

    :raises _Changed: if another write came in between.
    """
    if keys is None or len(keys) > schema.MOST_NAMED:
        keys, query = None, _READ_ALL
        arguments: tuple[str, ...] = (thread_id, thread_id)
    else:
        query, arguments = _query(len(keys)), (thread_id, *keys, thread_id)
    found = connection.execute(query, arguments)
    rows = found.fetchmany(packed.MANY_KEYS + 2)
    if not rows:
        return None
    head = new_tuple(Head, rows[0][1:12])
    others: Iterable[Any] = found
    if head.entries_size >= _LARGE:
        version = head.number, head.stored_version, thread_id
        rows = [rows[0], *_with_lists(connection, rows[1:], version)]
        others = _with_lists(connection, found, version)
    return head, _snapshot_of(thread_id, head, rows, others, keys)


def _with_lists(
    connection: sqlite3.Connection, rows: Iterable[Any], version: tuple[int, int, str]
) -> Iterator[Any]:
    """Yield *rows*, with the row of the whole list instead of its segments but the last.

    :param version: the number, the version and the id of the thread.
    """
    for row in rows:
        number, tail = row[0], row[6]
        if row[2] != schema.LIST or tail is None or row[11] is not None:
            yield row
            continue
        arguments = schema.segment_range(number)[0], tail, *version
        found = connection.execute(_WHOLE, arguments).fetchone()
        if found[0] is None:
            raise _Changed
        yield (*row[:11], found)


def _snapshot_of(
    thread_id: str,
    head: Head,
    rows: list[Any],
    others: Iterable[Any],
    keys: Collection[str] | None,
) -> Snapshot:
    """Return what is stored; *rows* and *others* are those of the thread and its entries."""
    del rows[0]
    if len(rows) > packed.MANY_KEYS:
        return _packed_snapshot(thread_id, head, rows, others, keys)
    if len(rows) > 1:
        # In the order of their numbers, in which they were created.
        rows.sort(key=_first_column)
    return _snapshot(thread_id, head, rows, keys)


def read_owner(connection: sqlite3.Connection, thread_id: str) -> tuple[str | None] | None:
    """Return the owner of a thread, in a tuple; None if there is no row."""
    query = "SELECT owner FROM threads WHERE id = ?"
    row: tuple[str | None] | None = connection.execute(query, (thread_id,)).fetchone()
    return row


def _snapshot(
    thread_id: str, head: Head, entries: list[Any], keys: Collection[str] | None
) -> Snapshot:
    encoded: dict[str, bytes | None] = {}
    with_null: list[str] = []
    tails: dict[str, TailRow] = {}
    for index, row in enumerate(entries):
        _, key, kind, nulls, _, value, number, items, before, epoch, body, _ = row
        if nulls:
            with_null.append(key)
        if number is None and kind != schema.LIST:
            encoded[key] = value
            continue
        encoded[key] = _value(row, keys)
        if number is not None:
            tails[key] = number, items, len(body), before, epoch, body, kind, nulls
            # The row of the entry is kept, but not the value.
            entries[index] = row[:6]
    seen = new_tuple(Seen, (thread_id, head, entries, tails))
    without_null = encoded.keys() - with_null if with_null else encoded.keys()
    version = head.stored_version or head.version
    return Snapshot(encoded, head.metadata, {}, without_null, version, seen, head.owner)


def _packed_snapshot(
    thread_id: str,
    head: Head,
    rows: list[Any],
    others: Iterable[Any],
    keys: Collection[str] | None,
) -> Snapshot:
    """Return what is stored of many keys. Of their rows, nothing is kept for a write."""
    rows.reverse()
    # A row is freed when its value is packed.
    first = (rows.pop() for _ in range(len(rows)))
    state = packed.pack(
        (row[0], codec.encode_key_once(row[1]), _value(row, keys)) for row in chain(first, others)
    )
    version = head.stored_version or head.version
    seen = Seen(thread_id, head, (), {})
    return Snapshot(state, head.metadata, version=version, seen=seen, owner=head.owner)


def _value(row: Any, keys: Collection[str] | None) -> bytes | None:
    """Return the value of the row of an entry; None if it was not fetched."""
    _, key, kind, _, _, value, number, _, _, _, body, inner = row
    if number is None:
        if kind == schema.LIST and (keys is None or key in keys):
            return codec.EMPTY_LIST
        return cast("bytes | None", value)
    if kind != schema.LIST:
        return cast(bytes, body)
    if inner.__class__ is tuple:
        return cast(bytes, inner[0])
    return b"".join((b"[", inner, b",", body, b"]") if inner else (b"[", body, b"]"))
