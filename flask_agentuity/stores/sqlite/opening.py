"""Open a thread for a write: as it is stored, or as the request has seen it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from operator import itemgetter
from typing import Any, NamedTuple

from . import schema
from .entries import Entry
from .open_thread import OpenThread
from .seen import ENTRY_COLUMNS, HEAD_COLUMNS, Head, Seen, Segment
from .statements import CollectedStatements, DirectStatements, NotSeen

_HEAD = f"SELECT 0, {HEAD_COLUMNS}, NULL FROM threads t WHERE t.id = ?"

# The row of a thread, and those of its entries with their last segment.
_ENTRIES = f"""
{_HEAD}
UNION ALL
SELECT {ENTRY_COLUMNS}, s.number, s.items, length(s.body), s.items_before, s.epoch
FROM threads t JOIN state_entries e ON e.thread = t.number
LEFT JOIN segments s ON e.kind != {schema.INLINE}
  AND s.number = (SELECT max(number) FROM segments WHERE number {schema.OF_ENTRY})
WHERE t.id = ?
"""

_INSERT = (
    "INSERT INTO threads (id, created, updated, used, entries_size, metadata, version, born,"
    " deleted) VALUES (?, ?, ?, ?, 0, x'7b7d', ?, ?, ?)"
)


class Stored(NamedTuple):
    """The row of a thread, and those of the entries that were asked for."""

    head: Head
    entries: list[Any]


def find_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str]
) -> Stored | None:
    """Return what is stored of a thread, with the entries of *keys*; None if there is no row."""
    arguments: tuple[str, ...]
    if not keys:
        query, arguments = _HEAD, (thread_id,)
    elif len(keys) > schema.MOST_NAMED:
        query, arguments = _ENTRIES, (thread_id, thread_id)
    else:
        query = f"{_ENTRIES} AND e.key IN ({', '.join('?' * len(keys))})"
        arguments = (thread_id, thread_id, *keys)
    rows = connection.execute(query, arguments).fetchall()
    if not rows:
        return None
    rows.sort(key=itemgetter(0))
    return Stored(Head(*rows[0][1:10]), rows[1:])


def insert_thread(
    connection: sqlite3.Connection,
    thread_id: str,
    now: float,
    version: int,
    deleted: float | None,
) -> Head:
    """Insert the row of a thread that is not stored."""
    row = thread_id, now, now, now, version, version, deleted
    number = connection.execute(_INSERT, row).lastrowid
    assert number is not None
    return Head(number, version, now, now, version, deleted, 0, 0, b"{}")


def open_stored(
    connection: sqlite3.Connection,
    thread_id: str,
    stored: Stored,
    version: int,
    counted: Collection[str] = (),
) -> OpenThread:
    """Open a thread inside a transaction; it gets *version*."""
    statements, head = DirectStatements(connection), stored.head
    entries = []
    for row in stored.entries:
        number, items, size, before, epoch = row[6:]
        found = None if number is None else Segment(number, items, size)
        before = before if epoch == head.epoch else None
        entries.append(Entry(statements, thread_id, head.epoch, row, found, before))
    return OpenThread(statements, thread_id, head, entries, version, counted)


def open_seen(
    statements: CollectedStatements,
    seen: Seen,
    keys: Collection[str],
    version: int,
    counted: Collection[str],
) -> OpenThread:
    """Open a thread as it was seen; what is to be changed is only collected.

    :raises NotSeen: if an entry was not seen.
    """
    thread_id, head = seen.thread_id, seen.head
    rows = {row[1]: row for row in seen.entries}
    entries = []
    for key in keys:
        row, tail = rows.get(key), seen.tails.get(key)
        if row is None or (tail is None and row[2] != schema.INLINE):
            raise NotSeen
        found = before = None
        if tail is not None:
            number, items, before, epoch, body = tail
            found = Segment(number, items, len(body), body)
            before = before if epoch == head.epoch else None
        entries.append(Entry(statements, thread_id, head.epoch, row, found, before))
    return OpenThread(statements, thread_id, head, entries, version, counted)
