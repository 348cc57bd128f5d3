"""The turns on threads, each kept as a row of the file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence

from ...errors import TurnLost
from ..leases import FORGOTTEN_SECONDS, Lease, renewal_seconds
from ..turns import TurnStore
from .connections import Connections
from .runs import interrupt_runs

_FIND = "SELECT holder, token, renewals, renewed FROM leases WHERE thread_id = ?"
_IS_HELD = "SELECT 1 FROM leases WHERE token = ? AND thread_id = ?"
_REMOVE = "DELETE FROM leases WHERE thread_id = ?"
_TAKE = "INSERT INTO leases (thread_id, holder, renewed) VALUES (?, ?, ?)"
_RENEW = "UPDATE leases SET renewals = renewals + 1, renewed = ? WHERE token = ?"
_END = "DELETE FROM leases WHERE thread_id = ? AND holder = ?"
_COUNT = "UPDATE leases SET waiting = waiting + ? WHERE token = ?"
_WAITING = "SELECT waiting FROM leases WHERE token = ?"
_IS_FORGOTTEN = "renewed NOT BETWEEN ? AND ?"
_FIND_FORGOTTEN = f"SELECT 1 FROM leases WHERE {_IS_FORGOTTEN} LIMIT 1"
_REMOVE_FORGOTTEN = f"DELETE FROM leases WHERE {_IS_FORGOTTEN}"


class SQLiteTurns(TurnStore):
    """The turns of a store in a file."""

    _connections: Connections

    def lease_turn(self, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
        now = time.time()
        # A request that waits looks often, and looking takes no lock.
        with self._connections.read(thread_id) as connection:
            found = _find(connection, thread_id, now)
        if found is not None and found != still:
            return found
        asked = time.monotonic()
        with self._connections.transaction(thread_id) as connection:
            found = _find(connection, thread_id, now)
            if found is not None:
                # If this call waited long for other writers, the holder may have waited too, with
                # its renewal.
                waited = time.monotonic() - asked
                if found != still or waited > renewal_seconds():
                    return found
                connection.execute(_REMOVE, (thread_id,))
                interrupt_runs(connection, thread_id, found.holder)
            token = connection.execute(_TAKE, (thread_id, holder, now)).lastrowid
            assert token is not None
            return Lease(thread_id, holder, token)

    def look_at_turns(self, thread_ids: Sequence[str]) -> Mapping[str, Lease]:
        now = time.time()
        with self._connections.read() as connection:
            found = {each: _find(connection, each, now) for each in thread_ids}
        return {thread_id: lease for thread_id, lease in found.items() if lease is not None}

    def renew_turns(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        now = time.time()
        with self._connections.transaction() as connection:
            return [
                lease
                for lease in leases
                if connection.execute(_RENEW, (now, lease.token)).rowcount != 1
            ]

    def end_turn(self, thread_id: str, holder: str) -> None:
        with self._connections.transaction(thread_id) as connection:
            connection.execute(_END, (thread_id, holder))

    def count_waiting(self, lease: Lease, change: int) -> int:
        with self._connections.transaction(lease.thread_id) as connection:
            connection.execute(_COUNT, (change, lease.token))
            row = connection.execute(_WAITING, (lease.token,)).fetchone()
        return int(row[0]) if row else 0


def require_turn(connection: sqlite3.Connection, thread_id: str, token: int) -> None:
    """Refuse a write whose turn has ended.

    :raises TurnLost: if the turn with *token* is over.
    """
    if connection.execute(_IS_HELD, (token, thread_id)).fetchone() is None:
        raise TurnLost(thread_id)


def has_forgotten_turns(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether there are turns of processes that were killed long ago."""
    return connection.execute(_FIND_FORGOTTEN, _remembered(now)).fetchone() is not None


def purge_turns(connection: sqlite3.Connection, now: float) -> None:
    """Remove the turns of processes that were killed long ago."""
    connection.execute(_REMOVE_FORGOTTEN, _remembered(now))


def _find(connection: sqlite3.Connection, thread_id: str, now: float) -> Lease | None:
    row = connection.execute(_FIND, (thread_id,)).fetchone()
    if row is None:
        return None
    holder, token, renewals, renewed = row
    return Lease(thread_id, holder, token, renewals, now - renewed)


def _remembered(now: float) -> tuple[float, float]:
    return now - FORGOTTEN_SECONDS, now + FORGOTTEN_SECONDS
