"""The queue of a process's reports, bounded in number and size."""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

clock = time.monotonic

#: Returns what a message contains. It is called in the sending thread.
Fields = Callable[[], Mapping[str, Any]]


class Stage(enum.Enum):
    """How far the report of one session has come."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    LOST = "lost"


class Report:
    """The report of one session: a message about its start, and one about its end.

    The second one is sent only if the first was accepted.
    """

    __slots__ = ("end", "size", "stage", "start")

    def __init__(self, start: Fields) -> None:
        self.start = start
        #: Set before the report is put into the queue for the second time.
        self.end: Fields | None = None
        self.stage = Stage.WAITING
        #: How much memory the message about the end takes, in bytes, if that is much.
        self.size = 0


class ReportQueue:
    """Passes reports from all threads of a process to one that sends them.

    A report is put into it for each of its messages.
    """

    def __init__(self, max_reports: int, max_bytes: int, interval: float) -> None:
        """Begin empty.

        :param interval: how often the sending thread checks an empty queue, in seconds. A request
            does not wake it, because it would then compete with the request, unless the queue is
            half full.
        """
        self._max_reports = max_reports
        self._wake_at = max(1, max_reports // 2)
        self._max_bytes = max_bytes
        self._interval = interval
        self._reports: deque[Report] = deque()
        self._bytes = 0
        self._changed = threading.Condition(threading.Lock())
        # When it ends; None while it is open.
        self._ends: float | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._reports)

    def put(self, report: Report) -> bool:
        """Add a report. Return False if there is no room for it, or the queue is closed."""
        reports = self._reports
        waiting = len(reports)
        # Without a lock, so several threads at once may exceed the limit slightly.
        if waiting >= self._max_reports or self._ends is not None:
            return False
        if report.size and not self._reserve(report.size):
            return False
        reports.append(report)
        if waiting + 1 == self._wake_at:
            with self._changed:
                self._changed.notify_all()
        return True

    def take(self) -> Report | None:
        """Wait for a report and return it. Return None when the queue has ended."""
        with self._changed:
            while True:
                if self._ends is not None and (not self._reports or clock() >= self._ends):
                    return None
                if self._reports:
                    report = self._reports.popleft()
                    if report.end is not None:
                        self._bytes -= report.size
                        report.size = 0
                    return report
                self._changed.wait(self._interval)

    def pause(self, seconds: float) -> bool:
        """Wait, unless the queue is closed. Return whether it is still open."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._ends is not None, seconds)

    def close(self, timeout: float) -> None:
        """Accept no more reports. Queued ones can be taken for at most *timeout* seconds."""
        with self._changed:
            if self._ends is None:
                self._ends = clock() + timeout
                self._changed.notify_all()

    def _reserve(self, size: int) -> bool:
        with self._changed:
            if self._bytes + size > self._max_bytes:
                return False
            self._bytes += size
            return True
