"""Who has the exclusive turn on a thread, as rows of the file."""

from __future__ import annotations

from .connections import Connections

_IS_TAKEN = "SELECT 1 FROM turns WHERE thread_id = ? AND holder != ? AND until > ?"
_REMOVE_ENDED = "DELETE FROM turns WHERE until <= ?"
_TAKE = "INSERT OR REPLACE INTO turns (thread_id, holder, until) VALUES (?, ?, ?)"
_END = "DELETE FROM turns WHERE thread_id = ? AND holder = ?"


def take_turn(
    connections: Connections, thread_id: str, holder: str, now: float, until: float
) -> bool:
    """Give *holder* the turn, for the first time or again; False if another has it."""
    arguments = (thread_id, holder, now)
    # A request that waits looks often, and looking takes no lock.
    with connections.read(thread_id) as connection:
        if connection.execute(_IS_TAKEN, arguments).fetchone():
            return False
    with connections.transaction(thread_id) as connection:
        if connection.execute(_IS_TAKEN, arguments).fetchone():
            return False
        connection.execute(_REMOVE_ENDED, (now,))
        connection.execute(_TAKE, (thread_id, holder, until))
        return True


def end_turn(connections: Connections, thread_id: str, holder: str) -> None:
    """Give the turn back, if *holder* has it."""
    with connections.transaction(thread_id) as connection:
        connection.execute(_END, (thread_id, holder))
