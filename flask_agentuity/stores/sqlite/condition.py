"""The condition of the file, for ``flask threads check``."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .journal import journal_mode

_PAGES = (
    "SELECT page_count * page_size, freelist_count * page_size"
    " FROM pragma_page_count, pragma_page_size, pragma_freelist_count"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of the file. Sizes are in bytes; ``unused`` is the part without threads.

    ``returns_space``: whether the space of removed threads is returned to the disk.
    ``is_private``: whether only its owner, and perhaps a group, can read it.
    """

    path: Path
    journal_mode: str
    size: int
    unused: int
    returns_space: bool
    is_private: bool

    def warnings(self) -> Iterator[str]:
        """Yield warnings, each with its remedy."""
        if self.journal_mode != "wal":
            yield (
                f"{self.path} has no write-ahead log (its mode is {self.journal_mode}), so writing"
                " is slow. Stop other programs that have it open; it must be on a local disk."
            )
        if not self.is_private:
            yield f"All users of this machine can read {self.path}. Run chmod 600 {self.path}*"
        if not self.returns_space:
            yield (
                f"{self.path} was made by an early version, so the space of removed threads is"
                " reused, but not returned to the disk. Make a backup (flask threads backup) and"
                " restore it."
            )


def condition_of(connection: sqlite3.Connection, path: Path) -> Condition:
    """Return the condition of the file at *path*."""
    size, unused = connection.execute(_PAGES).fetchone()
    (vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    # Windows has a different kind of permissions.
    is_private = os.name == "nt" or not path.stat().st_mode & stat.S_IRWXO
    mode = journal_mode(connection)
    return Condition(path, mode, size, unused, bool(vacuum), is_private)
