"""The runs of one app in one process: those that it runs, and those that it reads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...stores import leases
from ...stores.base import ThreadStore
from ...stores.runs import NewRun, RunKey, RunStore
from .following import Followed, StoredLog
from .log import LiveLog, Log
from .readers import Readers
from .writer import Writer

logger = logging.getLogger("flask_agentuity.runs")

#: Seconds between two looks at runs of this process that no other process has readers of.
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 0.5
#: Seconds in which generators that are closed at a shutdown have to end.
CLOSING_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The limits of runs. Times are in seconds, sizes in bytes."""

    max_bytes: int = 4_194_304
    grace: float = 25.0
    max_per_process: int = 100
    max_readers: int = 16
    keep: float = 300.0


class TooManyRuns(Exception):
    """A process has as many runs as it may have."""


class ProcessRuns:
    """What one process knows of the runs of one app."""

    def __init__(
        self,
        turns: ThreadStore,
        store: RunStore,
        options: RunOptions,
        is_stopping: Callable[[], bool],
    ) -> None:
        """Begin without runs.

        :param turns: the store in which the runs have their turns.
        :param store: the store that keeps their logs.
        :param is_stopping: returns whether the server has asked this process to end.
        """
        self.store = store
        self.options = options
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._live: dict[RunKey, LiveLog] = {}
        # The runs whose threads have not ended; some may only call listeners.
        self._at_work: set[RunKey] = set()
        self._reserved = 0
        #: The readers in this process, with the limit for each thread.
        self.readers = Readers(options.max_readers)
        self._writer = Writer(store)
        self._followed = Followed(turns, store)
        self._deadline: float | None = None
        self._is_watching = False
        self._wake = threading.Event()
        self._wake_watch: Callable[[], object] | None = None

    def reserve(self) -> None:
        """Make room for a run, until :meth:`begin` or :meth:`release`.

        :raises TooManyRuns: if there is none.
        """
        with self._lock:
            if len(self._live) + self._reserved >= self.options.max_per_process:
                raise TooManyRuns
            self._reserved += 1

    def release(self) -> None:
        """Give back the room for a run that does not begin."""
        with self._lock:
            self._reserved -= 1

    def begin(self, new: NewRun, end_turn: Callable[[], object]) -> LiveLog:
        """Store a run that begins, and return its log.

        :param end_turn: gives back its turn, if its generator has not ended when the run has.
        :raises StoreError: if it cannot be stored; its room is not given back.
        """
        self.store.begin(new)
        log = LiveLog(new, self.store, self.options.max_bytes, end_turn)
        with self._lock:
            self._reserved -= 1
            self._live[log.key] = log
            self._at_work.add(log.key)
        self._writer.add(log)
        self._watch()
        return log

    def note(self) -> None:
        """Record that a log of this process has grown."""
        self._writer.note()

    def finish(self, log: LiveLog, patience: float) -> bool:
        """Store the end of a run that was finished; return False if that was not possible."""
        self._writer.hurry()
        stored = log.ended.wait(patience)
        self._writer.forget(log)
        return stored

    def show_end(self, log: LiveLog) -> None:
        """Show readers that a run has ended."""
        log.show_end()
        with self._lock:
            self._live.pop(log.key, None)

    def abandon(self, log: LiveLog) -> None:
        """End a run that has not started."""
        log.finish(b"", "failed")
        self.finish(log, CLOSING_SECONDS)
        self.show_end(log)
        self.leave(log)

    def leave(self, log: LiveLog) -> None:
        """Record that the thread of a run has nothing left to do."""
        with self._lock:
            self._at_work.discard(log.key)

    def wait_for_end(self, seconds: float, run_id: str | None = None) -> bool:
        """Wait until a run, or every run, has ended; return False on timeout."""
        return self._wait_until(time.monotonic() + seconds, run_id)

    def find_live(self, key: RunKey) -> LiveLog | None:
        """Return the log of a run of this process."""
        return self._live.get(key)

    def open(self, key: RunKey) -> Log | None:
        """Return the log of a run for a reader, who closes it; None if there is none.

        :raises StoreError: if the store cannot be asked.
        """
        live = self._live.get(key)
        if live is not None:
            return live
        stored = self.store.look([key]).get(key)
        if stored is None:
            return None
        if not stored.is_running:
            return StoredLog(stored, self.store)
        log = self._followed.add(stored)
        self._watch()
        return log

    def stop(self, key: RunKey) -> bool:
        """Ask a run, in any process, to stop; False if it is not running.

        :raises StoreError: if the store cannot be asked.
        """
        live = self._live.get(key)
        if live is not None:
            live.ask("stopped")
        return self.store.stop(key)

    def thread_deleted(self, thread_id: str) -> None:
        """End the runs of a deleted thread in this process."""
        for log in list(self._live.values()):
            if log.key.thread_id == thread_id and not log.is_closing:
                log.was_refused(None)

    def begin_to_end(self) -> None:
        """Let runs continue for the grace period, and then end them."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self.options.grace
            self._followed.cut()

    def shut_down(self) -> None:
        """Wait for the runs to end; close them when the grace period is over."""
        self.begin_to_end()
        assert self._deadline is not None
        if self._wait_until(self._deadline):
            return
        self._keep_deadlines()
        if not self._wait_until(max(time.monotonic(), self._deadline) + CLOSING_SECONDS):
            self._cut_off()

    def _keep_deadlines(self) -> None:
        """Close generators after the grace period, and cut off those that block after that."""
        if self._is_stopping():
            self.begin_to_end()
        now, deadline = time.monotonic(), self._deadline
        if deadline is None or now < deadline:
            return
        for log in list(self._live.values()):
            log.ask("interrupted")
        if now >= deadline + CLOSING_SECONDS:
            # Not only at the exit of the interpreter: a server may wait for their readers first.
            self._cut_off()

    def _cut_off(self) -> None:
        logs = list(self._live.values())
        for log in logs:
            log.cut_off(CLOSING_SECONDS)
        until = time.monotonic() + CLOSING_SECONDS
        for log in logs:
            self.finish(log, max(0.0, until - time.monotonic()))
            log.end_turn()
            self.show_end(log)
            self.leave(log)

    def _wait_until(self, deadline: float, run_id: str | None = None) -> bool:
        while any(run_id in (None, key.run_id) for key in list(self._at_work)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _watch(self) -> None:
        """Make the watching thread check the current runs."""
        with self._lock:
            self._wake.set()
            if self._wake_watch is not None:
                self._wake_watch()
            if not self._is_watching:
                self._is_watching = True
                threading.Thread(
                    target=self._run_watch, name="flask_agentuity-run-watch", daemon=True
                ).start()

    def _run_watch(self) -> None:
        has_failed = False
        while True:
            try:
                if self._look_while_live():
                    return
                with self.store.watch() as watch:
                    self._wake_watch = watch.wake
                    try:
                        while followed := self._followed.keys:
                            # Turns are checked even if nothing changes.
                            pause = leases.LEASE_SECONDS / leases.RENEWALS
                            watch.wait([*followed, *self._live], pause)
                            self._look()
                            has_failed = False
                    finally:
                        self._wake_watch = None
            except Exception as error:  # noqa: BLE001 - logged
                # Readers wait, and the runs of this process continue.
                if not has_failed:
                    logger.warning("The store of runs cannot be watched: %s", error)
                has_failed = True
                # Also while the store cannot be asked.
                self._keep_deadlines()
                time.sleep(_RETRY_SECONDS)

    def _look_while_live(self) -> bool:
        """Check the runs of this process; return True if there is nothing left to do."""
        while not self._followed.keys:
            with self._lock:
                if not self._live and not self._followed.keys:
                    self._is_watching = False
                    return True
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()
            self._look()
        return False

    def _look(self) -> None:
        self._keep_deadlines()
        live = dict(self._live)
        # Readers who came meanwhile are not affected, because their runs were not asked for.
        followed = self._followed.keys
        found = self.store.look({*live, *followed})
        for key, log in live.items():
            log.compare(found.get(key))
        for key in followed:
            self._followed.update(key, found.get(key))
        self._followed.look_at_turns(
            [run for key in followed if (run := found.get(key)) and run.is_running]
        )
