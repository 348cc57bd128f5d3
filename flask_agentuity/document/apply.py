"""Applying operations to an encoded state, and finding them by comparison. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from . import codec
from .merge import Merged, rebase
from .open_list import OpenList
from .operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    KeyOperation,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)

_NUMBER_STARTS = tuple(b"%c" % each for each in b"-0123456789")


@dataclass(slots=True)
class Applied:
    """The results of the operations that were applied to a state.

    ``skipped`` are the operations for which the stored value has the wrong type, or a sum would
    leave the range of JSON's integers. They cause a warning, not an error.

    ``conflicts`` are the keys whose values are not what a splice or a replacement expects.
    If there are any, discard the state. ``assigned_conflicts`` are those of them that were assigned
    after the version that the operation is based on.

    ``merged`` has the result of each edit, ``preceding`` the number of items in each counted list
    before the first push to it.

    ``assigned`` are the keys that now have a value from an unconditional ``Set``: their stamp
    becomes the version of this write. ``removed`` are the keys that were removed and not
    assigned since: they lose their stamp, also where they have been created again.
    """

    skipped: list[KeyOperation] = field(default_factory=list)
    conflicts: set[str] = field(default_factory=set)
    assigned_conflicts: set[str] = field(default_factory=set)
    merged: dict[str, Merged] = field(default_factory=dict)
    preceding: dict[str, int] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


def apply_operations(
    state: dict[str, bytes],
    operations: Iterable[Operation],
    *,
    counted: Collection[str] = (),
    assigned: Mapping[str, int] | None = None,
) -> Applied:
    """Apply *operations* in order to an encoded *state*, in place.

    Operations on the metadata are ignored: the caller applies them. If the result has
    conflicts, the operations were applied in part, and the caller discards the state. A
    push with ``unique`` that finds its value in the list changes nothing, not even the
    number of items.

    :param counted: keys for which to find out how many items precede the first push.
    :param assigned: for each key, the version at which its value was last assigned unconditionally,
        for the conditions of splices, replacements and edits.
    """
    applying = _Applying(state, counted, assigned or {})
    for operation in operations:
        applying.apply(operation)
    applying.close_all()
    return applying.applied


class _Applying:
    """Operations being applied to a state. Lists stay open until something else needs them."""

    def __init__(
        self, state: dict[str, bytes], counted: Collection[str], assigned: Mapping[str, int]
    ) -> None:
        self.applied = Applied()
        self._state = state
        self._counted = frozenset(counted)
        self._assigned = assigned
        self._open: dict[str, OpenList] = {}

    def apply(self, operation: Operation) -> None:
        match operation:
            case Push():
                self._push(operation)
            case Set(key, value, only_if_missing):
                if not (only_if_missing and key in self._state):
                    self._set(key, value, assigned=not only_if_missing)
            case Delete(key):
                self._remove(key)
            case Clear():
                for key in list(self._state):
                    self._remove(key)
            case Increment(key, by):
                self._increment(operation, key, by)
            case Truncate(key, keep):
                if (items := self._items(operation)) is not None:
                    items.truncate(keep)
            case PopLast():
                if (items := self._items(operation)) is not None:
                    items.pop()
            case Splice():
                self._splice(operation)
            case Replace():
                self._replace(operation)
            case Edit():
                self._edit(operation)
            case SetMetadata() | ReplaceMetadata() | EditMetadata():
                pass
            case _:
                assert_never(operation)

    def close_all(self) -> None:
        """Encode the open lists back into the state."""
        for key in list(self._open):
            self._close(key)

    def _push(self, push: Push) -> None:
        key = push.key
        if key not in self._state:
            # The key takes its place in the order of the state now.
            self._state[key] = codec.EMPTY_LIST
        items = self._items(push)
        if items is None:
            return
        if key in self._counted and key not in self.applied.preceding:
            self.applied.preceding[key] = len(items)
        if push.unique is not None and items.has(push.unique, push.value):
            return
        items.append(push.value)
        if push.max_records is not None:
            items.keep(push.max_records, push.keep_first)

    def _increment(self, operation: Increment, key: str, by: int | float) -> None:
        # An open list stays open, because it is not a number.
        value = None if key in self._open else increment(self._state.get(key), by)
        if value is None:
            self.applied.skipped.append(operation)
        else:
            self._state[key] = value

    def _splice(self, splice: Splice) -> None:
        key = splice.key
        # Here a value of another type is a conflict, not a reason to skip.
        possible = codec.is_list(self._state.get(key, b"")) and not self._assigned_after(
            key, splice.since
        )
        if not possible or not self._opened(key).splice(splice.changes):
            self._conflict(key, splice.since)

    def _replace(self, replace: Replace) -> None:
        key = replace.key
        self._close(key)
        if self._state.get(key) == replace.old and not self._assigned_after(key, replace.since):
            self._state[key] = replace.new
        else:
            self._conflict(key, replace.since)

    def _edit(self, edit: Edit) -> None:
        key = edit.key
        self._close(key)
        stored = self._state.get(key)
        later = self._assigned_after(key, edit.since)
        merged = self.applied.merged[key] = rebase(edit, stored, 0, assigned=later).merged
        if merged.value is not None:
            self._state[key] = merged.value
        elif stored is not None:
            self._remove(key)

    def _set(self, key: str, value: bytes, *, assigned: bool) -> None:
        self._open.pop(key, None)
        self._state[key] = value
        if assigned:
            self.applied.assigned.add(key)
            self.applied.removed.discard(key)

    def _remove(self, key: str) -> None:
        self._open.pop(key, None)
        if self._state.pop(key, None) is not None:
            self.applied.removed.add(key)
            self.applied.assigned.discard(key)

    def _items(self, operation: Push | Truncate | PopLast) -> OpenList | None:
        """Return the list that *operation* changes; record it and return None if it is none."""
        stored = self._state.get(operation.key)
        if stored is None:
            return None
        if not codec.is_list(stored):
            self.applied.skipped.append(operation)
            return None
        return self._opened(operation.key)

    def _opened(self, key: str) -> OpenList:
        items = self._open.get(key)
        if items is None:
            items = self._open[key] = OpenList(self._state[key])
        return items

    def _close(self, key: str) -> None:
        if (items := self._open.pop(key, None)) is not None:
            self._state[key] = items.encode()

    def _assigned_after(self, key: str, since: int) -> bool:
        if key in self.applied.removed:
            return False
        return self._assigned.get(key, 0) > since

    def _conflict(self, key: str, since: int) -> None:
        self.applied.conflicts.add(key)
        if self._assigned_after(key, since):
            self.applied.assigned_conflicts.add(key)


def find_operations(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Operation]:
    """Return the smallest list of operations that turns *before* into *after*.

    Missing keys become deletes, never a clear, which would also remove what another
    request has added meanwhile.
    """
    found: list[Operation] = [Delete(key) for key in before if key not in after]
    for key, value in after.items():
        found.extend(find_change(key, before.get(key), value))
    return found


def find_change(key: str, before: bytes | None, after: bytes) -> list[Set | Push]:
    """Return the operations that turn one key's value *before* (None: missing) into *after*."""
    if before == after:
        return []
    if before is not None and codec.is_list(before):
        items = codec.appended(before, after)
        if items:
            return [Push(key, item) for item in items]
    return [Set(key, after)]


def increment(stored: bytes | None, by: int | float) -> bytes | None:
    """Return the encoded number *stored* (None: 0) plus *by*.

    None if *stored* is not a number (a boolean is none), or if JSON cannot hold the sum: an
    integer beyond 64 bits, or an infinite number.
    """
    if stored is not None and not stored.startswith(_NUMBER_STARTS):
        return None
    total: int | float = (0 if stored is None else codec.decode(stored)) + by
    if isinstance(total, int):
        return codec.encode_unchecked(total) if codec.is_integer(total) else None
    return codec.encode_unchecked(total) if math.isfinite(total) else None
