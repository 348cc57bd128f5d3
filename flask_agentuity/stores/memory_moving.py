"""Threads in memory, and how they are moved, copied and erased."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..document import codec
from ..document.apply import apply_operations
from ..document.operations import Operation
from ..per_process import PerProcess
from .applying import apply_metadata
from .base import TOMBSTONE_SECONDS, KeyedStore
from .expected import ANY, Expected
from .listing import require_owner
from .memory_runs import MemoryRuns
from .moving import id_is_taken, may_take, require_move
from .skipped import warn_of_skipped


@dataclass(slots=True)
class StoredThread:
    """A stored thread. ``born`` is the version of its first write.

    ``assigned`` has the version at which each key was assigned without regard to what was
    stored; 0 where it is missing.
    """

    state: dict[str, bytes] = field(default_factory=dict)
    metadata: bytes = b"{}"
    created: float = 0.0
    updated: float = 0.0
    used: float = 0.0
    version: int = 0
    born: int = 0
    owner: str | None = None
    assigned: dict[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.state and self.metadata == codec.EMPTY_OBJECT

    @property
    def is_nothing(self) -> bool:
        """Whether it counts as no thread. An empty thread with an owner counts as one."""
        return self.is_empty and self.owner is None

    def entries_size(self) -> int:
        return sum(
            codec.entry_size(codec.encode_key(key), len(value)) for key, value in self.state.items()
        )

    def size(self) -> int:
        return codec.document_size(self.entries_size(), len(self.metadata))


@dataclass(frozen=True, slots=True)
class Tombstone:
    """When a thread was deleted, and its last version, so that no version is used twice."""

    deleted: float
    version: int


class MovingInMemory(KeyedStore):
    """Moves, copies and erases threads that are in a dictionary."""

    max_bytes: int
    _threads: dict[str, StoredThread]
    _tombstones: dict[str, Tombstone]
    _runs: MemoryRuns
    _lock: PerProcess[threading.Lock]

    def move(
        self, thread_id: str, new_id: str, *, owner: str | None = None, expected: Expected = ANY
    ) -> bool:
        require_move(thread_id, new_id, owner)
        with self._lock.get():
            self._require_turn(thread_id, expected.turn)
            stored = self._find_unrenewed(thread_id)
            if stored is not None and not (
                may_take(owner, stored.owner) and expected.means(stored.owner, stored.born)
            ):
                return False
            self._require_free(new_id)
            self._bury(thread_id)
            if stored is not None:
                self._threads[new_id] = replace(stored, owner=stored.owner or owner)
        self._runs.delete(thread_id)
        return stored is not None

    def duplicate(
        self, thread_id: str, new_id: str, operations: Sequence[Operation], owner: str | None
    ) -> bool:
        with self._lock.get():
            stored = self._find_unrenewed(thread_id)
            if stored is None or stored.is_nothing or not may_take(owner, stored.owner):
                return False
            self._require_free(new_id)
            now, state = time.time(), dict(stored.state)
            applied = apply_operations(state, operations)
            metadata = apply_metadata(stored.metadata, operations)
            assert metadata is not None
            version = self._next_version(new_id, stored.version, now)
            copy = StoredThread(state, metadata, now, now, now, version, version)
            copy.owner = stored.owner or owner
            copy.assigned = dict(stored.assigned)
            codec.require_size(copy.size(), self.max_bytes, new_id)
            self._threads[new_id] = copy
        warn_of_skipped(new_id, applied.skipped)
        return True

    def erase(self, owner: str, progress: Callable[[int], None] | None = None) -> int:
        require_owner(owner)
        with self._lock.get():
            erased = [key for key, stored in self._threads.items() if stored.owner == owner]
            for thread_id in erased:
                self._bury(thread_id)
        for thread_id in erased:
            self._runs.delete(thread_id)
        if erased and progress:
            progress(len(erased))
        return len(erased)

    def _require_free(self, new_id: str) -> None:
        if self._find_unrenewed(new_id) is not None or new_id in self._tombstones:
            raise id_is_taken(new_id)

    def _bury(self, thread_id: str) -> None:
        """Remove a thread, if it is stored, and remember for an hour that it was deleted."""
        now = time.time()
        stored = self._threads.pop(thread_id, None)
        earlier = self._tombstones.pop(thread_id, None)
        known = [each.version for each in (stored, earlier) if each]
        self._tombstones[thread_id] = Tombstone(now, max(known, default=0))
        for old, tombstone in list(self._tombstones.items()):
            if tombstone.deleted > now - TOMBSTONE_SECONDS:
                break
            del self._tombstones[old]

    def _find_unrenewed(self, thread_id: str) -> StoredThread | None:
        stored = self._threads.get(thread_id)
        return None if stored is None or self._expired(stored) else stored

    def _expired(self, stored: StoredThread) -> bool:
        raise NotImplementedError

    def _next_version(self, thread_id: str, version: int, now: float) -> int:
        raise NotImplementedError
