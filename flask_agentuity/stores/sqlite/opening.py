"""Opening a thread for a write: as it is stored, or as the request has seen it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from functools import lru_cache
from operator import itemgetter

from . import schema
from .entries import Entry
from .open_thread import OpenThread
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, EntryRow, Head, Seen, TailRow
from .statements import CollectedStatements, DirectStatements, NotSeen, Statements

_HEAD = f"SELECT 0, {HEAD_COLUMNS} FROM threads t WHERE t.id = ?"

# The row of a thread, and those of its entries with their last segment. The body of a full
# segment is not needed to append to the list.
_ENTRIES = f"""
{_HEAD}
UNION ALL
SELECT {ENTRY_COLUMNS}, s.number, s.items, length(s.body), s.items_before, s.epoch,
  CASE WHEN length(s.body) <= {schema.FULL_BYTES} THEN CAST(s.body AS BLOB) END
FROM threads t JOIN thread_entries e ON e.thread = t.number
LEFT JOIN segments s ON e.kind != {schema.INLINE}
  AND s.number = (SELECT max(number) FROM segments WHERE number {schema.OF_ENTRY})
WHERE t.id = ?
"""

_INSERT = (
    "INSERT INTO threads (id, created, updated, used, entries_size, metadata, version, born,"
    " deleted, owner, listed) VALUES (?, ?, ?, ?, 0, x'7b7d', ?, ?, ?, ?, ?)"
)

_first_column = itemgetter(0)


@lru_cache(maxsize=schema.MOST_NAMED + 1)
def _query(count: int) -> str:
    """Return the statement that finds the entries of this number of keys."""
    return f"{_ENTRIES} AND e.key IN ({', '.join('?' * count)})"


def find_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] = ()
) -> Seen | None:
    """Return what is stored of a thread, with the entries of *keys*; None if there is no row."""
    arguments: tuple[str, ...]
    if not keys:
        query, arguments = _HEAD, (thread_id,)
    elif len(keys) > schema.MOST_NAMED:
        query, arguments = _ENTRIES, (thread_id, thread_id)
    else:
        query, arguments = _query(len(keys)), (thread_id, thread_id, *keys)
    rows = connection.execute(query, arguments).fetchall()
    if not rows:
        return None
    if len(rows) > 2:
        rows.sort(key=_first_column)
    head = Head(*rows[0][1:12])
    entries: list[EntryRow] = []
    tails: dict[str, TailRow] = {}
    for row in rows[1:]:
        entries.append(row[:6])
        if row[6] is not None:
            tails[row[1]] = (*row[6:], row[2], row[3])
    return Seen(thread_id, head, entries, tails)


def insert_thread(
    connection: sqlite3.Connection,
    thread_id: str,
    now: float,
    version: int,
    deleted: float | None,
    owner: str | None,
) -> Head:
    """Insert the row of a thread that is not stored."""
    row = thread_id, now, now, now, version, version, deleted, owner, now
    number = connection.execute(_INSERT, row).lastrowid
    assert number is not None
    return Head(number, version, now, now, version, deleted, 0, 0, b"{}", owner, 0)


def open_stored(
    connection: sqlite3.Connection, stored: Seen, version: int, counted: Collection[str] = ()
) -> OpenThread:
    """Open a thread inside a transaction; it gets *version*."""
    statements = DirectStatements(connection)
    entries = [_open(statements, stored, row) for row in stored.entries]
    return OpenThread(statements, stored.thread_id, stored.head, entries, version, counted)


def open_seen(
    statements: CollectedStatements,
    seen: Seen,
    keys: Collection[str],
    version: int,
    counted: Collection[str],
) -> OpenThread:
    """Open a thread as it was seen; the changes are only collected.

    :raises NotSeen: if an entry was not seen.
    """
    rows = {row[1]: row for row in seen.entries}
    entries = []
    for key in keys:
        row = rows.get(key)
        if row is None or (row[2] != schema.INLINE and key not in seen.tails):
            raise NotSeen
        entries.append(_open(statements, seen, row))
    return OpenThread(statements, seen.thread_id, seen.head, entries, version, counted)


def _open(statements: Statements, seen: Seen, row: EntryRow) -> Entry:
    return Entry(statements, seen.thread_id, seen.head.epoch, row, seen.tails.get(row[1]))
