"""Threads in a thread service that does not merge edits, such as Agentuity's."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, assert_never

from ..client import ServiceRefusal, ThreadClient
from ..document import codec
from ..document.codec import Snapshot
from ..document.operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
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
from ..errors import OutcomeUnknown, RequestTimeout, ServiceUnavailable
from ..per_process import PerProcess
from .applying import apply, complete, is_of_version_1
from .base import ThreadStore
from .writing import Conflict, Write, Written

logger = logging.getLogger("flask_agentuity.stores")

# How a service may say that it does not know merge. If a merge is refused with other words, perhaps
# for a temporary reason, it must not become a save.
_UNKNOWN_ACTION = re.compile(
    r"unknown|unsupported|unrecogni[sz]ed|unimplemented|invalid|bad request|no such"
    r"|not (?:supported|recogni[sz]ed|implemented|allowed)|gave no reason",
    re.IGNORECASE,
)

# Locks of one process for threads that are read, changed and written back.
_TURNS = 64


class _Learned:
    """What is known about the service, in one process."""

    def __init__(self) -> None:
        #: The number of the connection for which it is known whether the service merges.
        self.merges: int | None = None
        self.does_not_merge: int | None = None
        self.has_warned = False
        # A write that reads may end as a save that reads.
        self.turns = [threading.RLock() for _ in range(_TURNS)]


class BasicService(ThreadStore):
    """Keeps threads in a service that knows only set, delete, clear and push.

    An edit becomes a set, so the later of two concurrent edits wins. What depends on the
    stored value is read, changed and written back, which is atomic within this process only.
    If a service does not know ``merge`` either, the document is restored, changed and saved.
    """

    def __init__(self, client: ThreadClient) -> None:
        self.client = client
        self._learned = PerProcess(_Learned)

    def restore(self, thread_id: str) -> bytes | None:
        return self.client.restore(thread_id)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = complete(snapshot, thread_id)
        if metadata is None:
            # The service may keep only what is sent, so the metadata has to be included.
            stored = codec.split_document(self.client.restore(thread_id), thread_id)
            kept = stored.metadata if stored else codec.EMPTY_OBJECT
        else:
            kept = codec.encode_stored(dict(metadata), "metadata")
        self.client.save(thread_id, codec.join_document(state, kept), metadata)

    def delete(self, thread_id: str) -> None:
        self.client.delete(thread_id)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        learned, before = self._learned.get(), self.client.connection_number
        if before and learned.does_not_merge == before:
            self._merge_by_saving(thread_id, operations, metadata)
            return
        try:
            self.client.merge(thread_id, operations, metadata)
        except ServiceRefusal as refusal:
            if learned.merges == before or not _UNKNOWN_ACTION.search(refusal.words):
                raise
            self._merge_by_saving(thread_id, operations, metadata)
            after = self.client.connection_number
            if before in (after, 0):
                learned.does_not_merge = after
        else:
            learned.merges = self.client.connection_number

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        write = replace(write, operations=to_basic(write.operations))
        if not all(map(is_of_version_1, write.operations)):
            self._warn_once()
            with self._turn(thread_id):
                return super().write(thread_id, write)
        operations = [each for each in write.operations if not isinstance(each, SetMetadata)]
        metadata = None
        for each in write.operations:
            if isinstance(each, SetMetadata):
                metadata = codec.decode(each.value)
        self.merge(thread_id, operations, metadata)
        return Written()

    def _merge_by_saving(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None,
    ) -> None:
        with self._turn(thread_id):
            stored = codec.split_document(self.client.restore(thread_id), thread_id)
            snapshot = stored or Snapshot({})
            state = complete(snapshot, thread_id)
            apply(thread_id, state, operations)
            kept = (
                snapshot.metadata
                if metadata is None
                else codec.encode_stored(dict(metadata), "metadata")
            )
            try:
                self.client.save(thread_id, codec.join_document(state, kept), metadata)
            except RequestTimeout as error:
                # The document may be repeated, but the pushes in it may not.
                raise OutcomeUnknown(str(error)) from error

    def _warn_once(self) -> None:
        learned = self._learned.get()
        if not learned.has_warned:
            learned.has_warned = True
            logger.warning(
                "The thread service at %s does not merge edits. Increments, truncations and"
                " other changes that depend on the stored value are read, changed and written"
                " back; that is atomic within one process only.",
                self.client.settings.address.shown,
            )

    @contextmanager
    def _turn(self, thread_id: str) -> Iterator[None]:
        lock = self._learned.get().turns[hash(thread_id) % _TURNS]
        if not lock.acquire(timeout=self.client.settings.request_timeout):
            raise ServiceUnavailable(
                f"The write of thread {thread_id} was not sent: an earlier one has not ended."
            )
        try:
            yield
        finally:
            lock.release()


def to_basic(operations: Sequence[Operation]) -> list[Operation]:
    """Return *operations* with edits as sets.

    What depends on the stored value stays as it is: increments and the like, edits of lists
    that are known in part only, and splices that are followed by pushes to their list (the
    whole list that comes with a splice may include them).
    """
    pushed: set[str] = set()
    found: list[Operation] = []
    for operation in reversed(operations):
        if isinstance(operation, Push):
            pushed.add(operation.key)
        found.extend(reversed(_to_basic(operation, pushed)))
    return found[::-1]


def _to_basic(operation: Operation, pushed: set[str]) -> Sequence[Operation]:
    match operation:
        case Edit(partial=True):
            return [operation]
        case Edit(key, base, changes=(), appended=appended) if base is not None:
            return [Push(key, item) for item in appended]
        case Edit(key, value=value):
            return [Set(key, value)]
        case Splice(key, whole=whole) if whole is not None and key not in pushed:
            return [Set(key, whole)]
        case Replace(key, new=new):
            return [Set(key, new)]
        case ReplaceMetadata(new=value) | EditMetadata(value=value):
            return [SetMetadata(value)]
        case Set() | Delete() | Clear() | Push() | Splice() | SetMetadata():
            return [operation]
        case Increment() | Truncate() | PopLast():
            return [operation]
        case _:
            assert_never(operation)
