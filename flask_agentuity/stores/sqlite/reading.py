"""Reading a thread: which rows are fetched, and what a later write may know of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from . import schema
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, Head, Inner, Seen, SeenList, Segment

#: The row of a thread, and behind it the rows of its entries. The first column sorts them.
_THREAD = f"""
SELECT 0, {HEAD_COLUMNS} FROM threads t WHERE t.id = ?
UNION ALL
SELECT {ENTRY_COLUMNS}, NULL, NULL, NULL, NULL
FROM threads t JOIN state_entries e ON e.thread = t.number WHERE t.id = ?
"""

# The version comes first, so that the segments are known to be those of the entries.
_VERSION = "SELECT NULL, (SELECT version FROM threads WHERE number = ?), NULL"

_SEGMENTS_OF_ONE = f"""
{_VERSION}
UNION ALL
SELECT number, items, CAST(body AS BLOB) FROM segments WHERE number BETWEEN ? AND ?
ORDER BY 1
"""

_SEGMENTS = f"""
{_VERSION}
UNION ALL
SELECT s.number, s.items, CAST(s.body AS BLOB)
FROM state_entries e JOIN segments s ON s.number {schema.OF_ENTRY} WHERE
"""
_SEGMENTS_OF_ALL = f"{_SEGMENTS} e.thread = ? AND e.kind != {schema.INLINE}"

_first_column = itemgetter(0)


class _Changed(Exception):
    """The thread was written between two statements."""


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    """Return the row of a thread, and what is stored; None if there is no row.

    The values of keys that are not in *keys* (None: all are wanted) may be left out.
    """
    try:
        return _read(connection, thread_id, keys)
    except _Changed:
        # A transaction costs more, so it is only used if the thread is being written.
        connection.execute("BEGIN")
        try:
            return _read(connection, thread_id, keys)
        finally:
            connection.execute("COMMIT")


def _read(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[Head, Snapshot] | None:
    rows = connection.execute(_THREAD, (thread_id, thread_id)).fetchall()
    if not rows:
        return None
    rows.sort(key=_first_column)
    head = Head._make(rows.pop(0)[1:])
    if keys is not None and len(keys) > 8:
        keys = frozenset(keys)
    wanted = [row for row in rows if row[2] and (keys is None or row[1] in keys)]
    encoded = {row[1]: row[5] for row in rows}
    lists: dict[str, SeenList] = {}
    if wanted:
        found = _read_segments(connection, head, wanted, all_wanted=keys is None)
        for row, segments in zip(wanted, found, strict=True):
            encoded[row[1]], lists[row[1]] = _join(row[2], segments)
    # More entries would take more memory than they save time.
    entries = {row[1]: row for row in rows} if len(rows) <= schema.MOST_NAMED else {}
    return head, Snapshot(
        encoded,
        head.metadata,
        without_null={row[1] for row in rows if not row[3]},
        version=head.version,
        seen=Seen(thread_id, head, entries, lists),
    )


def _read_segments(
    connection: sqlite3.Connection, head: Head, wanted: Sequence[Any], *, all_wanted: bool
) -> list[list[tuple[int, int, bytes]]]:
    """Return the segments of each wanted entry.

    :raises _Changed: if they are not of the same moment as the entries.
    """
    arguments: tuple[int, ...]
    if len(wanted) == 1:
        query, arguments = _SEGMENTS_OF_ONE, schema.segment_range(wanted[0][0])
    elif all_wanted or len(wanted) > schema.MOST_NAMED:
        query, arguments = _SEGMENTS_OF_ALL, (head.number,)
    else:
        query = f"{_SEGMENTS} e.number IN ({schema.placeholders(len(wanted))})"
        arguments = tuple(map(_first_column, wanted))
    rows = connection.execute(query, (head.number, *arguments)).fetchall()
    if rows.pop(0)[1] != head.stored_version:
        raise _Changed
    if len(wanted) == 1:
        return [rows]
    rows.sort(key=_first_column)
    found: dict[int, list[tuple[int, int, bytes]]] = {row[0]: [] for row in wanted}
    for row in rows:
        if (segments := found.get(row[0] >> schema.SEGMENT_BITS)) is not None:
            segments.append(row)
    return list(found.values())


def _join(kind: int, segments: list[tuple[int, int, bytes]]) -> tuple[bytes, SeenList]:
    """Return a value, and what a later write may know of it."""
    if kind == schema.LARGE:
        number, _, body = segments[0] if segments else (0, 0, b"")
        return body, SeenList(Segment(number, 1, len(body), body), 0, len(body))
    if not segments:
        return codec.EMPTY_LIST, SeenList(None, 0, 2)
    numbers, items, bodies = zip(*segments, strict=True)
    encoded = codec.join_list(bodies)
    tail = Segment(numbers[-1], items[-1], len(bodies[-1]), bodies[-1])
    if len(segments) == 1:
        return encoded, SeenList(tail, 0, len(encoded))
    inner = Inner(numbers, items, tuple(map(len, bodies)), encoded)
    return encoded, SeenList(tail, sum(items) - items[-1], len(encoded), inner)
