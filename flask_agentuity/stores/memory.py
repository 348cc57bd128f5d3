"""Threads in this process's memory, for tests and experiments."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from ..document import codec
from ..document.apply import apply_operations
from ..document.codec import Snapshot
from ..document.key_count import require_keys
from ..errors import ThreadGone
from ..per_process import PerProcess
from . import base
from .base import TOMBSTONE_SECONDS
from .expected import Expected
from .leases import Lease
from .listing import AHEAD, ListedThread, Page, Query, require_times
from .memory_moving import MovingInMemory, StoredThread, Tombstone
from .memory_runs import MemoryRuns
from .skipped import warn_of_skipped
from .writing import Conflict, Write, Written

#: By how many seconds threads that seem to be of the future come before the write that notices it.
_BEFORE = 0.1


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a request knows about a thread that it has written."""

    entries_size: int


class MemoryStore(MovingInMemory):
    """Keeps threads in a dictionary. They end with the process, and no other process sees them.

    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    """

    shared_by_machines = False
    edits = True
    owners = True

    def __init__(
        self,
        *,
        ttl: float | None = base.DEFAULT_TTL,
        max_bytes: int = codec.MAX_DOCUMENT_BYTES,
    ) -> None:
        self.ttl = ttl
        self.max_bytes: int = max_bytes
        # Includes threads without state and metadata, which are hidden until they expire.
        self._threads: dict[str, StoredThread] = {}
        # In the order of deletion.
        self._tombstones: dict[str, Tombstone] = {}
        # When the last write began.
        self._latest = 0.0
        self.runs = self._runs = MemoryRuns()
        self._lock = PerProcess(lambda: threading.Lock())
        self._tenants: MemoryStore | None = None

    def for_tenants(self) -> MemoryStore:
        """Return the store for a service's tenants: another dictionary, always the same one."""
        with self._lock.get():
            if self._tenants is None:
                # A copy, because a subclass may have other arguments.
                tenants = copy.copy(self)
                # Locks and turns, which every store has from the beginning.
                vars(tenants).update(vars(type(self).__new__(type(self))))
                tenants._threads, tenants._tombstones = {}, {}
                tenants._lock = PerProcess(lambda: threading.Lock())
                tenants.runs = tenants._runs = MemoryRuns()
                self._tenants = tenants
            return self._tenants

    def lease_turn(self, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
        lease = super().lease_turn(thread_id, holder, still)
        if still is not None and lease.holder == holder:
            run = self._runs.latest(thread_id)
            if run is not None and run.holder == still.holder:
                self._runs.interrupt(run.key)
        return lease

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        with self._lock.get():
            return _snapshot(self._find(thread_id))

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        with self._lock.get():
            stored = self._threads.get(thread_id)
            if stored is None or self._expired(stored):
                return None
            if stored.owner is not None and stored.owner != person:
                return Snapshot({}, owner=stored.owner)
        return self.read(thread_id, keys)

    def read_without_renewing(self, thread_id: str) -> Snapshot | None:
        with self._lock.get():
            stored = self._threads.get(thread_id)
            return None if stored is None or self._expired(stored) else _snapshot(stored)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        began = write.began_by(time.time)
        if len(write.operations) > self.max_keys:
            self._require_possible_keys(thread_id, write.operations)
        with self._lock.get():
            now = time.time()
            if now < self._latest - AHEAD:
                self._correct_times()
            self._latest = now
            self._require_turn(thread_id, write.turn)
            stored = self._find(thread_id)
            self._require_not_deleted(thread_id, write, began, stored)
            before = stored or StoredThread(created=now, owner=write.owner)
            if not write.may_change(before.owner):
                raise ThreadGone(thread_id)
            state = dict(before.state)
            applied = apply_operations(
                state, write.operations, counted=write.counted, assigned=before.assigned
            )
            metadata = base.apply_metadata(before.metadata, write.operations)
            if applied.conflicts or metadata is None:
                return Conflict(applied.conflicts, applied.assigned_conflicts, metadata is None)
            version = self._next_version(thread_id, before.version, now)
            born, owner = before.born or version, before.owner
            after = StoredThread(state, metadata, before.created, now, now, version, born, owner)
            after.assigned = {
                **{key: at for key, at in before.assigned.items() if key not in applied.removed},
                **dict.fromkeys(applied.assigned, version),
            }
            codec.require_size(after.size(), self.max_bytes, thread_id, before.size())
            require_keys(len(state), self.max_keys, thread_id, len(before.state))
            if stored or not after.is_empty or owner is not None:
                self._threads[thread_id] = after
        warn_of_skipped(thread_id, applied.skipped)
        return Written(version, _Seen(after.entries_size()), applied.preceding, applied.merged)

    def delete(self, thread_id: str) -> None:
        with self._lock.get():
            self._bury(thread_id)
        self._runs.delete(thread_id)

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        with self._lock.get():
            self._require_turn(thread_id, expected.turn)
            stored = self._threads.get(thread_id)
            if stored is not None and not expected.means(stored.owner, stored.born):
                return
            self._bury(thread_id)
        self._runs.delete(thread_id)

    def find(self, query: Query) -> Page:
        with self._lock.get():
            self._correct_times()
        found = [thread for thread in self.scan() if query.includes(thread)]
        found.sort(key=lambda thread: (thread.updated, thread.id), reverse=True)
        return query.page_of(found)

    def describe(self, thread_id: str) -> ListedThread | None:
        with self._lock.get():
            stored = self._threads.get(thread_id)
            if stored is None or stored.is_empty or self._expired(stored):
                return None
            return self._listed(thread_id, stored)

    def scan(self) -> Iterator[ListedThread]:
        with self._lock.get():
            found = [
                self._listed(thread_id, stored)
                for thread_id, stored in self._threads.items()
                if not (stored.is_empty or self._expired(stored))
            ]
        return iter(found)

    def import_thread(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        metadata = codec.encode(thread.metadata, "metadata")
        require_times(thread)
        with self._lock.get():
            now = time.time()
            stored = self._find(thread.id)
            if stored and stored.updated >= thread.updated:
                return False
            version = self._next_version(thread.id, stored.version if stored else 0, now)
            imported = StoredThread(state, metadata, thread.created, thread.updated, now, version)
            imported.born = version
            imported.owner = thread.owner
            imported.assigned = dict.fromkeys(state, version)
            codec.require_size(imported.size(), self.max_bytes, thread.id)
            self._threads[thread.id] = imported
            return True

    def count_expired(self) -> int:
        with self._lock.get():
            self._correct_times()
            return sum(map(self._expired, self._threads.values()))

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        with self._lock.get():
            self._correct_times()
            gone = [key for key, stored in self._threads.items() if self._expired(stored)]
            for key in gone:
                del self._threads[key]
        if progress:
            progress(len(gone))
        return len(gone)

    def warnings(self) -> Sequence[str]:
        return (
            "Threads are lost when the process ends. Except for tests, use sqlite:/// or redis://.",
        )

    def _require_not_deleted(
        self, thread_id: str, write: Write, began: float, stored: StoredThread | None
    ) -> None:
        tombstone = self._tombstones.get(thread_id)
        if tombstone is None or tombstone.deleted <= time.time() - TOMBSTONE_SECONDS:
            return
        # The request may have read a deleted thread although it seems to have begun after the
        # deletion, because another process can have another clock.
        if tombstone.deleted >= began or (
            write.version and (stored is None or stored.born > write.version)
        ):
            # If the clock was set back since the deletion, the deletion counts as happening now.
            deleted = min(tombstone.deleted, time.time())
            self._tombstones[thread_id] = replace(tombstone, deleted=deleted)
            raise ThreadGone(thread_id)

    def _next_version(self, thread_id: str, version: int, now: float) -> int:
        tombstone = self._tombstones.get(thread_id)
        return max(version + 1, tombstone.version + 1 if tombstone else 0, int(now * 1_000_000))

    def _find(self, thread_id: str) -> StoredThread | None:
        stored = self._threads.get(thread_id)
        if stored is None:
            return None
        if self._expired(stored):
            del self._threads[thread_id]
            return None
        stored.used = time.time()
        return stored

    def _correct_times(self) -> None:
        """Have threads updated now that were written before the clock was set back.

        Otherwise they would stay at the top of listings, and expire late.
        """
        now = time.time()
        ahead = [
            stored
            for stored in self._threads.values()
            if stored.updated > now + AHEAD or stored.used > now + AHEAD
        ]
        ahead.sort(key=lambda stored: stored.updated)
        for place, stored in enumerate(ahead):
            # A microsecond apart, so that their order stays.
            stored.updated = min(stored.updated, now - _BEFORE + place / 1_000_000)
            stored.used = min(stored.used, now)
            stored.created = min(stored.created, stored.updated)

    def _listed(self, thread_id: str, stored: StoredThread) -> ListedThread:
        return ListedThread(
            thread_id,
            codec.decode(stored.metadata),
            stored.created,
            stored.updated,
            stored.size(),
            stored.owner,
            None if self.ttl is None else stored.used + self.ttl,
        )

    def _expired(self, stored: StoredThread) -> bool:
        return self.ttl is not None and time.time() > stored.used + self.ttl


def _snapshot(stored: StoredThread | None) -> Snapshot | None:
    if stored is None or stored.is_nothing:
        return None
    return Snapshot(dict(stored.state), stored.metadata, version=stored.version, owner=stored.owner)
