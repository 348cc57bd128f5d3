"""Remove expired threads and runs, old tombstones and forgotten turns."""

from __future__ import annotations

import sqlite3

from .opening import find_thread, open_stored
from .runs import has_expired_runs, purge_runs
from .tombstones import has_old_tombstones, purge_tombstones
from .turns import has_forgotten_turns, purge_turns

#: How many threads are removed in one transaction: few, so that requests need not wait long.
BATCH = 20
_MOST_TOMBSTONES = 500

_EXPIRED = "SELECT id FROM threads WHERE used < ? AND updated < ? LIMIT ?"


def is_purge_due(connection: sqlite3.Connection, now: float, ttl: float | None) -> bool:
    """Return whether there is something to be removed."""
    return (
        bool(_find_expired(connection, now, ttl, 1))
        or has_old_tombstones(connection, now)
        or has_forgotten_turns(connection, now)
        or has_expired_runs(connection, now)
    )


def purge_batch(connection: sqlite3.Connection, now: float, ttl: float | None) -> int:
    """Remove some of what has expired; return how many threads."""
    expired = _find_expired(connection, now, ttl, BATCH)
    for thread_id in expired:
        if (stored := find_thread(connection, thread_id)) is not None:
            open_stored(connection, stored, 0).erase()
    purge_tombstones(connection, now, _MOST_TOMBSTONES)
    purge_turns(connection, now)
    purge_runs(connection, now)
    return len(expired)


def _find_expired(
    connection: sqlite3.Connection, now: float, ttl: float | None, limit: int
) -> list[str]:
    if ttl is None:
        return []
    rows = connection.execute(_EXPIRED, (now - ttl, now - ttl, limit))
    return [thread_id for (thread_id,) in rows]
