"""The runs of one app: their store, and the runs of each process."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import StoreError
from ...per_process import PerProcess
from ...stores import ThreadStore, open_store
from ...stores.memory_runs import MemoryRuns
from ...stores.runs import RunKey, RunStore, StoredRun
from ...thread.runs.following import interrupt_if_over
from ...thread.runs.process import ProcessRuns
from ...thread.runs.run import Run
from .ending import end_with_process, server_probe

if TYPE_CHECKING:
    from ..app_threads import AppThreads

logger = logging.getLogger("flask_agentuity.runs")

_ONLY_HERE = (
    "%s keeps no runs, so a streamed answer can be read and stopped only in the process that runs"
    " it. Set AGENTUITY_RUN_STORE to redis://HOST or sqlite:///PATH."
)


class AppRuns:
    """The runs of one app. Nothing is opened before the first use."""

    def __init__(self, threads: AppThreads) -> None:
        self._threads = threads
        self._given: ThreadStore | None = None
        url = threads.settings.runs.store
        # Only the store of threads itself can refuse a save whose turn was lost.
        if url is not None and url != threads.settings.store:
            self._given = open_store(url, ttl=None, folder=threads.app.instance_path)
        #: For a store that keeps no runs.
        self._local: RunStore = MemoryRuns()
        self._process = PerProcess(self._make)

    @property
    def turns(self) -> ThreadStore:
        """The store in which requests and runs have their turns."""
        return self._given or self._threads.store

    @property
    def has_own_store(self) -> bool:
        """Whether runs and turns are kept in another store than threads."""
        return self._given is not None

    @property
    def here(self) -> ProcessRuns:
        """The runs of this process."""
        return self._process.get()

    @property
    def store(self) -> RunStore:
        """Where the logs of runs are kept."""
        kept = self.turns.runs
        return self._local if kept is None else kept

    def find(self, thread_id: str, run_id: str | None = None) -> StoredRun | None:
        """Return a run of a thread, the latest one if no run is named.

        :raises StoreError: if the store cannot be asked.
        """
        if run_id is None:
            return self.store.latest(thread_id)
        key = RunKey(thread_id, run_id)
        return self.store.look([key]).get(key)

    def find_settled(self, thread_id: str) -> StoredRun | None:
        """Return the latest run of a thread; it is not running if its turn is over.

        If it has not, this process keeps watching it, and a later call finds that the run is
        interrupted if its process was killed.

        :raises StoreError: if a store cannot be asked.
        """
        stored = self.find(thread_id)
        if stored is None or not stored.is_running or self.here.find_live(stored.key):
            return stored
        if interrupt_if_over(self.turns, self.store, stored):
            return self.find(thread_id)
        return stored

    def is_giving_back(self, thread_id: str) -> bool:
        """Return whether the turn of a thread is that of a run which has ended already.

        If the run continues in another process, this one watches it, as in :meth:`find_settled`.

        :raises StoreError: if a store cannot be asked.
        """
        here = self._process.made()
        if here is None and self.turns.runs is None:
            return False
        stored = self.find(thread_id)
        if stored is None or (here is not None and here.find_live(stored.key)):
            return False
        if stored.is_running:
            return interrupt_if_over(self.turns, self.store, stored)
        holder = secrets.token_hex(8)
        lease = self.turns.lease_turn(thread_id, holder)
        if lease.holder == holder:
            self.turns.end_turn(thread_id, holder)
            return True
        return lease.holder == stored.holder

    def as_run(self, stored: StoredRun) -> Run:
        """Return a run as apps see it."""
        return Run(stored, self.store)

    def thread_deleted(self, thread_id: str) -> None:
        """End the runs of a thread, and delete them if its store does not do that itself."""
        here = self._process.made()
        try:
            if self._given is not None or (self.turns.runs is None and here is not None):
                self.store.delete(thread_id)
        except StoreError as error:
            logger.warning(
                "The runs of the deleted thread %s could not be deleted: %s",
                thread_id,
                error,
                extra={"thread_id": thread_id},
            )
        if here is not None:
            here.thread_deleted(thread_id)

    def warnings(self) -> Sequence[str]:
        """Return warnings about limits of the runs of this app, for ``flask threads check``."""
        if self.turns.runs is not None:
            return ()
        return (_ONLY_HERE % type(self.turns).__name__,)

    def _make(self) -> ProcessRuns:
        for warning in self.warnings():
            logger.warning("Runs are kept in this process only. %s", warning)
        options = self._threads.settings.runs.options
        runs = ProcessRuns(self.turns, self.store, options, server_probe(options.grace))
        end_with_process(runs)
        return runs
