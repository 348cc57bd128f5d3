"""Deleted threads are remembered for an hour, so that older requests do not recreate them."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from ...errors import ThreadGone
from ..base import TOMBSTONE_SECONDS
from ..writing import Write

_FIND = "SELECT deleted, version FROM tombstones WHERE thread_id = ?"
_PUT = "INSERT OR REPLACE INTO tombstones (thread_id, deleted, version) VALUES (?, ?, ?)"
_DATE_TOMBSTONE = "UPDATE tombstones SET deleted = ? WHERE thread_id = ?"
_DATE_THREAD = "UPDATE threads SET deleted = ? WHERE id = ?"
_PURGE = (
    "DELETE FROM tombstones WHERE thread_id IN"
    " (SELECT thread_id FROM tombstones WHERE deleted <= ? LIMIT ?)"
)
_IS_DUE = "SELECT 1 FROM tombstones WHERE deleted <= ? LIMIT 1"


class Tombstone(NamedTuple):
    """When a thread was deleted, and its last version, so that no version is used twice."""

    deleted: float
    version: int


NO_TOMBSTONE = Tombstone(0.0, 0)


def find_tombstone(connection: sqlite3.Connection, thread_id: str) -> Tombstone:
    """Return the tombstone of a thread, or :data:`NO_TOMBSTONE`."""
    row = connection.execute(_FIND, (thread_id,)).fetchone()
    return Tombstone(*row) if row else NO_TOMBSTONE


def put_tombstone(
    connection: sqlite3.Connection, thread_id: str, deleted: float, version: int
) -> None:
    """Record that a thread was deleted; *version* is the last one that it had."""
    earlier = find_tombstone(connection, thread_id)
    connection.execute(_PUT, (thread_id, deleted, max(version, earlier.version)))


def refuse(
    connection: sqlite3.Connection, thread_id: str, deleted: float | None, now: float
) -> ThreadGone:
    """Return the error for a write to a deleted thread, inside its transaction.

    If the clock was set back since the deletion, the deletion counts from now on as happening now.
    Otherwise every request would be older than the deletion until the clock has caught up.
    """
    if deleted and deleted > now:
        connection.execute(_DATE_TOMBSTONE, (now, thread_id))
        connection.execute(_DATE_THREAD, (now, thread_id))
        connection.execute("COMMIT")
    return ThreadGone(thread_id)


def purge_tombstones(connection: sqlite3.Connection, now: float, limit: int) -> None:
    """Remove up to *limit* tombstones that are older than an hour."""
    connection.execute(_PURGE, (now - TOMBSTONE_SECONDS, limit))


def has_old_tombstones(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether there are tombstones to be removed."""
    return connection.execute(_IS_DUE, (now - TOMBSTONE_SECONDS,)).fetchone() is not None


def is_gone(
    deleted: float | None, born: int | None, write: Write, began: float, now: float
) -> bool:
    """Return whether the thread of a write was deleted after the write's request began.

    Times are by the clock of the store.

    :param deleted: when a thread with the id was deleted last.
    :param born: the version with which the stored one began, None if there is none.
    :param began: when the request began.
    """
    if not deleted or deleted <= now - TOMBSTONE_SECONDS:
        return False
    # The request may have read a deleted thread although it seems to have begun after the deletion,
    # because another process can have another clock.
    return deleted >= began or bool(write.version and (born is None or born > write.version))
