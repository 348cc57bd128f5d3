"""Writing to a thread, without reading if nothing has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from ...document import codec
from ...errors import StateTooLarge, StoreError, ThreadGone
from ..writing import Write, Written
from . import schema
from .open_thread import OpenThread
from .opening import insert_thread, open_seen, open_stored
from .planned import AS_SEEN, UPDATE_STORED_ROW, Planned, next_version
from .seen import Head, Seen
from .statements import CollectedStatements, DirectStatements, NotSeen
from .steps import Step, keys_of
from .tombstones import Tombstone, find_tombstone, is_gone, refuse

_UPDATE_METADATA = tuple(
    update.replace(" WHERE", ", metadata = ? WHERE") for update in UPDATE_STORED_ROW
)
_UPDATE_USED = "UPDATE threads SET used = ? WHERE number = ?"


def plan_write(
    seen: Seen, steps: Sequence[Step], write: Write, now: float, max_bytes: int
) -> Planned | None:
    """Prepare a write before the lock; None if it needs more than what was seen."""
    statements, keys = CollectedStatements(), keys_of(steps)
    version = next_version(seen.head.version, now)
    try:
        thread = open_seen(statements, seen, keys, version, write.counted)
        before = thread.size
        for step in steps:
            thread.apply(step)
        if thread.conflict is not None:
            return None
        codec.require_size(thread.size, max_bytes, seen.thread_id, before)
        head = _next_head(thread, now)
    except (NotSeen, StateTooLarge, StoreError):
        # If the reason still exists, the write that reads what is stored raises the error.
        return None
    update, arguments = _update_row(thread, head)
    return Planned(
        update + AS_SEEN[seen.head.stale],
        (*arguments, seen.head.stored_version, seen.thread_id),
        statements.collected,
        _written(thread, head, seen, keys),
        thread.skipped,
    )


def open_for_write(
    connection: sqlite3.Connection,
    thread_id: str,
    stored: Seen | None,
    write: Write,
    *,
    began: float,
    now: float,
    ttl: float | None,
) -> OpenThread:
    """Return the thread as it is *stored*, or a new one.

    *began* is when the write's request began, by the same clock as *now*.

    :raises ThreadGone: if the thread was deleted after the write's request began, or belongs
        to another owner.
    """
    if stored is None or stored.head.is_expired(now, ttl, thread_id):
        tombstone = find_tombstone(connection, thread_id)
        if is_gone(tombstone.deleted, None, write, began, now):
            raise refuse(connection, thread_id, tombstone.deleted, now)
        return _begin(connection, thread_id, stored, tombstone, now, write.owner, write.counted)
    head = stored.head
    if not write.may_change(head.owner):
        raise ThreadGone(thread_id)
    if is_gone(head.deleted, head.born, write, began, now):
        raise refuse(connection, thread_id, head.deleted, now)
    return open_stored(connection, stored, next_version(head.version, now), write.counted)


def replace_thread(
    connection: sqlite3.Connection,
    thread_id: str,
    stored: Seen | None,
    now: float,
    owner: str | None,
) -> OpenThread:
    """Return a new thread that replaces what is stored."""
    tombstone = find_tombstone(connection, thread_id)
    return _begin(connection, thread_id, stored, tombstone, now, owner)


def write_row(
    connection: sqlite3.Connection, thread: OpenThread, now: float, renew_after: float
) -> Written:
    """Write the row of a thread after its steps, and return what the write has to report."""
    head = _next_head(thread, now)
    if thread.is_new and head.is_nothing:
        thread.erase()
        return Written(head.version)
    connection.execute(*_update_row(thread, head))
    if now - head.used > renew_after:
        # The column is indexed, and most writes need not touch the index.
        connection.execute(_UPDATE_USED, (now, head.number))
        head = head._replace(used=now)
    return _written(thread, head)


def _begin(
    connection: sqlite3.Connection,
    thread_id: str,
    stored: Seen | None,
    tombstone: Tombstone,
    now: float,
    owner: str | None,
    counted: Collection[str] = (),
) -> OpenThread:
    last = tombstone.version
    if stored is not None:
        last = max(last, stored.head.version)
        open_stored(connection, stored, 0).erase()
    version = next_version(last, now)
    deleted = tombstone.deleted or None
    head = insert_thread(connection, thread_id, now, version, deleted, owner)
    statements = DirectStatements(connection)
    return OpenThread(statements, thread_id, head, (), version, counted, is_new=True)


def _next_head(thread: OpenThread, now: float) -> Head:
    thread.metadata.write_terms()
    before = thread.head
    return Head(
        before.number,
        thread.version,
        before.used,
        now,
        before.born,
        before.deleted,
        thread.entries_size,
        thread.next_epoch(),
        thread.metadata.value,
        before.owner,
        # A new thread is listed by the time of this write.
        0 if thread.is_new else 1,
    )


def _update_row(thread: OpenThread, head: Head) -> tuple[str, tuple[Any, ...]]:
    changes = head.entries_size, head.updated, head.stored_version, head.epoch
    is_marked = thread.head.stale or not head.stale
    if head.metadata == thread.head.metadata:
        return UPDATE_STORED_ROW[is_marked], (*changes, head.number)
    return _UPDATE_METADATA[is_marked], (*changes, head.metadata, head.number)


def _written(
    thread: OpenThread, head: Head, seen: Seen | None = None, keys: Collection[str] = ()
) -> Written:
    entries = {row[1]: row for row in seen.entries} if seen else {}
    tails = dict(seen.tails) if seen else {}
    for key in keys:
        entries.pop(key, None)
        tails.pop(key, None)
    if len(thread.entries) <= schema.MOST_NAMED:
        for key, entry in thread.entries.items():
            entries[key] = entry.row
            if (found := entry.seen()) is not None:
                tails[key] = found
    seen = Seen(thread.thread_id, head, tuple(entries.values()), tails)
    return Written(head.version, seen, thread.preceding, thread.merged)
