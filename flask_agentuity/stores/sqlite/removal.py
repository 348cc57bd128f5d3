"""Removing what has expired and returning free pages to the disk, in short transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..pacing import in_time
from .connections import Connections
from .corrections import correct_times, has_times_ahead
from .opening import find_thread, open_stored
from .runs import has_expired_runs, purge_runs
from .tombstones import has_old_tombstones, purge_tombstones
from .turns import has_forgotten_turns, purge_turns

#: The most that one transaction removes: threads, bytes of threads, and tombstones.
_MOST_THREADS = 10
_MOST_BYTES = 100_000
_MOST_TOMBSTONES = 100
#: The most pages that one transaction returns to the disk. Most of them need not be moved.
_MOST_PAGES = 64

_IS_EXPIRED = "used < ? AND updated < ?"
# A damaged size counts as 0.
_SIZE = "CAST(entries_size AS INTEGER)"
_EXPIRED = f"SELECT id, {_SIZE} FROM threads WHERE {_IS_EXPIRED} LIMIT ?"
_COUNT = f"SELECT count(*) FROM threads WHERE {_IS_EXPIRED}"
_PAGES = "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count"


class Mark(NamedTuple):
    """The thread that is removed next, and the number of pages of the file."""

    first: str | None
    pages: int


class Removal:
    """Removes the threads of one file that have expired at a given time, a few at a time.

    :param ttl: seconds without use after which a thread expires; None: never.
    """

    def __init__(self, connections: Connections, ttl: float | None) -> None:
        self._connections = connections
        self._ttl = ttl
        # How many threads were corrected last, for what time.
        self._corrected_at, self._corrected = 0.0, 0

    def mark(self, now: float) -> Mark:
        """Return what changes if another process removes something."""
        with self._connections.read() as connection:
            first = next(iter(self._find_expired(connection, now)), None)
            return Mark(first, *connection.execute("PRAGMA page_count").fetchone())

    def is_due(self, now: float, kept: float) -> bool:
        """Return whether there is anything to do; *kept* is as in :meth:`free_some`."""
        with self._connections.read() as connection:
            return (
                bool(self._find_expired(connection, now))
                or _has_remains(connection, now)
                or _surplus(connection, kept) > 0
                or has_times_ahead(connection, now)
            )

    def has_remains(self, now: float) -> bool:
        """Return whether there is something besides threads to be removed."""
        with self._connections.read() as connection:
            return _has_remains(connection, now)

    def remove_some(self, now: float, *, frees_later: bool = False) -> int:
        """Remove some expired threads and other remains; return how many threads.

        :param frees_later: whether the caller will return all free pages to the disk. Then SQLite
            need not overwrite them before, which is half of what would be written.
        """
        with self._connections.read() as connection:
            if not (self._find_expired(connection, now) or _has_remains(connection, now)):
                return 0
        removed = 0
        with self._transaction(overwrites=not frees_later) as connection:
            # Some of them may have been used, or removed, meanwhile.
            expired = self._find_expired(connection, now)
            for thread_id in in_time(expired):
                if (stored := find_thread(connection, thread_id)) is not None:
                    open_stored(connection, stored, 0).erase()
                removed += 1
            purge_tombstones(connection, now, _MOST_TOMBSTONES)
            purge_turns(connection, now)
            purge_runs(connection, now)
        return removed

    def correct_some(self, now: float) -> int:
        """Correct times that are in the future, of some threads; return of how many."""
        with self._connections.read() as connection:
            if not has_times_ahead(connection, now):
                return 0
        with self._transaction() as connection:
            if now != self._corrected_at:
                self._corrected_at, self._corrected = now, 0
            corrected = correct_times(connection, now, self._corrected)
            self._corrected += corrected
            return corrected

    def free_some(self, kept: float) -> bool:
        """Return some free pages to the disk; False if no more than the part *kept* is free.

        In a file that was made by an early version, free pages are reused, but never returned.
        """
        with self._connections.read() as connection:
            surplus = _surplus(connection, kept)
        if surplus <= 0:
            return False
        with self._transaction() as connection:
            # Python runs only the first step of this statement, whatever the number is.
            for _ in in_time(range(min(surplus, _MOST_PAGES))):
                connection.execute("PRAGMA incremental_vacuum(1)")
        return True

    def copy_log(self) -> None:
        """Copy the write-ahead log into the file, while others can write."""
        with self._connections.read() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            # Usually, a request does it when the log has become too long.
            self._connections.shorten_log(connection)

    def count(self, now: float) -> int:
        """Return how many threads have expired."""
        if self._ttl is None:
            return 0
        before = now - self._ttl
        with self._connections.read() as connection:
            return int(connection.execute(_COUNT, (before, before)).fetchone()[0])

    @contextmanager
    def _transaction(self, *, overwrites: bool = True) -> Iterator[sqlite3.Connection]:
        """Return a connection inside a transaction whose end does not copy the log.

        Other threads of the process, which wait for the end, would wait for that too.
        """
        with self._connections.transaction() as connection:
            (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
            (secure,) = connection.execute("PRAGMA secure_delete").fetchone()
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            leaves = secure == 1 and not overwrites and _can_free(connection)
            if leaves:
                connection.execute("PRAGMA secure_delete = FAST")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if leaves:
                    connection.execute("PRAGMA secure_delete = ON")
                connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def _find_expired(self, connection: sqlite3.Connection, now: float) -> list[str]:
        if self._ttl is None:
            return []
        before = now - self._ttl
        found: list[str] = []
        size = 0
        for thread_id, entries_size in connection.execute(
            _EXPIRED, (before, before, _MOST_THREADS)
        ):
            size += entries_size
            if found and size > _MOST_BYTES:
                break
            found.append(thread_id)
        return found


def _can_free(connection: sqlite3.Connection) -> bool:
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    return bool(mode)


def _surplus(connection: sqlite3.Connection, kept: float) -> int:
    """Return how many pages are free beyond the part *kept* of the file, if they can be freed."""
    if not _can_free(connection):
        return 0
    free, pages = connection.execute(_PAGES).fetchone()
    return int(free) - int(pages * kept)


def _has_remains(connection: sqlite3.Connection, now: float) -> bool:
    return (
        has_old_tombstones(connection, now)
        or has_forgotten_turns(connection, now)
        or has_expired_runs(connection, now)
    )
