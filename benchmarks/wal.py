"""How many bytes a request writes to SQLite's write-ahead logs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

_SUFFIX = "-wal"


def bytes_written(folder: Path, call: Callable[[], object]) -> int | None:
    """Return the bytes that *call* adds to the logs below *folder*; None if there is no log.

    The logs are emptied before, so that each byte of them is one that *call* has written.

    :raises RuntimeError: if a log cannot be emptied, because a database is in use.
    """
    logs = sorted(folder.rglob(f"*{_SUFFIX}"))
    if not logs:
        return None
    for log in logs:
        _empty(log)
    call()
    return sum(log.stat().st_size for log in logs)


def _empty(log: Path) -> None:
    database = log.with_name(log.name.removesuffix(_SUFFIX))
    connection = sqlite3.connect(database)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
    if busy:
        raise RuntimeError(f"The write-ahead log of {database} is in use.")
