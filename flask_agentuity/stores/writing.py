"""One write to a thread: the request to the store, its result, and how edits are merged.

A store applies all operations of a write or none. Where a value that an edit replaces is no
longer there, the store reports a conflict; :func:`write_merged` then reads, merges in pure
Python and writes again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..document import codec
from ..document.apply import increment
from ..document.codec import Snapshot
from ..document.foreign_text import printable
from ..document.merge import Merged, optimistic, rebase, rebase_metadata
from ..document.operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    KeyOperation,
    Operation,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
)
from .skipped import warn_of_skipped

logger = logging.getLogger("flask_agentuity.stores")

#: From this attempt on the store itself merges the edits of a write, under its lock.
ATTEMPTS = 4
#: The longest pause before the third attempt, in seconds. It doubles with each attempt.
FIRST_PAUSE = 0.004
#: The longest pause before any attempt, in seconds.
LONGEST_PAUSE = 0.128

_EDITS = frozenset((Edit, EditMetadata))

# Two clocks were read at the same time if it took less than this, in seconds.
_AT_ONCE = 0.0001


@dataclass(slots=True)
class Write:
    """The operations of one save, and what its request knows of the thread.

    ``version`` is what the request's first read found (0: it has not read, or nothing was
    stored), ``seen`` what the latest read or write of the request brought for the store.
    ``began`` says when the request began, by :func:`time.monotonic`; a thread that was
    deleted later is not written. ``counted`` are the keys for whose pushes the request
    needs to know how many items came before. ``owner`` is for whom the request works. A new
    thread belongs to that owner, and a thread of another owner is not written; None writes to
    any thread. No write changes the owner of a thread. ``turn`` is the fencing token of the
    turn that the request has (None: it has none): once the turn is over, nothing is written.
    ``is_new``: the request has made the id, so nothing can be stored under it.
    """

    operations: Sequence[Operation]
    version: int = 0
    seen: Any = None
    began: float = field(default_factory=time.monotonic)
    counted: Collection[str] = ()
    owner: str | None = None
    turn: int | None = None
    is_new: bool = False

    def may_change(self, owner: str | None) -> bool:
        """Return whether the write may change a thread of *owner* (None: it has none)."""
        return self.owner is None or owner is None or self.owner == owner

    @property
    def age(self) -> float:
        """Seconds since the request began."""
        return max(0.0, time.monotonic() - self.began)

    def began_by(self, clock: Callable[[], float]) -> float:
        """Return when the request began by *clock*, which counts in seconds and is read here.

        Reading two clocks is repeated if the thread was interrupted in between.
        """
        for _ in range(10):
            before = time.monotonic()
            now = clock()
            if time.monotonic() - before < _AT_ONCE:
                break
        return now - max(0.0, before - self.began)


@dataclass(slots=True)
class Written:
    """A write was applied; the thread now has this version.

    ``preceding``: for each key that was counted, how many items were in its list before the
    first one that was pushed. ``merged``: what became of the edits that had to be merged.
    """

    version: int = 0
    seen: Any = None
    preceding: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, Merged] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was applied: the values at ``keys`` (or the metadata) are not as expected.

    ``assigned`` are those of the keys that were assigned without reading meanwhile.
    """

    keys: Collection[str] = ()
    assigned: Collection[str] = ()
    metadata: bool = False


class EditingStore(Protocol):
    """A store as :func:`write_merged` uses it."""

    @property
    def edits(self) -> bool:
        """Whether the store checks what edits replace. Otherwise it merges them itself."""

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        """Return what is stored of the keys."""

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        """Apply a write."""


@dataclass(slots=True)
class _Attempt:
    """Operations in a form that a store accepts, and the results of the edits among them.

    ``preceding``: how many items are before those that a merged edit appends, if nothing is
    written between the reading and the writing.
    """

    operations: list[Operation] = field(default_factory=list)
    seen: Any = None
    merged: dict[str, Merged] = field(default_factory=dict)
    preceding: dict[str, int] = field(default_factory=dict)
    skipped: list[KeyOperation] = field(default_factory=list)

    def as_write(self, write: Write) -> Write:
        counted = {*write.counted, *self.preceding} if self.preceding else write.counted
        return replace(write, operations=self.operations, seen=self.seen, counted=counted)


