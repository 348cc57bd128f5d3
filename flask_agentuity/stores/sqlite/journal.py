"""The write-ahead log of the file: entered."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from ...errors import StoreError

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
#: Seconds between two attempts to change the mode of a file that others use.
_PAUSE = 0.01


def journal_mode(connection: sqlite3.Connection) -> str:
    """Return how the file is protected against a crash: ``wal``, or for example ``delete``."""
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


def _change_mode(connection: sqlite3.Connection, timeout: float) -> str:
    """Return the mode after asking for a write-ahead log."""
    # Changing the mode does not wait for other connections as a transaction does.
    deadline = time.monotonic() + timeout
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
