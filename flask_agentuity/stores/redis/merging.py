"""Merge edits into a thread while holding its lock."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ...document import codec
from ...document.codec import Snapshot
from ...document.merge import Merged, rebase, rebase_metadata
from ...document.operations import Edit, EditMetadata, Operation, Push, ReplaceMetadata, SetMetadata
from ...errors import StoreError
from ..writing import Conflict, Write, Written
from .calls import Caller
from .scripts import LOCK, UNLOCK
from .seen import Seen
from .writer import LOCK_SECONDS, LockLost, Pauses, Writer

_MILLISECONDS = round(LOCK_SECONDS * 1000)

_Read = Callable[[str, Collection[str]], Snapshot | None]


@dataclass(slots=True)
class _Rebased:
    """The operations of a write, with its edits rebased on what is stored.

    ``edited`` has the ids (see :func:`id`) of pushes that belong to edits.
    """

    operations: list[Operation] = field(default_factory=list)
    merged: dict[str, Merged] = field(default_factory=dict)
    edited: set[int] = field(default_factory=set)


class Merger:
    """Merges edits into the threads of one store.

    :param read: reads the values of some keys of a thread.
    """

    def __init__(self, caller: Caller, writer: Writer, read: _Read) -> None:
        self._caller = caller
        self._writer = writer
        self._read = read

    def write(self, names: tuple[bytes, bytes], thread_id: str, write: Write) -> Written | Conflict:
        """Apply a write with edits. Edits never cause a conflict.

        :param names: the keys of the thread and of its index.
        """
        pauses = Pauses(thread_id)
        while True:
            lock = self._lock(names[0], thread_id, pauses)
            outcome: Written | Conflict | None = None
            try:
                outcome = self._merge(names, thread_id, write, lock)
            except LockLost:
                pauses.wait()
                continue
            finally:
                # A write that was applied has released the lock.
                if not isinstance(outcome, Written):
                    with suppress(StoreError):
                        self._unlock(names[0], thread_id, lock)
            if isinstance(outcome, Written) or not _is_about_edits(outcome, write):
                return outcome
            # Something has written without taking the lock.
            pauses.wait()

    def _merge(
        self, names: tuple[bytes, bytes], thread_id: str, write: Write, lock: bytes
    ) -> Written | Conflict:
        keys = [each.key for each in write.operations if isinstance(each, Edit)]
        rebased = _rebase(write, self._read(thread_id, keys))
        operations = replace(write, operations=rebased.operations, seen=None)
        outcome = self._writer.write(names, thread_id, operations, lock=lock, edited=rebased.edited)
        if isinstance(outcome, Written):
            outcome = replace(outcome, merged=rebased.merged)
        return outcome

    def _lock(self, thread: bytes, thread_id: str, pauses: Pauses) -> bytes:
        lock = secrets.token_hex(8).encode()
        arguments = (lock, _MILLISECONDS)
        while not self._caller.call(
            thread, thread_id, lambda line: line.run(LOCK, (thread,), arguments)
        ):
            pauses.wait()
        return lock

    def _unlock(self, thread: bytes, thread_id: str, lock: bytes) -> None:
        self._caller.call(thread, thread_id, lambda line: line.run(UNLOCK, (thread,), (lock,)))


def _rebase(write: Write, snapshot: Snapshot | None) -> _Rebased:
    snapshot = snapshot or Snapshot({})
    metadata = snapshot.metadata
    rebased = _Rebased()
    for operation in write.operations:
        match operation:
            case Edit(key=key):
                assigned = _assigned(snapshot, key) > operation.since
                found = rebase(
                    operation, snapshot.encoded.get(key), snapshot.version, assigned=assigned
                )
                rebased.operations.extend(found.operations)
                rebased.merged[key] = found.merged
                rebased.edited.update(id(each) for each in found.operations if type(each) is Push)
            case EditMetadata():
                if change := rebase_metadata(operation, metadata):
                    rebased.operations.append(change)
                    metadata = change.new
            case _:
                rebased.operations.append(operation)
                if isinstance(operation, SetMetadata):
                    metadata = operation.value
                elif isinstance(operation, ReplaceMetadata):
                    metadata = operation.new
    return rebased


def _assigned(snapshot: Snapshot, key: str) -> int:
    """Return the version at which a key was last set unconditionally."""
    if not isinstance(snapshot.seen, Seen):
        return 0
    entry = snapshot.seen.entries.get(codec.encode_key(key), b"0 0 ")
    return int(entry.split(b" ", 2)[1])


def _is_about_edits(conflict: Conflict, write: Write) -> bool:
    edits = {each.key for each in write.operations if isinstance(each, Edit)}
    edits_metadata = any(isinstance(each, EditMetadata) for each in write.operations)
    return bool(edits & set(conflict.keys)) or (conflict.metadata and edits_metadata)
