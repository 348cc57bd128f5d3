"""Removing expired threads and runs, old tombstones and abandoned turns, and freeing disk space."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import StoreError
from .connections import Connections
from .opening import find_thread, open_stored
from .runs import has_expired_runs, purge_runs
from .tombstones import has_old_tombstones, purge_tombstones
from .turns import has_forgotten_turns, purge_turns

logger = logging.getLogger("flask_agentuity.stores.sqlite")

# One transaction removes few threads and few bytes, so that requests need not wait for long.
_MOST_THREADS = 10
_MOST_BYTES = 100_000
_MOST_TOMBSTONES = 100
#: How many pages one transaction returns to the disk.
_MOST_PAGES = 16
#: The part of the file that stays free for new threads while requests remove expired ones.
_KEPT_FREE = 0.1
#: Seconds between two looks for expired threads.
_INTERVAL = 60.0
#: The shortest pause between two transactions, in seconds.
_PAUSE = 0.004
#: Transactions after which the log is copied into the file.
_CHECKPOINT = 20

_IS_EXPIRED = "used < ? AND updated < ?"
_EXPIRED = f"SELECT id, entries_size FROM threads WHERE {_IS_EXPIRED} LIMIT ?"
_COUNT = f"SELECT count(*) FROM threads WHERE {_IS_EXPIRED}"
_PAGES = "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count"


class Purging:
    """Removes the expired threads of one file.

    :param ttl: seconds without use after which a thread expires; None: never.
    """

    def __init__(self, connections: Connections, ttl: float | None) -> None:
        self._connections = connections
        self._ttl = ttl
        #: When to look for expired threads again, by :func:`time.monotonic`.
        self.due = 0.0

    def do_some(self) -> None:
        """Do a small part of the work, in a request."""
        self.due = time.monotonic() + _INTERVAL
        try:
            if self._remove_some() or self._free_some(_KEPT_FREE):
                # There may be more, which the next write removes.
                self.due = 0.0
        except StoreError as error:
            logger.debug("Expired threads could not be removed now: %s", error)

    def do_all(self, progress: Callable[[int], None] | None) -> int:
        """Remove all expired threads, with pauses in which others can write; return how many."""
        total = steps = 0
        while True:
            with _leaving_pauses():
                removed = self._remove_some()
                freed = not removed and self._free_some(0.0)
            if not removed and not freed and not self._has_remains():
                break
            total += removed
            steps += 1
            if removed and progress:
                progress(removed)
            if steps % _CHECKPOINT == 0:
                # Otherwise one of the requests would have to do it.
                self._copy_log()
        self._empty_log()
        return total

    def wipe(self) -> None:
        """Remove all remains of deleted data from the file and its log."""
        freed = True
        while freed:
            with _leaving_pauses():
                freed = self._free_some(0.0)
        self._empty_log()

    def count(self) -> int:
        """Return how many threads have expired."""
        if self._ttl is None:
            return 0
        before = time.time() - self._ttl
        with self._connections.read() as connection:
            return int(connection.execute(_COUNT, (before, before)).fetchone()[0])

    def _remove_some(self) -> int:
        """Remove some expired threads and old tombstones; return how many threads."""
        now = time.time()
        with self._connections.read() as connection:
            expired = self._find_expired(connection, now)
            if not (expired or _has_remains(connection, now)):
                return 0
        with self._connections.transaction() as connection:
            # Some of them may have been used, or removed, meanwhile.
            expired = self._find_expired(connection, now)
            for thread_id in expired:
                if (stored := find_thread(connection, thread_id)) is not None:
                    open_stored(connection, stored, 0).erase()
            purge_tombstones(connection, now, _MOST_TOMBSTONES)
            purge_turns(connection, now)
            purge_runs(connection, now)
        return len(expired)

    def _has_remains(self) -> bool:
        with self._connections.read() as connection:
            return _has_remains(connection, time.time())

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

    def _free_some(self, kept: float) -> bool:
        """Return some free pages to the disk; False if no more than the part *kept* is free.

        In a file that was made by an early version, free pages are reused, but never returned.
        """
        with self._connections.read() as connection:
            free, pages = connection.execute(_PAGES).fetchone()
            (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        surplus = free - int(pages * kept)
        if not mode or surplus <= 0:
            return False
        with self._connections.transaction() as connection:
            # Python runs only the first step of this statement, whatever the number is.
            for _ in range(min(surplus, _MOST_PAGES)):
                connection.execute("PRAGMA incremental_vacuum(1)")
        return True

    def _empty_log(self) -> None:
        with self._connections.read() as connection:
            is_empty = self._connections.empty_log(connection)
        if not is_empty:
            logger.warning(
                "The write-ahead log of the SQLite file is in use, for example by a backup, and may"
                " still contain deleted text. Run flask threads purge when the backup has ended."
            )

    def _copy_log(self) -> None:
        with self._connections.read() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _has_remains(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether there is something besides threads to be removed."""
    return (
        has_old_tombstones(connection, now)
        or has_forgotten_turns(connection, now)
        or has_expired_runs(connection, now)
    )


@contextmanager
def _leaving_pauses() -> Iterator[None]:
    """Wait after the block for three times as long as it took, so that others can write."""
    began = time.perf_counter()
    yield
    time.sleep(max(_PAUSE, 3 * (time.perf_counter() - began)))
