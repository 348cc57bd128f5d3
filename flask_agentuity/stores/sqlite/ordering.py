"""The order of threads in listings, kept in indexes without slowing writes.

A listing shows the thread that was updated last first. An index of the times of updates would
have to be changed by each write. So a thread is indexed at the time ``listed``, and a write that
changes ``updated`` only marks it as *stale*: the first such write adds it to a short index of
stale threads, and those that follow change no index. A listing takes the threads that are not
stale in the order of the indexes, and sorts the stale ones between them. There are never many:
when there are more than :data:`MOST_STALE`, those that were updated least recently are indexed
at the time of their update again.
"""

from __future__ import annotations

import logging
import sqlite3

from ...errors import StoreError
from ..writing import Conflict, Written
from .connections import Connections

logger = logging.getLogger("flask_agentuity.stores.sqlite")

#: How many stale threads may remain. A listing reads all of them.
MOST_STALE = 512
#: How many stale threads are put into their places at once, each time as many were marked.
SETTLED = 32

_COUNT = "SELECT count(*) FROM threads INDEXED BY threads_stale WHERE stale = 1"
_OLDEST = (
    "SELECT number, updated FROM threads INDEXED BY threads_stale WHERE stale = 1"
    " ORDER BY updated LIMIT ?"
)
_SETTLE = "UPDATE threads SET listed = updated, stale = 0 WHERE number"
_SETTLE_TERMS = (
    "UPDATE index_terms SET listed = (SELECT updated FROM threads WHERE number = thread)"
    " WHERE thread"
)
_CHOSEN = f"""IN (
    SELECT number FROM threads
    WHERE number IN ({", ".join("?" * SETTLED)}) AND stale = 1 AND updated <= ?
)"""
_SET_TIMES = "UPDATE threads SET created = ?, updated = ? WHERE number = ?"


class Ordering:
    """Keeps the number of stale threads of one file small."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._marked = 0
        # Stale threads that were updated at this time or earlier.
        self._waiting: list[int] = []
        self._before = 0.0

    def note_write(self, outcome: Written | Conflict) -> None:
        """Count a write to a thread that was not stale; sometimes put some into their places."""
        if not isinstance(outcome, Written):
            return
        # The count need not be exact if several Python threads write at once.
        self._marked += 1
        if self._marked >= SETTLED:
            self._marked = 0
            self._settle_some()

    def _settle_some(self) -> None:
        try:
            if not self._waiting:
                self._find_oldest()
            chosen, self._waiting = self._waiting[:SETTLED], self._waiting[SETTLED:]
            if not chosen:
                return
            arguments = [*chosen, *[-1] * (SETTLED - len(chosen)), self._before]
            with self._connections.transaction() as connection:
                connection.execute(f"{_SETTLE_TERMS} {_CHOSEN}", arguments)
                connection.execute(f"{_SETTLE} {_CHOSEN}", arguments)
        except StoreError as error:
            # Until a later write tries again, listings are only slower.
            logger.debug("The index of listings could not be updated: %s", error)

    def _find_oldest(self) -> None:
        """Choose the half of the stale threads that was updated least recently, if it is time."""
        with self._connections.read() as connection:
            (count,) = connection.execute(_COUNT).fetchone()
            if count <= MOST_STALE:
                return
            rows = connection.execute(_OLDEST, (count // 2,)).fetchall()
        self._before = rows[-1][1]
        self._waiting = [number for number, _ in rows]


def set_times(connection: sqlite3.Connection, number: int, created: float, updated: float) -> None:
    """Set the times of a thread that comes from another store."""
    connection.execute(_SET_TIMES, (created, updated, number))
    connection.execute(f"{_SETTLE_TERMS} = ?", (number,))
    connection.execute(f"{_SETTLE} = ?", (number,))
