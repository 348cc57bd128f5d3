"""Logs of runs of other processes, and the thread that looks at them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection

from ...stores import leases
from ...stores.base import ThreadStore
from ...stores.leases import Watch
from ...stores.runs import RunKey, RunStatus, RunStore, StoredRun
from .log import READ_BYTES, Log

logger = logging.getLogger("flask_agentuity.runs")

# So many runs are looked at without readers; others when there is room.
_MOST_DOUBTED = 100


class StoredLog(Log):
    """The log of a run as the store has it; it grows while something updates it."""

    def __init__(
        self, stored: StoredRun, store: RunStore, close: Callable[[StoredLog], object] | None = None
    ) -> None:
        self.key, self.format = stored.key, stored.format
        self.stored: StoredRun | None = stored
        self._store = store
        self._close = close
        self._changed = threading.Condition(threading.Lock())
        self._length = stored.length

    @property
    def length(self) -> int:
        return self._length

    @property
    def status(self) -> RunStatus | None:
        stored = self.stored
        return stored.status if stored else None

    def wait(self, after: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._length > after or self.status != "running" or self.is_cut, seconds
            )

    def read(self, after: int) -> bytes:
        return self._store.read(self.key, after, min(READ_BYTES, self._length - after))

    def close(self) -> None:
        if self._close is not None:
            self._close(self)

    def cut(self) -> None:
        """Have readers go; those of other formats than events would not come again."""
        if self.format == "sse":
            with self._changed:
                self.is_cut = True
                self._changed.notify_all()

    def update(self, stored: StoredRun | None) -> None:
        """Show what the store has now; None if the run was deleted."""
        with self._changed:
            if stored and stored.is_running and stored.length < self._length:
                # The look began before the reader came, who has seen more.
                return
            if stored != self.stored:
                self.stored = stored
                self._length = stored.length if stored else self._length
                self._changed.notify_all()


class Abandonment:
    """Finds out whether the process of a run has ended or lost the run's turn.

    It does so as a request that waits for the turn would, and takes the same time.
    """

    def __init__(self, turns: ThreadStore, store: RunStore, run: StoredRun) -> None:
        """*turns* is the store in which *run* has its turn, *store* keeps its log."""
        self._turns = turns
        self._store = store
        self._run = run
        self._holder = secrets.token_hex(8)
        self._watch = Watch()
        #: Whether the turn seems not to be renewed; clocks may be wrong, so that proves nothing.
        self.is_doubtful = False

    def look(self) -> bool:
        """Look at the turn now; return whether the run is over, which is then stored.

        :raises StoreError: if a store cannot be asked.
        """
        run = self._run
        still = self._watch.stood_still(leases.LEASE_SECONDS)
        lease = self._turns.lease_turn(run.key.thread_id, self._holder, still)
        if lease.holder in (run.holder, ""):
            self._watch.look(lease, time.monotonic())
            self.is_doubtful = not 0 <= lease.age <= 2 * leases.renewal_seconds()
            return False
        try:
            # The end of a run is stored before its turn is given back.
            self._store.interrupt(run.key)
        finally:
            if lease.holder == self._holder:
                self._turns.end_turn(run.key.thread_id, self._holder)
        return True


class Followed:
    """The logs that readers of this process follow."""

    def __init__(self, turns: ThreadStore, store: RunStore) -> None:
        self._turns = turns
        self._store = store
        self._lock = threading.Lock()
        self._logs: dict[RunKey, list[StoredLog]] = {}
        self._abandonments: dict[RunKey, Abandonment] = {}
        self._looked = 0.0
        # Logs without readers, with the time until which they are followed.
        self._doubted: dict[RunKey, tuple[StoredLog, float]] = {}

    @property
    def keys(self) -> Collection[RunKey]:
        """The runs that are followed."""
        with self._lock:
            return list(self._logs)

    def add(self, stored: StoredRun) -> StoredLog:
        """Return the log of a run, which grows until it is closed."""
        log = StoredLog(stored, self._store, self._remove)
        with self._lock:
            self._logs.setdefault(log.key, []).append(log)
        return log

    def doubt(self, stored: StoredRun) -> None:
        """Follow a run, also without readers, until it must be clear whether it goes on."""
        until = time.monotonic() + 3 * leases.LEASE_SECONDS
        with self._lock:
            if stored.key in self._doubted or len(self._doubted) >= _MOST_DOUBTED:
                return
            log = StoredLog(stored, self._store)
            self._doubted[stored.key] = log, until
            self._logs.setdefault(stored.key, []).append(log)

    def update(self, key: RunKey, stored: StoredRun | None) -> None:
        """Tell the readers of a run what the store has now."""
        with self._lock:
            logs = list(self._logs.get(key, ()))
        for log in logs:
            log.update(stored)

    def cut(self) -> None:
        """Have readers go who would come again."""
        with self._lock:
            logs = [log for each in self._logs.values() for log in each]
        for log in logs:
            log.cut()

    def look_at_turns(self, running: Collection[StoredRun]) -> None:
        """Interrupt runs whose process has ended. Called often, it looks now and then.

        :raises StoreError: if a store cannot be asked.
        """
        now = time.monotonic()
        self._forget_doubts(now)
        if now - self._looked < leases.LEASE_SECONDS / leases.RENEWALS:
            return
        self._looked = now
        known = self._abandonments
        self._abandonments = {
            run.key: known.get(run.key) or Abandonment(self._turns, self._store, run)
            for run in running
        }
        for abandonment in self._abandonments.values():
            abandonment.look()

    def _forget_doubts(self, now: float) -> None:
        for log, until in list(self._doubted.values()):
            if now >= until or log.status != "running":
                del self._doubted[log.key]
                self._remove(log)

    def _remove(self, log: StoredLog) -> None:
        with self._lock:
            logs = self._logs.get(log.key, [])
            if log in logs:
                logs.remove(log)
            if not logs:
                self._logs.pop(log.key, None)