def write_merged(store: EditingStore, thread_id: str, write: Write) -> Written:
    """Apply *write*, merging its edits with what others have written meanwhile.

    From the fourth attempt on the store gets the edits themselves and merges them under its
    lock, so it can no longer report a conflict for them. A store that has no edits gets them
    at once. The function of an edit is never called under a lock.

    :raises ThreadGone: if the thread was deleted after the request began.
    :raises StateTooLarge: if the document would be over the limit.
    :raises StoreError: if the store cannot write.
    """
    attempt = None
    if not _EDITS.isdisjoint(map(type, write.operations)):
        attempt = _first_attempt(store, thread_id, write)
    outcome = store.write(thread_id, attempt.as_write(write) if attempt else write)
    if isinstance(outcome, Conflict):
        attempt, outcome = _write_again(store, thread_id, write, outcome)
    return outcome if attempt is None else _finished(thread_id, write, attempt, outcome)


def _write_again(
    store: EditingStore, thread_id: str, write: Write, outcome: Conflict
) -> tuple[_Attempt, Written]:
    conflict, number = outcome, 1
    while True:
        number += 1
        if number > 2:
            time.sleep(
                random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(number - 3, 16)))
            )
        by_store = number >= ATTEMPTS or not store.edits
        attempt = _prepare(store, thread_id, write, conflict, by_store)
        again = store.write(thread_id, attempt.as_write(write))
        if isinstance(again, Written):
            return attempt, again
        conflict = Conflict(
            {*conflict.keys, *again.keys},
            {*conflict.assigned, *again.assigned},
            conflict.metadata or again.metadata,
        )


def _first_attempt(store: EditingStore, thread_id: str, write: Write) -> _Attempt:
    by_store = not store.edits
    attempt = _optimistic(write, by_store)
    return attempt or _prepare(store, thread_id, write, Conflict(), by_store)


def _finished(thread_id: str, write: Write, attempt: _Attempt, written: Written) -> Written:
    warn_of_skipped(thread_id, attempt.skipped)
    if not (attempt.merged or written.merged):
        return written
    merged = {**_settled(attempt, written.preceding), **written.merged}
    _log(thread_id, merged)
    preceding = {key: n for key, n in written.preceding.items() if key in write.counted}
    return Written(written.version, written.seen, preceding, merged)


def _is_merged_here(operation: Operation, by_store: bool) -> bool:
    match operation:
        case Edit(function=function):
            return function is not None or not by_store
        case EditMetadata():
            return not by_store
        case _:
            return False


def _optimistic(write: Write, by_store: bool) -> _Attempt | None:
    """Return operations that succeed if nothing changed; None if some cannot be made so."""
    attempt = _Attempt(seen=write.seen)
    for operation in write.operations:
        match operation:
            case _ if not _is_merged_here(operation, by_store):
                attempt.operations.append(operation)
            case Edit():
                cheap = optimistic(operation)
                if cheap is None:
                    return None
                attempt.operations.extend(cheap)
            case EditMetadata(base, value, scalars):
                attempt.operations.append(ReplaceMetadata(base, value, scalars))
    return attempt


def _prepare(
    store: EditingStore, thread_id: str, write: Write, conflict: Conflict, by_store: bool
) -> _Attempt:
    """Return the next attempt, after reading what it depends on."""
    merged_here = [each for each in write.operations if _is_merged_here(each, by_store)]
    wanted = [operation.key for operation in merged_here if isinstance(operation, Edit)]
    wanted += [
        operation.key
        for operation in write.operations
        if isinstance(operation, Increment) and operation.key in conflict.keys
    ]
    attempt = _Attempt()
    snapshot = None
    if wanted or merged_here:
        snapshot = store.read(thread_id, list(dict.fromkeys(wanted)))
        attempt.seen = snapshot.seen if snapshot else None
    snapshot = snapshot or Snapshot({})
    for operation in write.operations:
        match operation:
            case Increment(key=key) if key in conflict.keys:
                _increment(attempt, operation, snapshot)
            case _ if not _is_merged_here(operation, by_store):
                attempt.operations.append(operation)
            case Edit():
                _rebase(attempt, operation, snapshot, conflict)
            case EditMetadata():
                change = rebase_metadata(operation, snapshot.metadata)
                attempt.operations.extend([change] if change else [])
    return attempt


