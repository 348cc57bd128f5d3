"""The logs of runs, as rows of the file.

A log is kept as chunks. The number of a chunk consists of the number of its run and its offset in
the log, so the chunks of a run are next to each other, in order. What is appended is added to the
last chunk until that fills a page, so a long log has few rows and is removed quickly.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..runs import ABANDONED_SECONDS, Addition, NewRun, RunKey, RunStore, RunWatch, StoredRun
from .connections import Connections
from .run_watch import SQLiteRunWatch
from .schema import SEGMENT_BYTES

# One transaction removes few runs and few bytes, because others wait for it.
_MOST_REMOVED = 10
_MOST_BYTES = 100_000
# The offset of a chunk in the number of the chunk.
_OFFSET_BITS = 32
_OFFSETS = (1 << _OFFSET_BITS) - 1

# A run expires when its time to be kept is over, or if nothing is appended for long.
_IS_KEPT = f"ifnull(expires, updated + {ABANDONED_SECONDS}) > ?"
_IS_EXPIRED = f"ifnull(expires, updated + {ABANDONED_SECONDS}) <= ?"
_OF_KEY = "thread_id = ? AND run_id = ?"
_COLUMNS = (
    "thread_id, run_id, format, holder, started, status, length, stopping, truncated,"
    " number, tail, keep"
)
_FIND = f"SELECT {_COLUMNS} FROM runs WHERE {_OF_KEY} AND {_IS_KEPT}"
_FIND_LATEST = (
    f"SELECT {_COLUMNS} FROM runs WHERE thread_id = ? AND {_IS_KEPT} ORDER BY number DESC LIMIT 1"
)
_INSERT = (
    "INSERT INTO runs (thread_id, run_id, format, holder, started, keep, updated)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INTERRUPT_OTHERS = (
    "UPDATE runs SET status = 'interrupted', expires = ? + keep, updated = ?"
    " WHERE thread_id = ? AND number != ? AND status = 'running'"
)
_INTERRUPT = (
    "UPDATE runs SET status = 'interrupted', expires = ? + keep"
    f" WHERE {_OF_KEY} AND status = 'running' AND {_IS_KEPT}"
)
_INTERRUPT_OF_HOLDER = (
    "UPDATE runs SET status = 'interrupted', expires = ? + keep"
    " WHERE thread_id = ? AND holder = ? AND status = 'running'"
)
_STOP = f"UPDATE runs SET stopping = 1 WHERE {_OF_KEY} AND status = 'running' AND {_IS_KEPT}"
# What nearly all additions need: more bytes in the last chunk of a run that is as long as expected.
# Joining two BLOBs makes a TEXT with the same bytes.
_APPEND = (
    "UPDATE run_chunks SET data = CAST(data || ? AS BLOB) WHERE number ="
    f" (SELECT number << {_OFFSET_BITS} | tail FROM runs WHERE {_OF_KEY} AND status = 'running'"
    f" AND length = ? AND length - tail <= ? AND {_IS_KEPT})"
)
_GROW = f"UPDATE runs SET length = ?, updated = ? WHERE {_OF_KEY}"
_INSERT_CHUNK = "INSERT INTO run_chunks (number, data) VALUES (?, ?)"
_UPDATE = (
    "UPDATE runs SET length = ?, tail = ?, status = ?, truncated = ?, expires = ?, updated = ?"
    " WHERE number = ?"
)
_NOTE_CHANGE = "UPDATE run_changes SET count = count + 1"
# In one statement, so that all chunks are of this run even if its number is used again.
_READ = f"""
SELECT c.number - (r.number << {_OFFSET_BITS}), CAST(c.data AS BLOB)
FROM runs r CROSS JOIN run_chunks c
WHERE r.thread_id = ?1 AND r.run_id = ?2 AND {_IS_KEPT.replace("?", "?3")}
AND c.number >= ifnull(
    (SELECT max(number) FROM run_chunks
     WHERE number BETWEEN r.number << {_OFFSET_BITS} AND (r.number << {_OFFSET_BITS}) + ?4),
    r.number << {_OFFSET_BITS})
