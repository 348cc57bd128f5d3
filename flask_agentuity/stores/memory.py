"""Threads in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..document import codec
from ..document.codec import Snapshot
from ..document.operations import Operation
from . import base, listing
from .base import ThreadStore
from .listing import ListedThread, Page


@dataclass(slots=True)
class _Stored:
    state: dict[str, bytes] = field(default_factory=dict)
    metadata: bytes = b"{}"
    created: float = 0.0
    updated: float = 0.0
    used: float = 0.0

    def size(self) -> int:
        entries = sum(
            codec.entry_size(codec.encode_key(key), len(value)) for key, value in self.state.items()
        )
        return codec.document_size(entries, len(self.metadata))


class MemoryStore(ThreadStore):
    """Keeps threads in a dictionary: nothing outlives the process, and no other sees it.

    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    """

    shared_by_machines = False

    def __init__(
        self,
        *,
        ttl: float | None = base.DEFAULT_TTL,
        max_bytes: int = codec.MAX_DOCUMENT_BYTES,
    ) -> None:
        self.ttl = ttl
        self.max_bytes = max_bytes
        self._threads: dict[str, _Stored] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def restore(self, thread_id: str) -> bytes | None:
        with self._held():
            stored = self._find(thread_id)
            return codec.join_document(stored.state, stored.metadata) if stored else None

    def peek(self, thread_id: str) -> bytes | None:
        with self._held():
            stored = self._threads.get(thread_id)
            if stored is None or self._expired(stored):
                return None
            return codec.join_document(stored.state, stored.metadata)

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        with self._held():
            stored = self._find(thread_id)
            return Snapshot(dict(stored.state), stored.metadata) if stored else None

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        self._replace(thread_id, base.complete(snapshot, thread_id), None, metadata)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._replace(thread_id, None, operations, metadata)

    def delete(self, thread_id: str) -> None:
        with self._held():
            self._threads.pop(thread_id, None)

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        wanted = metadata or {}
        listing.require_question(wanted, limit)
        after = listing.decode_cursor(cursor) if cursor else None
        listed = [*self.scan()]
        listed.sort(key=lambda thread: (thread.updated, thread.id), reverse=True)
        following = [
            thread
            for thread in listed
            if (after is None or (thread.updated, thread.id) < after)
            and listing.matches(thread.metadata, wanted)
        ]
        return listing.page_of(following[: limit + 1], limit)

    def scan(self) -> Iterator[ListedThread]:
        with self._held():
            stored = [
                ListedThread(
                    thread_id,
                    codec.decode(stored.metadata),
                    stored.created,
                    stored.updated,
                    stored.size(),
                )
                for thread_id, stored in self._threads.items()
                if not self._expired(stored)
            ]
        return iter(stored)

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        metadata = codec.encode(thread.metadata, "metadata")
        with self._held():
            stored = self._find(thread.id)
            if stored and stored.updated >= thread.updated:
                return False
            adopted = _Stored(state, metadata, thread.created, thread.updated, time.time())
            codec.require_size(adopted.size(), self.max_bytes, thread.id)
            self._put(thread.id, adopted)
            return True

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        with self._held():
            gone = [key for key, stored in self._threads.items() if self._expired(stored)]
            for key in gone:
                del self._threads[key]
        if progress:
            progress(len(gone))
        return len(gone)

    def warnings(self) -> Sequence[str]:
        return ("Threads end with the process. For more than tests, take sqlite:/// or redis://.",)

    def _replace(
        self,
        thread_id: str,
        state: dict[str, bytes] | None,
        operations: Sequence[Operation] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        encoded = None if metadata is None else codec.encode(dict(metadata), "metadata")
        with self._held():
            now = time.time()
            stored = self._find(thread_id) or _Stored(created=now)
            if state is None:
                state = dict(stored.state)
                base.apply(thread_id, state, operations or ())
            kept = stored.metadata if encoded is None else encoded
            after = _Stored(state, kept, stored.created, now, now)
            codec.require_size(after.size(), self.max_bytes, thread_id, stored.size())
            self._put(thread_id, after)

    def _put(self, thread_id: str, stored: _Stored) -> None:
        if stored.size():
            self._threads[thread_id] = stored
        else:
            self._threads.pop(thread_id, None)

    def _find(self, thread_id: str) -> _Stored | None:
        stored = self._threads.get(thread_id)
        if stored is None:
            return None
        if self._expired(stored):
            del self._threads[thread_id]
            return None
        stored.used = time.time()
        return stored

    def _expired(self, stored: _Stored) -> bool:
        return self.ttl is not None and time.time() > stored.used + self.ttl

    def _held(self) -> threading.Lock:
        # Another thread may have held the lock at the moment of a fork, for ever.
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock
