"""Waiting for changes of runs that other threads and processes write to the file.

SQLite sends no notifications, so a watch polls: it reads one row that changes with each change of a
run, which takes a few microseconds, and only if that has changed, the runs.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping

from ..runs import RunKey, RunWatch, StoredRun
from .connections import Connections

#: Seconds between two looks. After a while without changes they become rarer.
_PAUSE, _LONGEST_PAUSE = 0.005, 0.01
_QUIET_SECONDS = 2.0

_COUNT = "SELECT count FROM run_changes"

_Find = Callable[[sqlite3.Connection, Collection[RunKey]], Mapping[RunKey, StoredRun]]


class SQLiteRunWatch(RunWatch):
    """Polls the file until a run has changed."""

    def __init__(self, connections: Connections, find: _Find) -> None:
        self._connections = connections
        self._find = find
        self._woken = threading.Event()
        self._count = -1
        self._seen: dict[RunKey, StoredRun | None] = {}
        self._changed = time.monotonic()

    def wait(self, runs: Collection[RunKey], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._has_changed(runs):
            now = time.monotonic()
            pause = _PAUSE if now - self._changed < _QUIET_SECONDS else _LONGEST_PAUSE
            if now >= deadline or self._woken.wait(min(pause, deadline - now)):
                break
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._seen.clear()

    def _has_changed(self, runs: Collection[RunKey]) -> bool:
        with self._connections.read() as connection:
            (count,) = connection.execute(_COUNT).fetchone()
            if count == self._count and all(key in self._seen for key in runs):
                if len(runs) < len(self._seen):
                    self._seen = {key: self._seen[key] for key in runs}
                return False
            # What is written after the count was read is looked at again the next time.
            self._count = count
            stored = self._find(connection, runs)
        found = {key: stored.get(key) for key in runs}
        changed = any(key not in self._seen or self._seen[key] != found[key] for key in found)
        self._seen = found
        if changed:
            self._changed = time.monotonic()
        return changed
