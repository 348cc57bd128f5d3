"""Updating what is known of a key after its changes were stored."""

from __future__ import annotations

from collections.abc import Sequence

from ..document.operations import Change, Edit
from ..stores.writing import Written
from .difference import KeyChange
from .entry import Entry, Status, Stored
from .queued import NOTHING, QueuedPush, Watched


def commit_change(entry: Entry, change: KeyChange, written: Written | None) -> None:
    """Record that *change* is stored (*written* is None if that is not certain).

    The value in memory may have changed again meanwhile.
    """
    if entry.removed:
        entry.removed, entry.base, entry.stored = False, None, Stored.MISSING
    version = written.version if written else 0
    if entry.in_memory:
        assert change.encoded is not None
        _find_places(entry, change, written)
        entry.status = Status.HELD
        entry.stored = entry.base = entry.checked = change.encoded
        entry.since = version or entry.since
        entry.default = None
        entry.length = entry.base_length = change.length or 0
        entry.functions = ()
        entry.queue = ()
    elif change.operations:
        _watch(entry, change, written)
        if entry.queue:
            entry.status, entry.decoded = Status.IDLE, NOTHING
            entry.stored = Stored.UNKNOWN if entry.stored is Stored.UNKNOWN else Stored.UNFETCHED
            entry.queue = ()


def _find_places(entry: Entry, change: KeyChange, written: Written | None) -> None:
    """Determine where the items of the value in memory are stored now."""
    if not change.operations or change.length is None:
        return
    if (
        written is not None
        and change.pushed == len(change.operations)
        and entry.places is None
        and not written.merged
        and written.preceding.get(entry.key) in (None, entry.base_length)
    ):
        # The usual case: nothing was appended in between.
        return
    if written is None:
        entry.uncertain = True
        return
    merged = written.merged.get(entry.key)
    if merged is not None:
        identity = merged.places == tuple(range(change.length))
        entry.places, entry.uncertain = (None if identity else merged.places), False
        return
    _place_edited(entry, change, written.preceding.get(entry.key))


def _place_edited(entry: Entry, change: KeyChange, preceding: int | None) -> None:
    """Determine where the items are, after edits whose places are known, followed by pushes."""
    changes = [
        one
        for operation in change.operations
        if isinstance(operation, Edit)
        for one in operation.changes or ()
    ]
    places = entry.places
    if places is not None:
        places = _shifted(places, changes)
        if places is None:
            entry.uncertain = True
            return
    entry.places = places
    if preceding is None:
        return
    expected = entry.base_length + sum(len(one.new) - len(one.gone) for one in changes)
    if places is None and preceding == expected:
        return
    if entry.queue or not change.pushed:
        entry.uncertain = True
        return
    before = places or tuple(range(expected))
    entry.places = (*before, *range(preceding, preceding + change.pushed))


def _shifted(
    places: tuple[int | None, ...], changes: Sequence[Change]
) -> tuple[int | None, ...] | None:
    """Return where the items are after *changes*; None if that is unknown."""
    moved = list(places)
    for one in reversed(changes):
        first, grown = moved[one.place], len(one.new) - len(one.gone)
        if first is None:
            return None
        end = one.place + len(one.gone)
        behind = [at if at is None or at < first else at + grown for at in moved[end:]]
        moved[one.place :] = [*range(first, first + len(one.new)), *behind]
    return tuple(moved)


def _watch(entry: Entry, change: KeyChange, written: Written | None) -> None:
    """Watch items that were pushed without reading."""
    watched = entry.watched or Watched()
    if change.watched is not None:
        watched.encoded = change.watched
        if written is None or entry.key in written.merged:
            watched.places = [None] * len(watched.places)
    plain = all(isinstance(one, QueuedPush) and one.is_plain for one in entry.queue)
    preceding = written.preceding.get(entry.key) if written and plain else None
    if not plain:
        watched.places = [None] * len(watched.places)
    for index, (queued, encoded) in enumerate(zip(entry.queue, change.queued, strict=True)):
        if isinstance(queued, QueuedPush):
            assert encoded is not None
            watched.add(queued, encoded, None if preceding is None else preceding + index)
    watched.since = (written.version if written else 0) or watched.since
    watched.keep_containers()
    entry.watched = watched if watched.items else None
