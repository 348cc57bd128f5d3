"""Interrupt the runs of processes that were killed: one thread for each store watches their turns.

A request that finds the run of another process cannot tell whether that process is alive. From then
on this process watches the turn of the run. If the turn stands still for a lease, it is taken over,
which interrupts the run, and given back. Those who come later, in any process, find it so.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...per_process import PerProcess
from ...stores import leases
from ...stores.base import ThreadStore
from ...stores.leases import Lease, Watch

logger = logging.getLogger("flask_agentuity.runs")

THREAD_NAME = "flask_agentuity-others-runs"
# Of more turns, those that were found longest ago are watched no more.
_MOST_WATCHED = 1_000


def interest_seconds() -> float:
    """Return how long a turn that is renewed is watched after a request has found it."""
    return 3 * leases.LEASE_SECONDS


@dataclass(slots=True)
class _Watched:
    """A turn that is watched; ``until`` is by the monotonic clock."""

    lease: Lease
    until: float
    watch: Watch = field(default_factory=Watch)


class _Watcher:
    """Watches turns of one store."""

    def __init__(self, store: ThreadStore, running: _Running) -> None:
        #: By the ids of their threads; the one that was found last is the last one.
        self.watched: dict[str, _Watched] = {}
        self._store = store
        self._running = running

    def run(self) -> None:
        while True:
            time.sleep(leases.renewal_seconds())
            with self._running.lock:
                self._forget(time.monotonic())
                if not self.watched:
                    # The store may be closed and freed now.
                    del self._running.watchers[id(self._store)]
                    return
                watched = dict(self.watched)
            try:
                self._look(watched)
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                logger.debug("The turns of other processes could not be checked: %s", error)

    def add(self, lease: Lease) -> None:
        """Watch a turn that was found now. The caller has the lock."""
        now = time.monotonic()
        known = self.watched.pop(lease.thread_id, None)
        if known is None or known.lease.token != lease.token:
            known = _Watched(lease, now)
            known.watch.look(lease, now)
        known.until = now + interest_seconds()
        self.watched[lease.thread_id] = known
        if len(self.watched) > _MOST_WATCHED:
            del self.watched[next(iter(self.watched))]

    def _forget(self, now: float) -> None:
        """Watch those no more that are renewed, and that no request has found lately."""
        doubtful = 2 * leases.renewal_seconds()
        self.watched = {
            thread_id: each
            for thread_id, each in self.watched.items()
            if now < each.until or each.watch.stood_still(doubtful)
        }

    def _look(self, watched: Mapping[str, _Watched]) -> None:
        found = self._store.look_at_turns(list(watched))
        now = time.monotonic()
        over = []
        for thread_id, each in watched.items():
            lease = found.get(thread_id)
            if lease is None or lease.token != each.lease.token:
                over.append(each)
                continue
            each.watch.look(lease, now)
            if still := each.watch.stood_still(leases.LEASE_SECONDS):
                self._take_over(still)
                over.append(each)
        with self._running.lock:
            for each in over:
                if self.watched.get(each.lease.thread_id) is each:
                    del self.watched[each.lease.thread_id]

    def _take_over(self, still: Lease) -> None:
        """End the run whose turn stands still, and give the turn back."""
        thread_id, holder = still.thread_id, secrets.token_hex(8)
        # This interrupts the run in the same step.
        if self._store.lease_turn(thread_id, holder, still).holder != holder:
            return
        self._store.end_turn(thread_id, holder)
        logger.info(
            "The run of thread %s is interrupted: its turn was not renewed for %g s, so its process"
            " seems to have ended.",
            thread_id,
            leases.LEASE_SECONDS,
            extra={"thread_id": thread_id},
        )


class _Running:
    """The watchers of this process, by the ids of their stores, which they keep alive."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watchers: dict[int, _Watcher] = {}


_running = PerProcess(_Running)


def interrupt_if_abandoned(store: ThreadStore, lease: Lease) -> None:
    """Have a run of another process interrupted once it is clear that the process has ended.

    That is known within a lease and one renewal.

    :param lease: the turn of the run, as *store* has it now.
    """
    if not lease.token:
        # A store of version 1 ends turns itself.
        return
    running = _running.get()
    with running.lock:
        watcher = running.watchers.get(id(store))
        if watcher is None:
            watcher = _Watcher(store, running)
            threading.Thread(target=watcher.run, name=THREAD_NAME, daemon=True).start()
            running.watchers[id(store)] = watcher
        watcher.add(lease)
