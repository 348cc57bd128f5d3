"""Reading a thread: which rows are fetched, and what a later write may know of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from functools import lru_cache
from operator import itemgetter
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from . import schema
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, Head, Seen, TailRow

_first_column = itemgetter(0)

# One statement reads rows of one moment: that of the thread, and behind it those of its
# entries. The last segment comes by itself, because a write may need it. The others are joined
# by SQLite (group_concat keeps the order of its subquery), so that a long list is few objects.
_READ = f"""
SELECT 0, {HEAD_COLUMNS} FROM threads t WHERE t.id = ?
UNION ALL
SELECT {ENTRY_COLUMNS}, s.number, s.items, s.items_before, s.epoch, CAST(s.body AS BLOB),
  CASE WHEN s.number THEN CAST((
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


@lru_cache(maxsize=schema.MOST_NAMED + 1)
def _query(count: int) -> str:
    """Return the statement that reads the values of so many keys."""
    return _READ.format(f"e.key IN ({', '.join('?' * count)})")


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Return the row of a thread, and what is stored; None if there is no row.

    The values of keys that are not in *keys* (None: all are wanted) may be left out.
    """
    if keys is None or len(keys) > schema.MOST_NAMED:
        keys, query = None, _READ_ALL
        arguments: tuple[str, ...] = (thread_id, thread_id)
    else:
        query, arguments = _query(len(keys)), (thread_id, *keys, thread_id)
    rows = connection.execute(query, arguments).fetchall()
    if not rows:
        return None
    if len(rows) > 2:
        # In the order of their numbers, in which they were created.
        rows.sort(key=_first_column)
    head = Head(*rows[0][1:12])
    del rows[0]
    return head, _snapshot(thread_id, head, rows, keys)


def _snapshot(
    thread_id: str, head: Head, entries: list[Any], keys: Collection[str] | None
) -> Snapshot:
    encoded: dict[str, bytes | None] = {}
    without_null: set[str] = set()
    tails: dict[str, TailRow] = {}
    for index, row in enumerate(entries):
        _, key, kind, nulls, _, value, number, items, before, epoch, body, inner = row
        if not nulls:
            without_null.add(key)
        if number is not None:
            tails[key] = number, items, len(body), before, epoch, body, kind, nulls
            # The row of the entry is kept, but not the value.
            entries[index] = row[:6]
            value = body
            if kind == schema.LIST:
                parts = (b"[", body, b"]") if inner is None else (b"[", inner, b",", body, b"]")
                value = b"".join(parts)
        elif kind == schema.LIST and (keys is None or key in keys):
            value = codec.EMPTY_LIST
        encoded[key] = value
    # Keeping more entries would take more memory than it saves time.
    seen = Seen(thread_id, head, entries if len(entries) <= schema.MOST_NAMED else (), tails)
    version = head.stored_version or head.version
    return Snapshot(encoded, head.metadata, {}, without_null, version, seen, head.owner)
