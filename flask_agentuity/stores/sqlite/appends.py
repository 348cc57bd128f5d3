"""The most frequent write, in as few steps as possible: appending items to lists that were read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...document import codec
from ...document.operations import Push
from ..writing import Write, Written
from . import schema
from .list_rows import UPDATE
from .planned import UPDATE_SEEN_ROW, Planned, next_version
from .seen import Head, Seen, new_tuple

#: Items by the key of the list that they are appended to.
Appended = Mapping[str, Sequence[bytes]]


def plan_appends(
    seen: Seen, appended: Appended, counted: Collection[str], now: float, max_bytes: int
) -> Planned | None:
    """Prepare a write of items that fit into the last segments of their lists.

    None for others. :func:`~.writing.plan_write` can prepare these as well.
    """
    number, stored_version, used, _, born, deleted, size, epoch, metadata, owner, stale = seen.head
    statements: list[tuple[str, tuple[Any, ...]]] = []
    tails, preceding = dict(seen.tails), {}
    for key, items in appended.items():
        if (tail := tails.get(key)) is None:
            return None
        segment, count, length, before, counted_at, body, kind, nulls = tail
        if counted_at != epoch:
            before = None
        added = b",".join(items)
        length += len(added) + 1
        if body is None or length > schema.SEGMENT_BYTES or kind != schema.LIST:
            return None
        # With its first null, the row of the entry changes, too.
        if not nulls and codec.may_hold_null(added):
            return None
        if key in counted:
            if before is None:
                return None
            preceding[key] = before + count
        body = b"%b,%b" % (body, added)
        count += len(items)
        size += len(added) + 1
        tails[key] = segment, count, length, before, epoch, body, kind, nulls
        statements.append((UPDATE, (count, body, before, epoch, segment)))
    if size + len(metadata) > max_bytes - codec.MOST_PUNCTUATION and (
        codec.document_size(size, len(metadata)) > max_bytes
    ):
        return None
    thread_id, version = seen.thread_id, next_version(seen.head.version, now)
    row = number, version, used, now, born, deleted, size, epoch, metadata, owner, 1
    seen_after = new_tuple(Seen, (thread_id, new_tuple(Head, row), seen.entries, tails))
    arguments = size, now, version, epoch, number, stored_version, thread_id
    written = Written(version, seen_after, preceding)
    return new_tuple(Planned, (UPDATE_SEEN_ROW[stale], arguments, statements, written, ()))


def find_appended(write: Write) -> Appended | None:
    """Return the items that a write appends; None if it does anything else."""
    appended: dict[str, list[bytes]] = {}
    key, items = None, list[bytes]()
    for operation in write.operations:
        if type(operation) is not Push or operation.unique is not None:
            return None
        if operation.max_records is not None:
            return None
        if operation.key != key:
            key = operation.key
            items = appended.setdefault(key, [])
        items.append(operation.value)
    return appended
