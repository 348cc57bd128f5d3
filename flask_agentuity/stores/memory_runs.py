"""Runs in this process's memory: for threads in memory, and for stores that keep no runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..per_process import PerProcess
from .runs import (
    ABANDONED_SECONDS,
    Addition,
    NewRun,
    RunKey,
    RunStore,
    RunWatch,
    StoredRun,
)


@dataclass(slots=True)
class _Log:
    """A run and its log. ``expires`` is in seconds since 1970."""

    run: StoredRun
    keep: float
    expires: float
    data: bytearray = field(default_factory=bytearray)


class _Runs:
    """The runs of one process. ``changed`` guards them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        #: By thread and by run, in the order in which they began.
        self.threads: dict[str, dict[str, _Log]] = {}
        #: Counts the changes of each run; those of runs that were removed stay with their watches.
        self.changes: dict[RunKey, int] = {}

    def find(self, key: RunKey) -> _Log | None:
        self._remove_expired(key.thread_id)
        return self.threads.get(key.thread_id, {}).get(key.run_id)

    def of_thread(self, thread_id: str) -> list[_Log]:
        self._remove_expired(thread_id)
        return list(self.threads.get(thread_id, {}).values())

    def change(self, log: _Log, run: StoredRun) -> None:
        log.run = run
        log.expires = time.time() + (ABANDONED_SECONDS if run.is_running else log.keep)
        self._note(run.key)

    def remove(self, key: RunKey) -> None:
        logs = self.threads[key.thread_id]
        del logs[key.run_id]
        if not logs:
            del self.threads[key.thread_id]
        self._note(key)
        del self.changes[key]

    def remove_all_expired(self) -> None:
        for thread_id in list(self.threads):
            self._remove_expired(thread_id)

    def _remove_expired(self, thread_id: str) -> None:
        now = time.time()
        for log in list(self.threads.get(thread_id, {}).values()):
            if log.expires <= now:
                self.remove(log.run.key)

    def _note(self, key: RunKey) -> None:
        self.changes[key] = self.changes.get(key, 0) + 1
        self.changed.notify_all()


class MemoryRuns(RunStore):
    """Keeps runs in a dictionary. They end with the process, and no other process sees them."""

    def __init__(self) -> None:
        self._runs = PerProcess(_Runs)

    def begin(self, new: NewRun) -> None:
        runs = self._runs.get()
        with runs.changed:
            runs.remove_all_expired()
            if runs.find(new.key) is not None:
                return
            for log in runs.of_thread(new.key.thread_id):
                if log.run.is_running:
                    runs.change(log, replace(log.run, status="interrupted"))
            run = StoredRun(new.key, new.format, new.holder, new.started)
            log = _Log(run, new.keep, 0.0)
            runs.threads.setdefault(new.key.thread_id, {})[new.key.run_id] = log
            runs.change(log, run)

    def append(self, additions: Sequence[Addition]) -> Collection[RunKey]:
        runs = self._runs.get()
        with runs.changed:
            return [each.key for each in additions if not _append(runs, each)]

    def interrupt(self, key: RunKey) -> bool:
        runs = self._runs.get()
        with runs.changed:
            log = runs.find(key)
            if log is None or not log.run.is_running:
                return False
            runs.change(log, replace(log.run, status="interrupted"))
            return True

    def stop(self, key: RunKey) -> bool:
        runs = self._runs.get()
        with runs.changed:
            log = runs.find(key)
            if log is None or not log.run.is_running:
                return False
            runs.change(log, replace(log.run, stopping=True))
            return True

    def look(self, keys: Collection[RunKey]) -> Mapping[RunKey, StoredRun]:
        runs = self._runs.get()
        with runs.changed:
            return {key: log.run for key in keys if (log := runs.find(key)) is not None}

    def latest(self, thread_id: str) -> StoredRun | None:
        runs = self._runs.get()
        with runs.changed:
            logs = runs.of_thread(thread_id)
            return logs[-1].run if logs else None

    def read(self, key: RunKey, after: int = 0, limit: int | None = None) -> bytes:
        runs = self._runs.get()
        with runs.changed:
            log = runs.find(key)
            if log is None:
                return b""
            end = len(log.data) if limit is None else after + limit
            return bytes(memoryview(log.data)[after:end])

    def delete(self, thread_id: str) -> None:
        runs = self._runs.get()
        with runs.changed:
            for log in runs.of_thread(thread_id):
                runs.remove(log.run.key)

    def watch(self) -> RunWatch:
        return _MemoryWatch(self._runs.get())


def _append(runs: _Runs, addition: Addition) -> bool:
    log = runs.find(addition.key)
    if log is None:
        return False
    run, end = log.run, addition.at + len(addition.data)
    if not run.is_running:
        # The same addition is repeated because its outcome was not known.
        return run.status == addition.status and run.length == end
    if addition.at > run.length:
        return False
    log.data += addition.data[run.length - addition.at :]
    runs.change(
        log,
        replace(
            run,
            length=len(log.data),
            status=addition.status or run.status,
            truncated=run.truncated or addition.truncated,
        ),
    )
    return True


class _MemoryWatch(RunWatch):
    def __init__(self, runs: _Runs) -> None:
        self._runs = runs
        self._seen: dict[RunKey, int | None] = {}
        self._woken = False

    def wait(self, runs: Collection[RunKey], seconds: float) -> None:
        with self._runs.changed:
            self._runs.changed.wait_for(lambda: self._woken or self._has_news(runs), seconds)
            self._woken = False
            self._seen = {key: self._runs.changes.get(key) for key in runs}

    def wake(self) -> None:
        with self._runs.changed:
            self._woken = True
            self._runs.changed.notify_all()

    def close(self) -> None:
        self._seen.clear()

    def _has_news(self, runs: Collection[RunKey]) -> bool:
        changes, seen = self._runs.changes, self._seen
        return any(key not in seen or seen[key] != changes.get(key) for key in runs)
