"""The write-ahead log of the file: switching to it, and keeping it short."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from ...errors import StoreError

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
#: Seconds between two attempts to change the mode of a file that others use.
_PAUSE = 0.01
#: The log is restarted when it is longer than this, in bytes.
LONGEST = 16 << 20
#: The size to which a longer log is cut, in bytes. Growing a file takes time, so it is not 0.
KEPT = 8 << 20
#: Milliseconds for which emptying the log waits for its readers, and seconds between two attempts.
#: Writers wait during an attempt, and write between them.
_READERS = 20
_GAP = 0.18
#: The milliseconds for which restarting a log that is too long waits for them, in each attempt.
_PATIENCE = (40, 80, 160)
#: How many times as long as an attempt the pause after it is.
_PAUSES = 20
#: Seconds in which a process makes no attempt after one of its writers has waited long, probably
#: because of the attempt of another process.
_AWAY = 1.0
#: If another process copies a log that is longer than this many times :data:`LONGEST`, the writers
#: of this one pause, for so many seconds. Otherwise they fill it faster than a slow disk empties
#: it.
_FAR_TOO_LONG = 2
_WRITER_PAUSE = 0.1
#: How many times emptying the log is tried, in about 2 seconds.
_ATTEMPTS = 10


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Return whether another connection has a lock that was needed."""
    return error.sqlite_errorcode & 0xFF in _BUSY


def journal_mode(connection: sqlite3.Connection) -> str:
    """Return the journal mode of the file: ``wal``, or for example ``delete``."""
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def require_wal(connection: sqlite3.Connection, timeout: float, path: Path) -> None:
    """Give a new file a write-ahead log.

    :raises StoreError: if it cannot have one.
    """
    mode = _change_mode(connection, timeout)
    if mode != "wal":
        raise StoreError(
            f"{path} cannot have a write-ahead log (its mode stays {mode}); name a file on a local"
            " disk."
        )


def enter_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Give a file a write-ahead log if it has none and can have one.

    Without it, everything works, but each write costs many times as much.
    """
    if journal_mode(connection) == "wal":
        return
    try:
        _change_mode(connection, timeout)
    except sqlite3.OperationalError:
        # It is in use, or cannot be written; the next connection tries again.
        return


class Log:
    """The write-ahead log of one file, which a process keeps short.

    SQLite copies the log into the file now and then, but restarts it only when no connection is
    reading it. If there is always a reader, the log grows without limit.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-wal")
        self._limit = LONGEST
        self._attempts = 0
        # When to try again, by time.monotonic(), if the log is not longer than this before.
        self._again = 0.0
        self._longer = 0

    def note_wait(self) -> None:
        """Note that a writer of this process has waited for long."""
        self._leave(_AWAY)

    def shorten(self, connection: sqlite3.Connection) -> None:
        """Restart the log if it is too long. Not to be called in a transaction."""
        size = self._size()
        if size <= self._limit:
            return
        # Most of the work is done while others can still write.
        (is_copied_by_another, *_) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if is_copied_by_another:
            if size > LONGEST * _FAR_TOO_LONG:
                time.sleep(_WRITER_PAUSE)
            return
        if time.monotonic() < self._again and size <= self._longer:
            return
        patience = _PATIENCE[self._attempts]
        if self._restart(connection, patience):
            self._limit, self._attempts, self._again = LONGEST, 0, 0.0
            return
        self._leave(_PAUSES * patience / 1000)
        if self._attempts + 1 < len(_PATIENCE):
            self._attempts += 1
        else:
            # A backup can read for a long time: writers must not wait for it repeatedly.
            self._limit, self._attempts = self._size() + LONGEST, 0

    def _leave(self, seconds: float) -> None:
        self._again = time.monotonic() + seconds
        self._longer = self._size() + LONGEST // 2

    def _restart(self, connection: sqlite3.Connection, milliseconds: int) -> bool:
        """Wait until no reader uses the log, and restart it; False if one still does."""
        (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
        try:
            connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            # Readers that begin now need only the file.
            (is_used, *_) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {before}")
        return not is_used

    def empty(self, connection: sqlite3.Connection) -> bool:
        """Copy the log into the file, and empty it. Not to be called in a transaction.

        :returns: False if other connections have used it all the time.
        """
        (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
        try:
            connection.execute(f"PRAGMA busy_timeout = {_READERS}")
            for attempt in range(_ATTEMPTS):
                if attempt:
                    # Writers have waited until now.
                    time.sleep(_GAP)
                if _is_emptied(connection):
                    return True
            return False
        finally:
            connection.execute(f"PRAGMA busy_timeout = {before}")

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def _is_emptied(connection: sqlite3.Connection) -> bool:
    try:
        # Most of the work is done while others can still write.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        (is_used, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        return False
    return not is_used


def _change_mode(connection: sqlite3.Connection, timeout: float) -> str:
    """Return the mode after asking for a write-ahead log."""
    # Changing the mode does not wait for other connections as a transaction does.
    deadline = time.monotonic() + timeout
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
