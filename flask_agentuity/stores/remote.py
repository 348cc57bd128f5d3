"""Threads in a thread service, Agentuity's or one's own, over one WebSocket for the process."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..client import ServiceRefusal, ThreadClient
from ..document import codec
from ..document.apply import apply_operations
from ..document.codec import Snapshot
from ..document.operations import Operation, Set
from ..errors import OutcomeUnknown, RequestTimeout, ServiceUnavailable, StateTooLarge
from . import base
from .base import ThreadStore

# How services of this package say that a document is too large: in the words of StateTooLarge.
_TOO_LARGE = re.compile(r"would be ([\d,]+) bytes; the limit is ([\d,]+)")

# How a service may say that it knows no merge. Only a guess: what is refused in other words
# is an error, for a change that was refused for a passing reason must not become a save.
_UNKNOWN_ACTION = re.compile(
    r"unknown|unsupported|unrecogni[sz]ed|unimplemented|invalid|bad request|no such"
    r"|not (?:supported|recogni[sz]ed|implemented|allowed)|gave no reason",
    re.IGNORECASE,
)

# The process, and how many times it was let in: a new connection may lead to a new service.
_Connection = tuple[int, int]

# Threads of old services that are written at once, in one process.
_TURNS = 64


class RemoteStore(ThreadStore):
    """Keeps threads in a thread service.

    Operations are sent as such. A service too old for that (it knows no ``merge``) is
    written to by restore, apply and save, which is atomic within this process only.
    """

    shared_by_machines = True

    def __init__(self, client: ThreadClient) -> None:
        """Use *client*, which is closed with the store."""
        self.client = client
        # Which connection the service is known to merge over, and over which it is not.
        self._merges: _Connection | None = None
        self._does_not_merge: _Connection | None = None
        # Made at the first use, and for each process: a fork may find them held.
        self._turns: dict[tuple[int, int], threading.Lock] = {}

    @classmethod
    def from_url(cls, url: str, *, key: str, **options: Any) -> RemoteStore:
        """Return the store at a ws or wss *url*; nothing is connected before the first use.

        :param key: the service's key.
        :param options: those of :class:`~flask_agentuity.client.ThreadClient`.
        :raises ConfigurationError: when one of them is wrong.
        """
        return cls(ThreadClient(url, key, **options))

    def restore(self, thread_id: str) -> bytes | None:
        return self.client.restore(thread_id)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = base.complete(snapshot, thread_id)
        if metadata is None:
            # A service may keep just what it is given: what is to stay has to be in it.
            stored = codec.split_document(self.client.restore(thread_id), thread_id)
            kept = stored.metadata if stored else b"{}"
        else:
            kept = codec.encode(dict(metadata), "metadata")
        self._save(thread_id, codec.join_document(state, kept), metadata)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        _require_possible_size(thread_id, operations)
        before = self._connection()
        if self._does_not_merge == before:
            self._merge_by_saving(thread_id, operations, metadata)
            return
        try:
            _with_sizes(thread_id, lambda: self.client.merge(thread_id, operations, metadata))
        except ServiceRefusal as refusal:
            if self._merges == before or not _UNKNOWN_ACTION.search(refusal.words):
                raise
            self._merge_by_saving(thread_id, operations, metadata)
            after = self._connection()
            if before in (after, (os.getpid(), 0)):
                self._does_not_merge = after
        else:
            self._merges = self._connection()

    def delete(self, thread_id: str) -> None:
        self.client.delete(thread_id)

    def close(self) -> None:
        self.client.close()

    def _merge_by_saving(
        self,
        thread_id: str,
        changes: Sequence[Operation],
        metadata: Mapping[str, Any] | None,
    ) -> None:
        with self._turn(thread_id):
            stored = codec.split_document(self.client.restore(thread_id), thread_id)
            snapshot = stored or Snapshot({})
            state = base.complete(snapshot, thread_id)
            base.apply(thread_id, state, changes)
            kept = (
                snapshot.metadata if metadata is None else codec.encode(dict(metadata), "metadata")
            )
            try:
                self._save(thread_id, codec.join_document(state, kept), metadata)
            except RequestTimeout as error:
                # The document may be repeated, but the pushes in it may not.
                raise OutcomeUnknown(str(error)) from error

    def _save(self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None) -> None:
        _with_sizes(thread_id, lambda: self.client.save(thread_id, document, metadata))

    def _connection(self) -> _Connection:
        return os.getpid(), self.client.connection_number

    @contextmanager
    def _turn(self, thread_id: str) -> Iterator[None]:
        name = os.getpid(), hash(thread_id) % _TURNS
        # setdefault is atomic: two threads get one lock.
        lock = self._turns.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=self.client.settings.request_timeout):
            raise ServiceUnavailable(
                f"The merge of thread {thread_id} was not sent: an earlier one does not end."
            )
        try:
            yield
        finally:
            lock.release()


def _with_sizes(thread_id: str, call: Callable[[], None]) -> None:
    """Do *call*; a refusal that names both sizes becomes StateTooLarge."""
    try:
        call()
    except ServiceRefusal as refusal:
        if (sizes := _TOO_LARGE.search(refusal.words)) is None:
            raise
        size, limit = (int(figure.replace(",", "")) for figure in sizes.groups())
        raise StateTooLarge(size, limit, thread_id) from refusal


def _require_possible_size(thread_id: str, changes: Sequence[Operation]) -> None:
    """Refuse *changes* that alone, on any thread, leave more than a service takes.

    :raises StateTooLarge: with the size that they would have on an empty thread.
    """
    limit = codec.MAX_DOCUMENT_BYTES
    values = (getattr(change, "value", b"") for change in changes)
    if sum(len(value) for value in values) <= limit:
        return
    state: dict[str, bytes] = {}
    # A default may find its place taken by something smaller.
    apply_operations(
        state, [each for each in changes if not (isinstance(each, Set) and each.only_if_missing)]
    )
    codec.require_size(len(codec.join_document(state)), limit, thread_id)
