"""How many keys a thread has, and may have."""

from __future__ import annotations

import sqlite3

from ...document.key_count import FEWEST_BYTES, require_keys
from .connections import Connections
from .open_thread import OpenThread
from .seen import Seen

_COUNT = (
    "SELECT count(*) FROM threads t JOIN thread_entries e ON e.thread = t.number WHERE t.id = ?"
)


def _count_keys(connection: sqlite3.Connection, thread_id: str) -> int:
    (count,) = connection.execute(_COUNT, (thread_id,)).fetchone()
    return int(count)


def require_few_keys(
    connection: sqlite3.Connection,
    thread: OpenThread,
    stored: Seen | None,
    limit: int,
    connections: Connections,
) -> None:
    """Refuse a thread, after the steps of a write, that has more keys than *limit*.

    The keys are counted only if there can be so many, and the write has added one.

    :param stored: what was stored of the keys that the write names.
    :param connections: to look how many keys the thread had before. It may have as many.
    :raises TooManyKeys: which says how many there would be.
    """
    if thread.entries_size <= limit * FEWEST_BYTES:
        return
    known = {row[1] for row in stored.entries} if stored else set()
    if thread.entries.keys() <= known:
        return
    count = _count_keys(connection, thread.thread_id)
    if count > limit:
        with connections.read(thread.thread_id) as unchanged:
            before = _count_keys(unchanged, thread.thread_id)
        require_keys(count, limit, thread.thread_id, before)
