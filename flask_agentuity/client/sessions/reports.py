"""Sends reports of sessions to the service, from one background thread in each process."""

from __future__ import annotations

import atexit
import enum
import logging
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from ...document.messages import encode_message
from ...errors import StoreError
from ...per_process import PerProcess
from ..http import HTTPEndpoint
from .outcomes import Accepted, Outcome, Repetition, outcome_of_error, outcome_of_reply
from .queue import Report, ReportQueue, Stage

logger = logging.getLogger("flask_agentuity.reports")

PATH = "/session"

#: The maximum number of queued reports.
MAX_REPORTS = 2000
#: The maximum size of the session data in them, in bytes.
MAX_BYTES = 16 * 1024 * 1024
#: Seconds between two checks for reports while there are none.
INTERVAL = 1.0
#: Seconds for sending the queue when the process ends.
CLOSE_TIMEOUT = 2.0
#: Seconds between two warnings about lost reports.
WARNING_INTERVAL = 300.0


class Count(enum.Enum):
    """What is counted; the keys of the statistics."""

    SENT = "sent"
    REPEATED = "repeated"
    FAILED = "failed"
    DROPPED = "dropped"
    #: Ends of sessions whose start was not accepted.
    LEFT_OUT = "left_out"


class SessionReports:
    """Reports sessions to one service. Never waits.

    Reports are sent in order by a thread, which the first report starts. A forked child has its
    own. At the end of the process, the queue is sent for at most two seconds.
    """

    def __init__(
        self,
        endpoint: HTTPEndpoint,
        *,
        max_reports: int = MAX_REPORTS,
        max_bytes: int = MAX_BYTES,
        interval: float = INTERVAL,
        pause: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Send to *endpoint*. Nothing is connected yet.

        :param pause: waits between two attempts, and returns whether to continue.
        """
        self._senders = PerProcess(
            lambda: _Sender(
                endpoint, ReportQueue(max_reports, max_bytes, interval), pause, clock, uniform
            )
        )
        _all_reports.add(self)
        # The app was freed. Its thread ends when it has sent the queue.
        weakref.finalize(self, _close_senders, self._senders).atexit = False

    def start(self, report: Report) -> None:
        """Report that a session has started."""
        sender = self._senders.get()
        if not sender.put(report):
            sender.drop(report)

    def complete(self, report: Report) -> None:
        """Report that the session has ended. It is sent only if its start was accepted."""
        if not report.size:
            report.has_ended = True
            if report.stage is Stage.STARTED:
                # The usual case: the end is sent with the start.
                return
        if report.stage is not Stage.OVER:
            sender = self._senders.get()
            if not sender.end(report):
                sender.drop(report)

    def stats(self) -> dict[str, int]:
        """Return how many reports wait, and counts since the first use in this process."""
        return self._senders.get().stats()

    def flush(self, timeout: float) -> bool:
        """Send the queue now, and wait for that. Return False on timeout."""
        sender = self._senders.made()
        return sender is None or sender.flush(timeout)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send the queue for at most *timeout* seconds. Later reports are dropped."""
        if (sender := self._senders.made()) is not None:
            sender.close(timeout)
            sender.join(timeout)


class _Sender:
    """Sends the reports of one process."""

    def __init__(
        self,
        endpoint: HTTPEndpoint,
        queue: ReportQueue,
        pause: Callable[[float], bool] | None,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._endpoint = endpoint
        self._queue = queue
        self._pause = pause or queue.pause
        self._clock = clock
        self._uniform = uniform
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        #: Adds a report. Returns False if there is no room for it.
        self.put: Callable[[Report], bool] = self._put_first
        #: Notes that a session has ended. Returns False if there is no room for that.
        self.end = queue.end
        self._counts: Counter[Count] = Counter()
        self._warn_of_failures = _Occasionally()
        self._warn_of_drops = _Occasionally()

    def stats(self) -> dict[str, int]:
        with self._lock:
            counts = {each.value: self._counts[each] for each in Count}
        return {"waiting": len(self._queue), **counts}

    def flush(self, timeout: float) -> bool:
        return self._queue.flush(timeout)

    def close(self, timeout: float) -> None:
        self._queue.close(timeout)

    def join(self, timeout: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            # One is still being sent.
            self._abandon(1 if thread.is_alive() else 0)

    def drop(self, report: Report) -> None:
        """Count and log that a report has found no room."""
        report.stage = Stage.OVER
        self._count(Count.DROPPED)
        with self._lock:
            others = self._warn_of_drops.take(self._clock())
        if others is not None:
            logger.warning(
                "A session report was dropped: %d are waiting for %s, which is slow or"
                " unresponsive. (%d more since the last warning)",
                len(self._queue),
                self._endpoint.base,
                others,
            )

    def _put_first(self, report: Report) -> bool:
        if not self._ensure_running():
            return False
        self.put = self._queue.put
        return self._queue.put(report)

    def _ensure_running(self) -> bool:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="flask-agentuity reports", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    # The process has too many threads, or is ending.
                    return False
                self._thread = thread
        return True

    def _run(self) -> None:
        if not self._endpoint.is_private:
            logger.warning(
                "Session reports go to %s without encryption: the key and the reports can be"
                " read on the network. Use https://.",
                self._endpoint.base,
            )
        while (report := self._queue.take()) is not None:
            try:
                self._send(report)
            except Exception:
                self._queue.finish(report)
                logger.exception("A session report failed; continuing with the next one.")
        self._abandon(0)
        self._endpoint.close()

    def _abandon(self, being_sent: int) -> None:
        """Count and log what is left after the time for sending the queue."""
        unsent = self._queue.abandon() + being_sent
        if unsent:
            with self._lock:
                self._counts[Count.DROPPED] += unsent
            logger.warning(
                "At the end of the process, %d session reports could not be sent in time to %s,"
                " which is slow or unresponsive.",
                unsent,
                self._endpoint.base,
            )

    def _send(self, report: Report) -> None:
        match report.stage:
            case Stage.STARTED:
                self._send_start(report)
            case Stage.ENDED:
                self._send_end(report)
            case Stage.ACCEPTED | Stage.OVER:
                # Such a report is in no queue.
                return
            case _:
                assert_never(report.stage)

    def _send_start(self, report: Report) -> None:
        message = report.compose_start()
        if message is not None and self._deliver("POST", message):
            if self._queue.accept_start(report):
                self._send_end(report)
            return
        if message is not None and report.has_ended:
            self._count(Count.LEFT_OUT)
        self._queue.finish(report)

    def _send_end(self, report: Report) -> None:
        self._deliver("PUT", report.compose_end())
        self._queue.finish(report)

    def _deliver(self, method: str, message: Mapping[str, Any]) -> bool:
        """Send a message until it is accepted or given up. Return whether it was accepted."""
        body = encode_message(message)
        repetition = Repetition(self._uniform)
        while True:
            outcome = self._attempt(method, body)
            if isinstance(outcome, Accepted):
                self._count(Count.SENT)
                return True
            delay = repetition.delay(outcome, self._clock())
            if delay is None or not self._pause(delay):
                self._fail(outcome.reason)
                return False
            self._count(Count.REPEATED)

    def _attempt(self, method: str, body: bytes) -> Outcome:
        try:
            reply = self._endpoint.call(method, PATH, body)
        except StoreError as error:
            return outcome_of_error(error)
        return outcome_of_reply(reply, time.time())

    def _count(self, what: Count) -> None:
        with self._lock:
            self._counts[what] += 1

    def _fail(self, reason: str) -> None:
        self._count(Count.FAILED)
        if (others := self._warn_of_failures.take(self._clock())) is not None:
            logger.warning(
                "A session report was not accepted by %s: %s Check AGENTUITY_SDK_KEY,"
                " AGENTUITY_CLOUD_ORG_ID, AGENTUITY_CLOUD_PROJECT_ID and AGENTUITY_CATALYST_URL,"
                " or set AGENTUITY_SESSION_REPORTS to off. (%d more since the last warning)",
                self._endpoint.base,
                reason,
                others,
            )


class _Occasionally:
    """Limits how often a frequent warning is logged."""

    def __init__(self) -> None:
        self._due = float("-inf")
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """Return how many warnings were left out, or None to leave out this one."""
        if now < self._due:
            self._left_out += 1
            return None
        self._due = now + WARNING_INTERVAL
        left_out, self._left_out = self._left_out, 0
        return left_out


def _close_senders(senders: PerProcess[_Sender]) -> None:
    if (sender := senders.made()) is not None:
        sender.close(CLOSE_TIMEOUT)


_all_reports: weakref.WeakSet[SessionReports] = weakref.WeakSet()


def _at_exit() -> None:
    senders = [sender for each in list(_all_reports) if (sender := each._senders.made())]
    for sender in senders:
        sender.close(CLOSE_TIMEOUT)
    # This is the time for all of them together.
    ends = time.monotonic() + CLOSE_TIMEOUT
    for sender in senders:
        sender.join(max(0.0, ends - time.monotonic()))


atexit.register(_at_exit)
