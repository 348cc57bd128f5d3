"""Reading a thread: which rows are fetched, and what a later write may know of them."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from . import schema
from .seen import ENTRY_COLUMNS, SEGMENT_COLUMNS, SELECT_HEAD, Head, Seen, TailRow

_ENTRIES = f"""
{SELECT_HEAD}
UNION ALL
SELECT {ENTRY_COLUMNS} FROM threads t JOIN state_entries e ON e.thread = t.number WHERE t.id = ?
"""

# One statement reads rows of one moment. The rows of its parts follow each other.
_ENTRIES_AND_SEGMENTS = f"""
{_ENTRIES}
UNION ALL
SELECT {SEGMENT_COLUMNS}
FROM threads t JOIN state_entries e ON e.thread = t.number
JOIN segments s ON s.number {schema.OF_ENTRY}
WHERE t.id = ? AND e.kind != {schema.INLINE}
"""


@lru_cache(maxsize=schema.MOST_NAMED + 1)
def _query(count: int) -> str:
    """Return the statement that reads the values of so many keys."""
    if not count:
        return _ENTRIES
    return f"{_ENTRIES_AND_SEGMENTS} AND e.key IN ({', '.join('?' * count)})"


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Return the row of a thread, and what is stored; None if there is no row.

    The values of keys that are not in *keys* (None: all are wanted) may be left out.
    """
    arguments: tuple[str, ...] = (thread_id, thread_id, thread_id, thread_id)
    if keys is None or len(keys) > schema.MOST_NAMED:
        keys, query = None, _ENTRIES_AND_SEGMENTS
    else:
        query = _query(len(keys))
        arguments = (*arguments, *keys) if keys else arguments[1:]
    rows = connection.execute(query, arguments).fetchall()
    if not rows:
        return None
    _, number, stored_version, used, updated, born = rows[0]
    _, deleted, size, epoch, metadata, _ = rows[1]
    head = Head(number, stored_version, used, updated, born, deleted, size, epoch, metadata)
    return head, _snapshot(thread_id, head, rows, keys)


def _snapshot(
    thread_id: str, head: Head, rows: list[Any], keys: Collection[str] | None
) -> Snapshot:
    end = bisect_left(rows, True, 2, key=_is_segment)
    entries = rows[2:end]
    if end > 3:
        # In the order of their numbers, in which they were created.
        entries.sort()
    encoded: dict[str, bytes | None] = {}
    without_null: set[str] = set()
    wanted = []
    for row in entries:
        _, key, kind, nulls, _, encoded[key] = row
        if not nulls:
            without_null.add(key)
        if kind and (keys is None or key in keys):
            wanted.append(row)
    tails: dict[str, TailRow] = {}
    if wanted:
        for (_, key, kind, *_), segments in _segments_of(wanted, rows[end:]):
            encoded[key] = _join(kind, segments)
            if segments:
                tails[key] = segments[-1]
    # Keeping more entries would take more memory than it saves time.
    seen = Seen(thread_id, head, entries if end < schema.MOST_NAMED else (), tails)
    version = head.stored_version or head.version
    return Snapshot(encoded, head.metadata, {}, without_null, version, seen)


def _is_segment(row: tuple[Any, ...]) -> bool:
    return row[1] is None


def _segments_of(wanted: Sequence[Any], rows: list[Any]) -> Iterable[tuple[Any, list[Any]]]:
    """Return each wanted entry with its segments."""
    if len(rows) > 1:
        rows.sort()
    if len(wanted) == 1:
        return ((wanted[0], rows),)
    found: dict[int, list[Any]] = {row[0]: [] for row in wanted}
    for row in rows:
        found[row[0] >> schema.SEGMENT_BITS].append(row)
    return zip(wanted, found.values(), strict=True)


def _join(kind: int, segments: list[Any]) -> bytes:
    if len(segments) == 1:
        body: bytes = segments[0][5]
        return b"".join((b"[", body, b"]")) if kind == schema.LIST else body
    if kind == schema.LIST:
        return codec.join_list([segment[5] for segment in segments])
    return b""
