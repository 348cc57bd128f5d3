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
    head = seen.head
    size, epoch = head.entries_size, head.epoch
    statements: list[tuple[str, tuple[Any, ...]]] = []
    tails, preceding = dict(seen.tails), {}
    for key, items in appended.items():
        if (tail := tails.get(key)) is None:
            return None
        number, count, length, before, counted_at, body, kind, nulls = tail
        before = before if counted_at == epoch else None
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
        body = b",".join((body, added))
        count += len(items)
        size += len(added) + 1
        tails[key] = number, count, length, before, epoch, body, kind, nulls
        statements.append((UPDATE, (count, body, before, epoch, number)))
    if codec.document_size(size, len(head.metadata)) > max_bytes:
        return None
    version = next_version(head.version, now)
    row = head.number, version, head.used, now, head.born, head.deleted, size, epoch
    head_after = new_tuple(Head, (*row, head.metadata, head.owner, 1))
    seen_after = new_tuple(Seen, (seen.thread_id, head_after, seen.entries, tails))
    arguments = size, now, version, epoch, head.number, head.stored_version, seen.thread_id
    written = Written(version, seen_after, preceding)
    return Planned(UPDATE_SEEN_ROW[head.stale], arguments, statements, written)


def find_appended(write: Write) -> Appended | None:
    """Return the items that a write appends; None if it does anything else."""
    appended: dict[str, list[bytes]] = {}
    for operation in write.operations:
        if type(operation) is not Push or operation.unique is not None:
            return None
        if operation.max_records is not None:
            return None
        if (items := appended.get(operation.key)) is None:
            items = appended[operation.key] = []
        items.append(operation.value)
    return appended
