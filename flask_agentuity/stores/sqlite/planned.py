"""A write that is prepared before taking the lock, for a thread that has not changed since."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...document.operations import KeyOperation
from ..writing import Written

UPDATE_ROW = (
    "UPDATE threads SET entries_size = ?, updated = ?, version = ?, epoch = ? WHERE number = ?"
)
# For a thread that is not stale. The column is indexed, and most writes need not touch the index.
_MARK_ROW = UPDATE_ROW.replace(" WHERE", ", stale = 1 WHERE")
# The number of a deleted thread can be reused, so the id is compared as well.
_AS_SEEN = " AND version = ? AND id = ?"
#: What follows the update of a row that was seen, by :attr:`.Head.stale`.
AS_SEEN = _AS_SEEN, f"{_AS_SEEN} AND stale = 1"
#: What updates a row that is stored, by :attr:`.Head.stale`.
UPDATE_STORED_ROW = _MARK_ROW, UPDATE_ROW
UPDATE_SEEN_ROW = _MARK_ROW + AS_SEEN[0], UPDATE_ROW + AS_SEEN[1]


class Planned(NamedTuple):
    """Statements, and what the write has to report if they are run.

    ``update`` writes the row of the thread if it has the version that was seen.
    """

    update: str
    arguments: Sequence[Any]
    statements: Sequence[tuple[str, Sequence[Any]]]
    written: Written
    skipped: Sequence[KeyOperation] = ()

    def run(self, connection: sqlite3.Connection) -> bool:
        """Write inside a transaction; False, and nothing written, if the thread has changed."""
        if connection.execute(self.update, self.arguments).rowcount != 1:
            return False
        for statement, arguments in self.statements:
            connection.execute(statement, arguments)
        return True


def next_version(version: int, now: float) -> int:
    """Return a version after *version*, at least the time in microseconds."""
    return max(version + 1, int(now * 1_000_000))