AND c.number < (r.number + 1) << {_OFFSET_BITS}
ORDER BY c.number
"""
_ANY_OF_KEY = f"SELECT number FROM runs WHERE {_OF_KEY}"
_OF_THREAD = "SELECT number FROM runs WHERE thread_id = ?"
_EXPIRED = f"SELECT number, length FROM runs WHERE {_IS_EXPIRED} LIMIT ?"
_REMOVE_CHUNKS = "DELETE FROM run_chunks WHERE number BETWEEN ? AND ?"
_REMOVE = "DELETE FROM runs WHERE number = ?"


class SQLiteRuns(RunStore):
    """Keeps runs in the file of their threads."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def begin(self, new: NewRun) -> None:
        now, key = time.time(), new.key
        with self._connections.transaction(key.thread_id) as connection:
            purge_runs(connection, now)
            if connection.execute(_FIND, (*key, now)).fetchone() is not None:
                return
            # An expired run with the same key may still be stored.
            _remove(connection, connection.execute(_ANY_OF_KEY, key).fetchall())
            values = (*key, new.format, new.holder, new.started, new.keep, now)
            number = connection.execute(_INSERT, values).lastrowid
            connection.execute(_INTERRUPT_OTHERS, (now, now, key.thread_id, number))
            connection.execute(_NOTE_CHANGE)

    def append(self, additions: Sequence[Addition]) -> Collection[RunKey]:
        if not additions:
            return ()
        now = time.time()
        with self._connections.transaction(additions[0].key.thread_id) as connection:
            refused = [each.key for each in additions if not _append(connection, each, now)]
            if len(refused) < len(additions):
                connection.execute(_NOTE_CHANGE)
        return refused

    def interrupt(self, key: RunKey) -> bool:
        now = time.time()
        return self._change(key, _INTERRUPT, (now, *key, now))

    def stop(self, key: RunKey) -> bool:
        return self._change(key, _STOP, (*key, time.time()))

    def look(self, keys: Collection[RunKey]) -> Mapping[RunKey, StoredRun]:
        with self._connections.read() as connection:
            return find_runs(connection, keys)

    def latest(self, thread_id: str) -> StoredRun | None:
        with self._connections.read(thread_id) as connection:
            row = connection.execute(_FIND_LATEST, (thread_id, time.time())).fetchone()
        return _run_of(row) if row else None

    def read(self, key: RunKey, after: int = 0, limit: int | None = None) -> bytes:
        if after > _OFFSETS or limit == 0:
            return b""
        found: list[bytes] = []
        missing = limit
        with self._connections.read(key.thread_id) as connection:
            for at, data in connection.execute(_READ, (*key, time.time(), after)):
                part = data[max(0, after - at) :][:missing]
                found.append(part)
                if missing is not None:
                    missing -= len(part)
                    if missing <= 0:
                        break
        return b"".join(found)

    def delete(self, thread_id: str) -> None:
        with self._connections.transaction(thread_id) as connection:
            delete_runs(connection, thread_id)

    def watch(self) -> RunWatch:
        return SQLiteRunWatch(self._connections, find_runs)

    def _change(self, key: RunKey, statement: str, arguments: Sequence[object]) -> bool:
        with self._connections.transaction(key.thread_id) as connection:
            changed = connection.execute(statement, arguments).rowcount == 1
            if changed:
                connection.execute(_NOTE_CHANGE)
        return changed


def find_runs(
    connection: sqlite3.Connection, keys: Collection[RunKey]
) -> Mapping[RunKey, StoredRun]:
    """Return those of the runs that are stored."""
    now = time.time()
    rows = ((key, connection.execute(_FIND, (*key, now)).fetchone()) for key in keys)
    return {key: _run_of(row) for key, row in rows if row}


def interrupt_runs(connection: sqlite3.Connection, thread_id: str, holder: str) -> None:
    """End the run of a holder whose turn is taken over."""
    arguments = (time.time(), thread_id, holder)
    if connection.execute(_INTERRUPT_OF_HOLDER, arguments).rowcount:
        connection.execute(_NOTE_CHANGE)


def delete_runs(connection: sqlite3.Connection, thread_id: str) -> None:
    """Remove all runs of a thread."""
    if numbers := connection.execute(_OF_THREAD, (thread_id,)).fetchall():
        _remove(connection, numbers)
        connection.execute(_NOTE_CHANGE)


def has_expired_runs(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether there are runs to be removed."""
    return connection.execute(_EXPIRED, (now, 1)).fetchone() is not None


def purge_runs(connection: sqlite3.Connection, now: float) -> None:
    """Remove some expired runs."""
    found: list[tuple[int]] = []
    size = 0
    for number, length in connection.execute(_EXPIRED, (now, _MOST_REMOVED)):
        size += length
        if found and size > _MOST_BYTES:
            break
        found.append((number,))
    _remove(connection, found)


def _remove(connection: sqlite3.Connection, numbers: Sequence[tuple[int]]) -> None:
    for (number,) in numbers:
        first = number << _OFFSET_BITS
        connection.execute(_REMOVE_CHUNKS, (first, first | _OFFSETS))
        connection.execute(_REMOVE, (number,))


def _append(connection: sqlite3.Connection, addition: Addition, now: float) -> bool:
    key, at, data = addition.key, addition.at, addition.data
    end = at + len(data)
    if data and addition.status is None and not addition.truncated:
        room = SEGMENT_BYTES - len(data)
        if connection.execute(_APPEND, (data, *key, at, room, now)).rowcount == 1:
            connection.execute(_GROW, (end, now, *key))
            return True
    row = connection.execute(_FIND, (*key, now)).fetchone()
    if row is None:
        return False
    run, (number, tail, keep) = _run_of(row), row[-3:]
    if not run.is_running:
        # The same addition is repeated because its outcome was not known.
        return run.status == addition.status and run.length == end
    if at > run.length:
        return False
    if new := data[run.length - at :]:
        tail = run.length
        connection.execute(_INSERT_CHUNK, (number << _OFFSET_BITS | tail, new))
    status = addition.status or run.status
    values = (
        max(end, run.length),
        tail,
        status,
        run.truncated or addition.truncated,
        None if status == "running" else now + keep,
        now,
        number,
    )
    connection.execute(_UPDATE, values)
    return True


def _run_of(row: Sequence[Any]) -> StoredRun:
    thread_id, run_id, form, holder, started, status, length, stopping, truncated, *_ = row
    key = RunKey(thread_id, run_id)
    return StoredRun(key, form, holder, started, status, length, bool(stopping), bool(truncated))
