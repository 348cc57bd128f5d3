"""One write to a thread: what a store is asked to do, what it answers, and how edits are merged.

A store applies all operations of a write or none. Where a value that an edit replaces is no
longer there, the store reports a conflict; :func:`write_merged` then reads, merges in pure
Python and writes again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..document import codec
from ..document.apply import increment
from ..document.codec import Snapshot
from ..document.merge import Merged, optimistic, rebase, rebase_metadata
from ..document.operations import Edit, EditMetadata, Increment, Operation, Replace, ReplaceMetadata

logger = logging.getLogger("flask_agentuity.stores")

#: How often a write is tried before the store merges it under its lock.
ATTEMPTS = 4
#: The longest pause before the second attempt, in seconds. It doubles with each attempt.
FIRST_PAUSE = 0.002


@dataclass(frozen=True, slots=True)
class Write:
    """The operations of one save, and what its request knows of the thread.

    ``version`` is what the request's first read found (0: it has not read, or nothing was
    stored), ``seen`` what the latest read or write of the request brought for the store.
    ``began`` says when the request began, by :func:`time.monotonic`; a thread that was
    deleted later is not written. ``counted`` are the keys for whose pushes the request
    needs to know how many items came before.
    """

    operations: Sequence[Operation]
    version: int = 0
    seen: Any = None
    began: float = field(default_factory=time.monotonic)
    counted: Collection[str] = ()

    @property
    def age(self) -> float:
        """Seconds since the request began."""
        return max(0.0, time.monotonic() - self.began)


@dataclass(frozen=True, slots=True)
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

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        """Return what is stored of the keys."""

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        """Apply a write."""


def write_merged(store: EditingStore, thread_id: str, write: Write) -> Written:
    """Apply *write*, merging its edits with what others have written meanwhile.

    The last attempt gives the edits themselves to the store, which merges them under its
    lock and so cannot report a conflict.

    :raises ThreadGone: if the thread was deleted after the request began.
    :raises StateTooLarge: if the document would be over the limit.
    :raises StoreError: if the store cannot write.
    """
    operations: Sequence[Operation] | None = _optimistic(write.operations)
    merged: dict[str, Merged] = {}
    attempt, seen, conflict = 1, write.seen, Conflict()
    while True:
        if operations is None:
            snapshot = store.read(thread_id, _keys_to_read(write.operations, conflict))
            operations, merged = _rebased(write.operations, snapshot or Snapshot({}), conflict)
            seen = snapshot.seen if snapshot else None
        outcome = store.write(thread_id, replace(write, operations=operations, seen=seen))
        if isinstance(outcome, Written):
            merged = {**merged, **outcome.merged}
            _log(thread_id, merged)
            return replace(outcome, merged=merged)
        conflict = Conflict(
            {*conflict.keys, *outcome.keys},
            {*conflict.assigned, *outcome.assigned},
            conflict.metadata or outcome.metadata,
        )
        attempt += 1
        operations = write.operations if attempt == ATTEMPTS else None
        merged, seen = {}, None
        if attempt > 2:
            time.sleep(random.uniform(0, FIRST_PAUSE * 2 ** (attempt - 2)))


def _optimistic(operations: Sequence[Operation]) -> list[Operation] | None:
    found: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Edit):
            cheap = optimistic(operation)
            if cheap is None:
                return None
            found.extend(cheap)
        elif isinstance(operation, EditMetadata):
            found.append(ReplaceMetadata(operation.base, operation.value))
        else:
            found.append(operation)
    return found


def _keys_to_read(operations: Sequence[Operation], conflict: Conflict) -> list[str]:
    edited = [operation.key for operation in operations if isinstance(operation, Edit)]
    return list(dict.fromkeys([*edited, *conflict.keys]))


def _rebased(
    operations: Sequence[Operation], snapshot: Snapshot, conflict: Conflict
) -> tuple[list[Operation], dict[str, Merged]]:
    found: list[Operation] = []
    merged: dict[str, Merged] = {}
    for operation in operations:
        match operation:
            case Edit(key=key):
                stored = snapshot.encoded.get(key)
                rebased = rebase(
                    operation, stored, snapshot.version, assigned=key in conflict.assigned
                )
                found.extend(rebased.operations)
                merged[key] = rebased.merged
            case EditMetadata():
                change = rebase_metadata(operation, snapshot.metadata)
                found.extend([change] if change else [])
            case Increment(key=key) if key in conflict.keys:
                stored = snapshot.encoded.get(key)
                value = increment(stored, operation.by)
                if value is not None:
                    found.append(Replace(key, stored, value, snapshot.version))
            case _:
                found.append(operation)
    return found, merged


def _log(thread_id: str, merged: Mapping[str, Merged]) -> None:
    for key, result in merged.items():
        path = codec.child_path("state", key)
        if result.dropped:
            logger.info(
                "Thread %s: changes to %s were dropped; another request had deleted or assigned"
                " the value.",
                thread_id,
                ", ".join(result.dropped) or path,
            )
        if result.overridden:
            logger.info(
                "Thread %s: %s changed in two requests at once; the later value was kept.",
                thread_id,
                ", ".join(result.overridden),
            )