def _rebase(attempt: _Attempt, edit: Edit, snapshot: Snapshot, conflict: Conflict) -> None:
    assigned = edit.key in conflict.assigned
    # A value that was assigned since the edit began is only told by a conflict. So the
    # condition stays that of the edit until the store has told it.
    since = snapshot.version if assigned else edit.since
    stored = snapshot.encoded.get(edit.key)
    try:
        rebased = rebase(edit, stored, since, assigned=assigned)
    except Exception as error:
        if edit.function is None:
            raise
        # The view already has its result, so a stored value of another type is not an error.
        logger.warning(
            "The function passed to change() for %s failed with the value that another request has"
            " stored (%s: %s); the value is merged instead.",
            codec.child_path("state", edit.key),
            type(error).__name__,
            printable(str(error)),
        )
        rebased = rebase(replace(edit, function=None), stored, since, assigned=assigned)
    attempt.operations.extend(rebased.operations)
    attempt.merged[edit.key] = rebased.merged
    pushed = sum(isinstance(operation, Push) for operation in rebased.operations)
    if pushed and rebased.merged.value is not None:
        attempt.preceding[edit.key] = len(codec.decode(rebased.merged.value)) - pushed


def _settled(attempt: _Attempt, preceding: Mapping[str, int]) -> dict[str, Merged]:
    """Return what became of the edits, where others have appended between read and write."""
    merged = dict(attempt.merged)
    for key, expected in attempt.preceding.items():
        actual = preceding.get(key, expected)
        places = merged[key].places
        if actual != expected and places:
            moved = tuple(_settled_place(place, expected, actual) for place in places)
            merged[key] = replace(merged[key], places=moved)
    return merged


def _settled_place(place: int | None, expected: int, actual: int) -> int | None:
    if place is None or place < min(expected, actual):
        return place
    return place + actual - expected if place >= expected else None


def _increment(attempt: _Attempt, operation: Increment, snapshot: Snapshot) -> None:
    """Add the sum that a store could not add exactly, on the condition that nothing changed."""
    key, by, operations = operation.key, operation.by, attempt.operations
    stored = snapshot.encoded.get(key)
    place, earlier = _last_on(key, operations)
    base: bytes | None
    match earlier:
        case Set(value=value, only_if_missing=only_if_missing):
            base = stored if only_if_missing and stored is not None else value
        case Replace(new=new):
            base = new
        case Delete() | Clear():
            base = None
        case _:
            base = stored
    total = increment(base, by)
    if total is None:
        attempt.skipped.append(operation)
        return
    match earlier:
        case Set(only_if_missing=False):
            operations[place] = Set(key, total)
        case Set():
            operations[place] = Replace(key, stored, total, snapshot.version)
        case Replace():
            operations[place] = replace(earlier, new=total)
        case Delete() | Clear():
            operations.append(Set(key, total))
        case _:
            operations.append(Replace(key, stored, total, snapshot.version))


def _last_on(key: str, operations: Sequence[Operation]) -> tuple[int, Operation | None]:
    for place in range(len(operations) - 1, -1, -1):
        operation = operations[place]
        if isinstance(operation, Clear) or getattr(operation, "key", None) == key:
            return place, operation
    return -1, None


def _log(thread_id: str, merged: Mapping[str, Merged]) -> None:
    # The clients of a service can use any text as an id.
    shown = printable(thread_id)
    for result in merged.values():
        if result.dropped:
            logger.info(
                "Thread %s: changes to %s were dropped; another request had deleted or assigned"
                " the value.",
                shown,
                printable(", ".join(result.dropped)),
                extra={"thread_id": shown},
            )
        if result.overridden:
            logger.info(
                "Thread %s: %s changed in two requests at once; the later value was kept.",
                shown,
                printable(", ".join(result.overridden)),
                extra={"thread_id": shown},
            )
