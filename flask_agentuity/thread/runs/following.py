"""Following the logs of runs of other processes."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection

from ...stores import leases
from ...stores.base import ThreadStore
from ...stores.runs import RunKey, RunStatus, RunStore, StoredRun
from .abandoned import interrupt_if_abandoned
from .log import READ_BYTES, Log

logger = logging.getLogger("flask_agentuity.runs")


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
        """End the readers of events, who reconnect; readers of other formats would not."""
        if self.format == "sse":
            with self._changed:
                self.is_cut = True
                self._changed.notify_all()

    def update(self, stored: StoredRun | None) -> None:
        """Update the log to what the store has now; None if the run was deleted."""
        with self._changed:
            if stored and stored.is_running and stored.length < self._length:
                # The store was read before the reader came, who has seen more.
                return
            if stored != self.stored:
                self.stored = stored
                self._length = stored.length if stored else self._length
                self._changed.notify_all()


def interrupt_if_over(turns: ThreadStore, store: RunStore, run: StoredRun) -> bool:
    """Return whether the turn of *run* is over, and with it the run, which is then stored.

    If the turn is not over, this process watches it from now on, and interrupts the run if it
    stands still.

    :param turns: the store in which the run has its turn.
    :param store: the store that keeps its log.
    :raises StoreError: if a store cannot be asked.
    """
    holder = secrets.token_hex(8)
    lease = turns.lease_turn(run.key.thread_id, holder)
    if lease.holder in (run.holder, ""):
        interrupt_if_abandoned(turns, lease)
        return False
    try:
        # The end of a run is stored before its turn is given back.
        store.interrupt(run.key)
    finally:
        if lease.holder == holder:
            turns.end_turn(run.key.thread_id, holder)
    return True


class Followed:
    """The logs that readers of this process follow."""

    def __init__(self, turns: ThreadStore, store: RunStore) -> None:
        self._turns = turns
        self._store = store
        self._lock = threading.Lock()
        self._logs: dict[RunKey, list[StoredLog]] = {}
        self._looked = 0.0

    @property
    def keys(self) -> Collection[RunKey]:
        """The runs that are followed."""
        with self._lock:
            return list(self._logs)

    def add(self, stored: StoredRun) -> StoredLog:
        """Return the log of a run, which is updated until it is closed."""
        log = StoredLog(stored, self._store, self._remove)
        with self._lock:
            self._logs.setdefault(log.key, []).append(log)
        return log

    def update(self, key: RunKey, stored: StoredRun | None) -> None:
        """Update a run's log to what the store has now."""
        with self._lock:
            logs = list(self._logs.get(key, ()))
        for log in logs:
            log.update(stored)

    def cut(self) -> None:
        """End the readers that reconnect."""
        with self._lock:
            logs = [log for each in self._logs.values() for log in each]
        for log in logs:
            log.cut()

    def look_at_turns(self, running: Collection[StoredRun]) -> None:
        """Interrupt runs whose process has ended. It may be called often, and checks from time to
        time.

        :raises StoreError: if a store cannot be asked.
        """
        now = time.monotonic()
        if now - self._looked < leases.LEASE_SECONDS / leases.RENEWALS:
            return
        self._looked = now
        for run in running:
            interrupt_if_over(self._turns, self._store, run)

    def _remove(self, log: StoredLog) -> None:
        with self._lock:
            logs = self._logs.get(log.key, [])
            if log in logs:
                logs.remove(log)
            if not logs:
                self._logs.pop(log.key, None)
