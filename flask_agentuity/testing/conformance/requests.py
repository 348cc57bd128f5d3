"""Requests as the tests of edits need them: read, change plain Python values, save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ...document import codec
from ...document.diff import diff_list
from ...document.operations import (
    Change,
    Delete,
    Edit,
    EditMetadata,
    Operation,
    Set,
    SetMetadata,
    Splice,
)
from ...stores import ThreadStore
from ...stores.writing import Conflict, Write, Written, write_merged
from .stored import snapshot_of

#: A version after all assignments.
LATER = 2**62


def edit(key: str, base: bytes | None, value: Any, since: int = 0) -> Edit:
    """Return the edit that turns the encoded *base* into *value*."""
    encoded = codec.encode(value)
    if base is not None and codec.is_list(base) and isinstance(value, list):
        difference = diff_list(base, value, encoded)
        return Edit(key, base, encoded, difference.changes, difference.appended, since)
    return Edit(key, base, encoded, since=since)


def splice(place: int, gone: Sequence[bytes], *new: bytes, since: int = LATER) -> Splice:
    """Return a splice of the list at ``l``, by default whatever was assigned."""
    return Splice("l", (Change(place, tuple(gone), new),), since)


def begin(store: ThreadStore, thread_id: str) -> int:
    """Store the thread that these tests begin with; returns its version."""
    operations = [Set("l", b"[1,2,3,4]"), Set("n", b"5"), Set("o", b'{"a":1}')]
    return write(store, thread_id, *operations, SetMetadata(b'{"m":1}')).version


def write(store: ThreadStore, thread_id: str, *operations: Operation, **more: Any) -> Written:
    """Do a write that must not conflict; *more* is for :class:`Write`."""
    outcome = store.write(thread_id, Write(operations, **more))
    assert isinstance(outcome, Written)
    return outcome


def conflict(store: ThreadStore, thread_id: str, *operations: Operation) -> Conflict:
    """Do a write that must conflict, and check that nothing of it was applied."""
    before, version = store.restore(thread_id), snapshot_of(store, thread_id).version
    outcome = store.write(thread_id, Write(operations))
    assert isinstance(outcome, Conflict)
    assert store.restore(thread_id) == before
    assert snapshot_of(store, thread_id).version == version
    return outcome


def told(outcome: Conflict) -> tuple[set[str], set[str], bool]:
    """Return the fields of a conflict: keys, those of them that were assigned, metadata."""
    return set(outcome.keys), set(outcome.assigned), outcome.metadata


class Request:
    """A request that reads a thread, changes :attr:`state` and :attr:`metadata`, and saves once."""

    def __init__(self, store: ThreadStore, thread_id: str) -> None:
        """Begin the request and read the whole thread."""
        self._store, self._thread_id = store, thread_id
        self.began = time.monotonic()
        snapshot = store.read(thread_id)
        self.version = snapshot.version if snapshot else 0
        self._seen = snapshot.seen if snapshot else None
        self._base = dict(snapshot.encoded) if snapshot else {}
        self._metadata = snapshot.metadata if snapshot else codec.EMPTY_OBJECT
        self.state = {key: codec.decode(value or b"") for key, value in self._base.items()}
        self.metadata: dict[str, Any] = codec.decode(self._metadata)

    def operations(self) -> list[Operation]:
        """Return what the request has changed."""
        found: list[Operation] = [Delete(key) for key in self._base if key not in self.state]
        for key, value in self.state.items():
            base = self._base.get(key)
            if codec.encode(value) != base:
                found.append(edit(key, base, value, self.version))
        metadata = codec.encode(self.metadata)
        if metadata != self._metadata:
            found.append(EditMetadata(self._metadata, metadata))
        return found

    def save(self, *blind: Operation) -> Written:
        """Write the changes, and then the operations that need no reading."""
        operations = [*self.operations(), *blind]
        write = Write(operations, self.version, self._seen, self.began)
        return write_merged(self._store, self._thread_id, write)
