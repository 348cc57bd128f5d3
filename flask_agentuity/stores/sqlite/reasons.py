"""What an error of SQLite means, in words for the log."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

# With fewer free bytes, SQLite cannot even extend the index of its log.
_FULL = 65_536
# What SQLite says if a file cannot be extended, or made.
_VAGUE = ("SQLITE_IOERR", "SQLITE_CANTOPEN")


def reason_of(error: BaseException, folder: Path) -> str:
    """Return what *error* says.

    Where SQLite says only that it could not write, this looks whether the disk is full.

    :param folder: where the file is.
    """
    name = getattr(error, "sqlite_errorname", None)
    if not isinstance(error, sqlite3.Error) or not name or not name.startswith(_VAGUE):
        return str(error)
    try:
        is_full = shutil.disk_usage(folder).free < _FULL
    except OSError:
        is_full = False
    return f"{error} ({name}{'; the disk is full' if is_full else ''})"
