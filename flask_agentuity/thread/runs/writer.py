"""Storing the output of this process's runs: one thread does it, with one call for all of them."""

from __future__ import annotations

import logging
import threading
import time

from ...errors import StoreError
from ...stores.runs import Addition, RunKey, RunStore
from .log import LiveLog

logger = logging.getLogger("flask_agentuity.runs")

#: Seconds between two calls. The first output after a pause is stored at once, as is an end.
FLUSH_SECONDS = 0.02
#: Seconds before a call that failed is repeated.
_RETRY_SECONDS = 0.25


class Writer:
    """Stores the logs of the runs of this process as they grow."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._changed = threading.Condition(threading.Lock())
        self._logs: dict[RunKey, LiveLog] = {}
        self._has_news = False
        self._is_urgent = False
        self._is_running = False
        self._has_failed = False

    def add(self, log: LiveLog) -> None:
        """Store *log* from now on, until its end."""
        with self._changed:
            self._logs[log.key] = log
            if not self._is_running:
                self._is_running = True
                threading.Thread(
                    target=self._run, name="flask_agentuity-run-writer", daemon=True
                ).start()

    def note(self) -> None:
        """Record that a log has grown."""
        if not self._has_news:
            with self._changed:
                self._has_news = True
                self._changed.notify()

    def hurry(self) -> None:
        """Store without waiting, because a run has ended."""
        with self._changed:
            self._has_news = self._is_urgent = True
            self._changed.notify()

    def forget(self, log: LiveLog) -> None:
        """Stop storing *log*."""
        with self._changed:
            self._logs.pop(log.key, None)
            self._changed.notify()

    def _run(self) -> None:
        stored = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_news or not self._logs)
                if not self._logs:
                    self._is_running = False
                    return
                pause = stored + FLUSH_SECONDS - time.monotonic()
                if pause > 0:
                    self._changed.wait_for(lambda: self._is_urgent, pause)
                self._has_news = self._is_urgent = False
                logs = list(self._logs.values())
            stored = time.monotonic()
            if not self._store_all(logs):
                time.sleep(_RETRY_SECONDS)
                self.note()

    def _store_all(self, logs: list[LiveLog]) -> bool:
        """Store new output of all logs; return False if it must be tried again."""
        found = [(log, addition) for log in logs if (addition := log.addition())]
        if not found:
            return True
        try:
            refused = frozenset(self._store.append([addition for _, addition in found]))
            ended = self._store.look(refused) if refused else {}
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            # The runs continue, and what could not be stored is stored with the next call.
            if not self._has_failed or not isinstance(error, StoreError):
                logger.warning("The output of %d runs is not stored yet: %s", len(found), error)
            self._has_failed = True
            return False
        self._has_failed = False
        for log, addition in found:
            if log.key in refused:
                stored = ended.get(log.key)
                # A run that is still running has a gap in its log, which no other process can have
                # caused.
                log.was_refused(stored.status if stored and not stored.is_running else None)
                self.forget(log)
            else:
                self._take_note(log, addition)
        return True

    def _take_note(self, log: LiveLog, addition: Addition) -> None:
        log.was_stored(addition)
        if addition.status is not None:
            self.forget(log)
