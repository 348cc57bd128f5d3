"""Move, copy and erase threads in the file. Each call is one transaction, erase() a few."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

from ...document import codec
from ...document.operations import Operation
from ..base import KeyedStore
from ..expected import ANY, Expected
from ..listing import require_owner
from ..moving import id_is_taken, may_take, require_move
from ..pacing import in_time, leaving_pauses
from ..skipped import warn_of_skipped
from . import schema
from .connections import Connections
from .opening import find_thread, insert_thread, open_stored
from .planned import next_version
from .runs import delete_runs
from .seen import Head
from .steps import keys_of, prepare
from .tombstones import NO_TOMBSTONE, find_tombstone, put_tombstone
from .turns import require_turn
from .writing import write_row

# How many threads a step of erase() removes: few, so that requests need not wait long.
_ERASED = 10

_MOVE = "UPDATE threads SET id = ?, owner = ?, deleted = NULL WHERE number = ?"
_OF_OWNER = "SELECT id FROM threads WHERE owner = ? LIMIT ?"
_ENTRIES = "SELECT number, kind FROM thread_entries WHERE thread = ? ORDER BY number"
_COPY_ENTRY = (
    "INSERT INTO thread_entries (thread, key, kind, nulls, value)"
    " SELECT ?, key, kind, nulls, value FROM thread_entries WHERE number = ?"
)
_COPY_SEGMENTS = (
    "INSERT INTO segments (number, items, body, items_before, epoch)"
    " SELECT number + ?, items, body, items_before, epoch FROM segments"
    " WHERE number BETWEEN ? AND ?"
)
_COPY_TERMS = (
    "INSERT INTO index_terms (key, value, listed, thread)"
    " SELECT key, value, ?, ? FROM index_terms WHERE thread = ?"
)
_COPY_ROW = "UPDATE threads SET entries_size = ?, metadata = ?, epoch = ? WHERE number = ?"


class MovingInSQLite(KeyedStore):
    """Moves, copies and erases the threads of a file."""

    ttl: float | None
    max_bytes: int
    _connections: Connections
    _renew_after: float

    def move(
        self, thread_id: str, new_id: str, *, owner: str | None = None, expected: Expected = ANY
    ) -> bool:
        require_move(thread_id, new_id, owner)
        with self._connections.transaction(thread_id) as connection:
            if expected.turn is not None:
                require_turn(connection, thread_id, expected.turn)
            now = time.time()
            head = self._find_head(connection, thread_id, now)
            if head is not None and not (
                may_take(owner, head.owner) and expected.means(head.owner, head.born)
            ):
                return False
            self._require_free(connection, new_id, now)
            if head is None:
                delete_thread(connection, thread_id, now)
                return False
            connection.execute(_MOVE, (new_id, head.owner or owner, head.number))
            put_tombstone(connection, thread_id, now, head.version)
            delete_runs(connection, thread_id)
            return True

    def duplicate(
        self, thread_id: str, new_id: str, operations: Sequence[Operation], owner: str | None
    ) -> bool:
        steps = prepare(operations)
        with self._connections.transaction(thread_id) as connection:
            now = time.time()
            head = self._find_head(connection, thread_id, now)
            if head is None or head.is_nothing or not may_take(owner, head.owner):
                return False
            self._require_free(connection, new_id, now)
            version = next_version(head.version, now)
            owner = head.owner or owner
            copy = insert_thread(connection, new_id, now, version, None, owner)
            _copy_rows(connection, head, copy)
            stored = find_thread(connection, new_id, keys_of(steps))
            assert stored is not None
            opened = open_stored(connection, stored, version)
            for step in steps:
                opened.apply(step)
            codec.require_size(opened.size, self.max_bytes, new_id)
            write_row(connection, opened, now, self._renew_after)
        warn_of_skipped(new_id, opened.skipped)
        return True

    def erase(self, owner: str, progress: Callable[[int], None] | None = None) -> int:
        require_owner(owner)
        total = 0
        while erased := self._erase_some(owner):
            total += erased
            if progress:
                progress(erased)
        self.wipe_deleted()
        return total

    def _erase_some(self, owner: str) -> int:
        with leaving_pauses(), self._connections.transaction() as connection:
            now, erased = time.time(), 0
            found = connection.execute(_OF_OWNER, (owner, _ERASED)).fetchall()
            for (thread_id,) in in_time(found):
                delete_thread(connection, thread_id, now)
                erased += 1
        return erased

    def _find_head(self, connection: sqlite3.Connection, thread_id: str, now: float) -> Head | None:
        stored = find_thread(connection, thread_id)
        if stored is None or stored.head.is_expired(now, self.ttl, thread_id):
            return None
        return stored.head

    def _require_free(self, connection: sqlite3.Connection, new_id: str, now: float) -> None:
        if self._find_head(connection, new_id, now) is not None:
            raise id_is_taken(new_id)
        if find_tombstone(connection, new_id) is not NO_TOMBSTONE:
            raise id_is_taken(new_id)
        if (expired := find_thread(connection, new_id)) is not None:
            open_stored(connection, expired, 0).erase()


def delete_thread(
    connection: sqlite3.Connection, thread_id: str, now: float, expected: Expected = ANY
) -> None:
    """Delete a thread and its runs inside a transaction, and remember that it was deleted.

    A thread that is not the *expected* one is not changed.
    """
    stored = find_thread(connection, thread_id)
    if stored is not None:
        if not expected.means(stored.head.owner, stored.head.born):
            return
        open_stored(connection, stored, 0).erase()
    version = stored.head.version if stored is not None else 0
    put_tombstone(connection, thread_id, now, version)
    delete_runs(connection, thread_id)


def _copy_rows(connection: sqlite3.Connection, head: Head, copy: Head) -> None:
    """Copy the rows of a thread to a new one."""
    for entry, kind in connection.execute(_ENTRIES, (head.number,)).fetchall():
        copied = connection.execute(_COPY_ENTRY, (copy.number, entry)).lastrowid
        assert copied is not None
        if kind != schema.INLINE:
            first, last = schema.segment_range(entry)
            distance = schema.segment_range(copied)[0] - first
            connection.execute(_COPY_SEGMENTS, (distance, first, last))
    connection.execute(_COPY_TERMS, (copy.updated, copy.number, head.number))
    connection.execute(_COPY_ROW, (head.entries_size, head.metadata, head.epoch, copy.number))
