"""The requests that a client has accepted, until each has its result."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import assert_never

from .. import wire
from ..document.foreign_text import printable
from ..errors import Overloaded, ServiceError, ServiceUnavailable, StoreError
from .circuit import Admission, Circuit
from .connectivity import State, Status
from .lifecycle import closed_error
from .report import Count, Report
from .request import PendingRequest, ServiceRefusal
from .settings import ClientSettings


class Outbox:
    """Accepts requests from all threads, and hands them to the I/O thread in order.

    A request is accepted once and finished once. In between it waits here or was taken by the
    I/O thread. Only :meth:`accept` may be called from any thread; the I/O thread alone removes
    requests and finishes them.
    """

    def __init__(self, settings: ClientSettings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._lock = threading.Lock()
        #: The requests that wait to be taken. The I/O thread may look at them without the
        #: lock, because it alone removes them.
        self.waiting: deque[PendingRequest] = deque()
        self._waiting_bytes = 0
        # Each has one writer, accept() and finish(), so finish() needs no lock.
        self._accepted = 0
        self._finished = 0
        self._circuit = Circuit()
        self._closed = False
        #: When :meth:`expire` may next have something to do: never too late, sometimes too early.
        self.due = math.inf

    @property
    def pending(self) -> int:
        """The number of accepted requests that have no result yet."""
        return self._accepted - self._finished

    @property
    def waiting_bytes(self) -> int:
        """The size of the frames that wait to be taken."""
        return self._waiting_bytes

    @property
    def circuit_is_open(self) -> bool:
        """Whether requests are refused because the service does not answer."""
        return self._circuit.is_open

    def accept(self, request: PendingRequest, status: Status, now: float) -> StoreError | None:
        """Queue *request*, or return the reason why it is refused."""
        with self._lock:
            error = self._refusal(request, status, now)
            if error is None:
                self.waiting.append(request)
                self._waiting_bytes += len(request.frame)
                self._accepted += 1
                self.due = min(self.due, request.deadline)
        return error

    def _refusal(self, request: PendingRequest, status: Status, now: float) -> StoreError | None:
        settings = self._settings
        where = settings.address.shown
        if self._closed:
            return closed_error()
        if (
            self.pending >= settings.max_pending
            or self._waiting_bytes + len(request.frame) > settings.max_queued_bytes
        ):
            self._report.count(Count.OVERLOADED)
            return Overloaded(
                f"{self.pending:,} requests with {self._waiting_bytes:,} unsent bytes are waiting"
                f" for {where} already. Nothing was sent."
            )
        if status.state is not State.READY:
            return None
        if not request.is_supported(status.features):
            return request.unsupported(where)
        admission = self._circuit.admit(now)
        match admission:
            case Admission.NO:
                self._report.count(Count.FAIL_FAST)
                return ServiceUnavailable(
                    f"{where} is connected but does not answer. Nothing was sent; it will be"
                    " tried again soon."
                )
            case Admission.TRIAL:
                request.trial = True
                request.deadline = min(request.deadline, now + settings.trial_timeout)
            case Admission.YES:
                pass
            case _:
                assert_never(admission)
        return None

    def take(self, max_bytes: int) -> list[PendingRequest]:
        """Remove the next requests: at least one if there is one, up to *max_bytes*."""
        taken: list[PendingRequest] = []
        if not self.waiting:
            return taken
        size = 0
        with self._lock:
            waiting = self.waiting
            while waiting and (not taken or size + len(waiting[0].frame) <= max_bytes):
                request = waiting.popleft()
                size += len(request.frame)
                taken.append(request)
            self._waiting_bytes -= size
        return taken

    def expire(self, now: float) -> None:
        """Fail the waiting requests whose time is over."""
        if now < self.due:
            return
        for request in self._take_expired(now):
            self._report.count(Count.TIMEOUTS)
            self.end_trial(request)
            reason = "the request timeout expired before it could be sent."
            self.finish(request, request.unanswered(reason))

    def _take_expired(self, now: float) -> list[PendingRequest]:
        with self._lock:
            # Not in order: a request that took long to encode is older than those before it.
            expired = [request for request in self.waiting if request.deadline <= now]
            for request in expired:
                self.waiting.remove(request)
                self._waiting_bytes -= len(request.frame)
            self.due = min((request.deadline for request in self.waiting), default=math.inf)
        return expired

    def fail_waiting(self, status: Status, now: float) -> None:
        """Fail all waiting requests, because there is no connection to wait for."""
        for request in self._take_all():
            if request.repeated:
                error = request.unanswered(str(status.error))
            else:
                error = status.refusal(now) or closed_error()
            self.end_trial(request)
            self.finish(request, error)

    def _take_all(self) -> list[PendingRequest]:
        with self._lock:
            taken = list(self.waiting)
            self.waiting.clear()
            self._waiting_bytes = 0
        return taken

    def return_lost(
        self, requests: Sequence[PendingRequest], *, may_wait: bool
    ) -> list[PendingRequest]:
        """Queue *requests* of a lost connection again. Return those that must not be repeated."""
        repeated: list[PendingRequest] = []
        failed: list[PendingRequest] = []
        for request in requests:
            self.end_trial(request)
            again = request.connection_lost(may_wait=may_wait)
            (repeated if again else failed).append(request)
            if again and request.repeated:
                self._report.count(Count.REPEATED)
        with self._lock:
            self.waiting.extendleft(reversed(repeated))
            for request in repeated:
                self._waiting_bytes += len(request.frame)
                self.due = min(self.due, request.deadline)
        return failed

    def answer(self, request: PendingRequest, reply: wire.Success | wire.Failure) -> None:
        """Finish *request* with the service's reply."""
        if not self._circuit.is_settled:
            with self._lock:
                self._circuit.answered()
        call = request.call
        match reply:
            case wire.Success():
                try:
                    result = call.convert(reply)
                except ServiceError as error:
                    self.finish(request, error)
                else:
                    self.finish(request, None, result)
            case wire.Failure(_, words, fields):
                words = printable(words, self._settings.key)
                message = f"The service did not {call.action} thread {call.thread_id}: {words}"
                self.finish(request, ServiceRefusal(message, words, fields))
            case _:
                assert_never(reply)

    def timed_out(self, now: float) -> None:
        """Record that the service did not answer a request in time."""
        with self._lock:
            self._circuit.timed_out(now)

    def end_trial(self, request: PendingRequest) -> None:
        """End the trial of *request*, if it is one, without a verdict."""
        if request.trial:
            request.trial = False
            with self._lock:
                self._circuit.trial_lost()

    def finish(
        self, request: PendingRequest, error: StoreError | None, result: object = None
    ) -> None:
        """Give the caller of *request* its result or *error*."""
        self._finished += 1
        self._report.finished(request.call.action, error)
        if error is None:
            request.future.set_result(result)
        else:
            request.future.set_exception(error)

    def close(self) -> list[PendingRequest]:
        """Accept no more requests. Remove and return those that wait."""
        with self._lock:
            self._closed = True
        return self._take_all()
