"""Reading a thread: which rows are fetched, and what a later write may know of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from . import schema
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, Head, Seen, TailRow

# One statement reads rows of one moment. The rows of its parts follow each other: the thread,
# its entries, and the values that are not in the row of their entry.
_ENTRIES = f"""
SELECT 0, {HEAD_COLUMNS} FROM threads t WHERE t.id = ?
UNION ALL
SELECT {ENTRY_COLUMNS}, NULL, NULL, NULL, NULL
FROM threads t JOIN state_entries e ON e.thread = t.number WHERE t.id = ?
"""

# The last segment comes by itself, because a write may need it. The others are joined by
# SQLite (group_concat keeps the order of its subquery), so that a long list is few objects.
_VALUES = f"""
{_ENTRIES}
UNION ALL
SELECT e.number, NULL, e.key, s.number, s.items, s.items_before, s.epoch, CAST(s.body AS BLOB),
  CAST((
    SELECT group_concat(body, ',') FROM (
      SELECT body FROM segments
      WHERE number >= e.number << {schema.SEGMENT_BITS} AND number < s.number
      ORDER BY number
    )
  ) AS BLOB), e.kind
FROM threads t JOIN state_entries e ON e.thread = t.number
JOIN segments s ON s.number = (SELECT max(number) FROM segments WHERE number {schema.OF_ENTRY})
WHERE t.id = ? AND e.kind != {schema.INLINE}
"""


@lru_cache(maxsize=schema.MOST_NAMED + 1)
def _query(count: int) -> str:
    """Return the statement that reads the values of so many keys."""
    if not count:
        return _ENTRIES
    return f"{_VALUES} AND e.key IN ({', '.join('?' * count)})"


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Return the row of a thread, and what is stored; None if there is no row.

    The values of keys that are not in *keys* (None: all are wanted) may be left out.
    """
    arguments: tuple[str, ...] = (thread_id, thread_id, thread_id)
    if keys is None or len(keys) > schema.MOST_NAMED:
        keys, query = None, _VALUES
    else:
        query = _query(len(keys))
        arguments = (*arguments, *keys) if keys else arguments[1:]
    rows = connection.execute(query, arguments).fetchall()
    if not rows:
        return None
    head = Head(*rows[0][1:])
    return head, _snapshot(thread_id, head, rows, keys)


def _snapshot(
    thread_id: str, head: Head, rows: list[Any], keys: Collection[str] | None
) -> Snapshot:
    end = len(rows)
    while rows[end - 1][1] is None:
        end -= 1
    entries = rows[1:end]
    if end > 2:
        # In the order of their numbers, in which they were created.
        entries.sort()
    encoded: dict[str, bytes | None] = {}
    without_null: set[str] = set()
    for row in entries:
        _, key, kind, nulls, _, encoded[key], *_ = row
        if not nulls:
            without_null.add(key)
        if kind == schema.LIST and (keys is None or key in keys):
            # Unless it has segments.
            encoded[key] = codec.EMPTY_LIST
    tails: dict[str, TailRow] = {}
    for _, _, key, number, items, before, epoch, body, inner, kind in rows[end:]:
        tails[key] = number, items, before, epoch, body
        if kind == schema.LIST:
            parts = (b"[", body, b"]") if inner is None else (b"[", inner, b",", body, b"]")
            encoded[key] = b"".join(parts)
        else:
            encoded[key] = body
    # Keeping more entries would take more memory than it saves time.
    seen = Seen(thread_id, head, entries if end < schema.MOST_NAMED else (), tails)
    version = head.stored_version or head.version
    return Snapshot(encoded, head.metadata, {}, without_null, version, seen)
