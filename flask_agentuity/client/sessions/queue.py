"""The queue of a process's reports, bounded in number and size."""

from __future__ import annotations

import enum
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any

clock = time.monotonic


class Stage(enum.Enum):
    """How far the report of one session has come."""

    #: The message about the start waits.
    STARTED = "started"
    #: The service has accepted the start; the session has not ended.
    ACCEPTED = "accepted"
    #: The message about the end waits, or was sent.
    ENDED = "ended"
    #: Nothing more is sent of it.
    OVER = "over"


class Report(ABC):
    """The report of one session: a message about its start, and one about its end.

    The second one is sent only if the first was accepted. Both messages are composed in the
    sending thread.
    """

    __slots__ = ("has_ended", "size", "stage")

    def __init__(self) -> None:
        self.stage = Stage.STARTED
        #: Whether the session has ended, so that the second message can be composed.
        self.has_ended = False
        #: How much memory the message about the end takes, in bytes, if that is much.
        self.size = 0

    @abstractmethod
    def compose_start(self) -> Mapping[str, Any] | None:
        """Return the message about the start; None if there is nothing to report."""

    @abstractmethod
    def compose_end(self) -> Mapping[str, Any]:
        """Return the message about the end. It is called after the session has ended."""


class ReportQueue:
    """Passes reports from all threads of a process to one that sends them.

    A report is added once, or a second time if its start was sent before its session
    ended.
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
        # Whether the sending thread waits for reports.
        self._is_idle = True
        # When it ends; None while it is open.
        self._ends: float | None = None

    def __len__(self) -> int:
        """Return how many reports wait."""
        return len(self._reports)

    def put(self, report: Report) -> bool:
        """Add a report. Return False if there is no room for it, or the queue is closed."""
        reports = self._reports
        waiting = len(reports)
        # Without a lock, so several threads at once may exceed the limit slightly.
        if waiting >= self._max_reports or self._ends is not None:
            return False
        reports.append(report)
        if waiting + 1 == self._wake_at:
            with self._changed:
                self._changed.notify_all()
        return True

    def end(self, report: Report) -> bool:
        """Note that the session of *report* has ended. Return False if there is no room for that.

        Usually its start still waits; the end is then sent with it.
        """
        if report.size and not self._reserve(report):
            return False
        report.has_ended = True
        # accept_start() writes the stage first and then looks whether the session has ended, so
        # at least one of the two threads finds that both are so.
        if report.stage is Stage.STARTED:
            return True
        with self._changed:
            if report.stage is Stage.OVER:
                self._release(report)
            if report.stage is not Stage.ACCEPTED:
                return True
            report.stage = Stage.ENDED
        if self.put(report):
            return True
        self.finish(report)
        return False

    def accept_start(self, report: Report) -> bool:
        """Note that the start of *report* was accepted. Return whether to send its end now."""
        with self._changed:
            report.stage = Stage.ACCEPTED
            if report.has_ended:
                report.stage = Stage.ENDED
            return report.has_ended

    def finish(self, report: Report) -> None:
        """Note that nothing more is sent of *report*."""
        with self._changed:
            report.stage = Stage.OVER
            self._release(report)

    def take(self) -> Report | None:
        """Wait for a report and return it. Return None when the queue has ended."""
        with self._changed:
            while True:
                has_ended = self._ends is not None and clock() >= self._ends
                if self._reports and not has_ended:
                    self._is_idle = False
                    return self._reports.popleft()
                self._is_idle = True
                self._changed.notify_all()
                if self._ends is not None:
                    return None
                self._changed.wait(self._interval)

    def flush(self, timeout: float) -> bool:
        """Have the queued reports taken now, and wait until they were sent or given up.

        :returns: False on timeout.
        """
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._is_idle and not self._reports, timeout)

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

    def abandon(self) -> int:
        """Empty the queue, and return how many reports were in it."""
        with self._changed:
            waiting = len(self._reports)
            self._reports.clear()
            return waiting

    def _release(self, report: Report) -> None:
        self._bytes -= report.size
        report.size = 0

    def _reserve(self, report: Report) -> bool:
        with self._changed:
            if self._bytes + report.size > self._max_bytes:
                report.stage, report.size = Stage.OVER, 0
                return False
            self._bytes += report.size
            return True
