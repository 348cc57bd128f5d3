"""Copying the file while it is in use."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from ...errors import StoreError
from .reasons import reason_of
from .schema import APPLICATION_ID, FORMAT_VERSION

#: Milliseconds to wait for other writers.
_WAIT = 10_000
_FORMAT = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"


def back_up(connection: sqlite3.Connection, path: Path) -> int:
    """Copy the file, as it is at one moment, to another file; return the number of threads.

    The copy has no unused pages, so it contains nothing of deleted threads. While it is written,
    the write-ahead log cannot be restarted.

    :raises StoreError: if the copy cannot be written, or is not as it should be.
    """
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if not mode:
        # For the copy, because an early version may have made the file. It waits for other writers.
        (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {_WAIT}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA busy_timeout = {before}")
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(_copy, connection, path)
        try:
            copying.result()
        except BaseException:
            # A signal would otherwise have no effect until the copy is complete.
            connection.interrupt()
            raise
    return _verified(path)


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite refuses to replace a file with contents.
    is_new = not path.exists() or path.stat().st_size == 0
    try:
        # As bytes, because a file name need not be valid UTF-8.
        connection.execute("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(path),))
    except sqlite3.Error as error:
        if is_new:
            path.unlink(missing_ok=True)
        reason = reason_of(error, path.parent)
        raise StoreError(f"The copy of the threads could not be written: {reason}") from error


def _verified(path: Path) -> int:
    """Return the number of threads in a copy.

    :raises StoreError: if it is damaged.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found == "ok" and copy.execute(_FORMAT).fetchone() != (APPLICATION_ID, FORMAT_VERSION):
            found = "its format is not that of the original"
        if found != "ok":
            raise StoreError(f"The copy of the threads is damaged ({found}).")
        return int(copy.execute("SELECT count(*) FROM threads").fetchone()[0])
