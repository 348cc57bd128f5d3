"""The I/O thread: it owns the connection and sends what callers submit.

A loop belongs to one process. After a fork the child abandons it and makes a new one.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, assert_never

from .. import wire
from ..errors import ServiceError, ServiceUnavailable, StoreError
from . import frames
from .address import connection_warnings
from .attempt import AttemptFailure
from .callbacks import CallbackRunner
from .channel import Channel
from .connectivity import Connectivity, State
from .connector import Connector
from .foreign_text import printable
from .lifecycle import CLOSE_TIMEOUT, Lifecycle, Stage, closed_error
from .link import Answered, Authorized, ConnectionLost
from .outbox import Outbox
from .poller import Poller
from .report import Count, LossReason, OutageLog, Report
from .request import PendingRequest, ServiceRefusal
from .settings import ClientSettings

logger = logging.getLogger("flask_agentuity.client")

#: Seconds after which the timers are checked, however busy the connection is.
TIMER_INTERVAL = 0.05

clock = time.monotonic


class Loop:
    """Connects, sends and receives in one thread, until the client is closed.

    Only :meth:`wake` may be called from other threads, except where a method says otherwise.
    """

    def __init__(
        self,
        settings: ClientSettings,
        owner: weakref.ref[Any],
        lifecycle: Lifecycle,
        connectivity: Connectivity,
        outbox: Outbox,
        report: Report,
    ) -> None:
        """Close by itself when *owner* is no longer referenced.

        :raises OSError: if the process has too many open files.
        """
        #: Set at the very end.
        self.ended = threading.Event()
        self._settings = settings
        self._owner = owner
        self._lifecycle = lifecycle
        self._connectivity = connectivity
        self._outbox = outbox
        self._report = report
        self._outage_log = OutageLog()
        self._callbacks = CallbackRunner()
        self._poller = Poller()
        self._connector = Connector(settings, self._poller.wake)
        self._channel: Channel | None = None
        self._timers_due = 0.0

    def wake(self) -> None:
        """Make the loop look for new work. Any thread may call this."""
        self._poller.wake()

    def run(self) -> None:
        """Run until the client is closed."""
        for warning in connection_warnings(os.environ, self._settings.address):
            logger.warning("%s", warning)
        while True:
            try:
                if not self.run_once():
                    break
            except Exception:
                logger.exception("The I/O thread of the thread client failed; reconnecting.")
                self._report.count(Count.IO_CRASHES)
                error = ServiceUnavailable("Internal error in the thread client.")
                self._lose(ConnectionLost(error, LossReason.CRASH), clock())
                # An exception in every iteration must not occupy a core.
                time.sleep(TIMER_INTERVAL)
        self.end()

    def run_once(self) -> bool:
        """Wait for work and do it. Return False when the client is to be closed."""
        readable = self._poller.wait(self._timeout)
        now = clock()
        try:
            if self._connector.has_outcome:
                self._take_outcome(now)
            channel = self._channel
            if channel is not None and (readable or channel.more):
                for event in channel.read(now):
                    self._handle(event, now)
            self._check_timers(now)
            if self._channel is not None:
                self._channel.write(self._outbox, self._features, now)
        except ConnectionLost as lost:
            self._lose(lost, now)
        return not self._is_over(now)

    def end(self) -> None:
        """Close everything and finish all requests.

        The client calls this if the thread does not run.
        """
        now = clock()
        was_ready = self._connectivity.state is State.READY
        self._lifecycle.end()
        self._connector.abandon()
        waiting = self._outbox.close()
        channel, self._channel = self._channel, None
        sent = channel.end(None, now) if channel is not None else []
        for request in [*sent, *waiting]:
            self._outbox.finish(request, request.unanswered("the client was closed."))
        self._poller.close()
        if was_ready:
            self._tell_disconnected(closed_error())
        self._callbacks.close()
        self.ended.set()

    def abandon_copies(self) -> None:
        """Close a forked child's copies of the files, without affecting the parent's.

        Takes no lock: a thread of the parent may have held it during the fork.
        """
        self._connector.abandon_copies()
        if self._channel is not None:
            self._channel.close_copy()
        self._poller.close_copies()

    # Waiting.

    def _timeout(self) -> float:
        if self._has_work():
            return 0.0
        next_time = min(
            self._connectivity.status.next_time(waiting=self._outbox.has_waiting),
            self._outbox.next_time(),
            self._lifecycle.deadline,
            self._channel.link.next_time() if self._channel is not None else math.inf,
        )
        now = clock()
        if math.isinf(next_time):
            next_time = now + self._settings.ping_interval
        self._timers_due = min(self._timers_due, next_time)
        return max(0.0, next_time - now)

    def _has_work(self) -> bool:
        if self._connector.has_outcome:
            return True
        state, channel = self._connectivity.state, self._channel
        stage, outbox = self._lifecycle.stage, self._outbox
        if channel is None:
            if stage is not Stage.OPEN and not outbox.pending:
                return True
            return state is State.IDLE and outbox.has_waiting
        if channel.more:
            return True
        if state is not State.READY or not channel.idle:
            return False
        match stage:
            case Stage.OPEN:
                return outbox.has_waiting
            case Stage.CLOSING:
                return outbox.has_waiting or not outbox.pending
            case Stage.LEAVING | Stage.CLOSED:
                return False
            case _:
                assert_never(stage)

    @property
    def _features(self) -> Mapping[str, int] | None:
        """The features of the service if requests can be sent now."""
        status = self._connectivity.status
        if status.state is State.READY and self._lifecycle.stage is not Stage.LEAVING:
            return status.features
        return None

    # Connecting.

    def _connect_if_due(self, now: float) -> None:
        status, outbox = self._connectivity.status, self._outbox
        due = (status.state is State.BACKOFF and now >= status.until) or (
            status.state is State.IDLE and outbox.has_waiting
        )
        if not due or (self._lifecycle.stage is not Stage.OPEN and not outbox.pending):
            return
        if not self._connector.may_begin():
            self._connectivity.postpone(now)
            return
        self._report.count(Count.DIALS)
        self._connectivity.connect(now)
        try:
            self._connector.begin()
        except RuntimeError as error:
            failure = ServiceUnavailable(f"No thread could be started to connect: {error}")
            raise ConnectionLost(failure, LossReason.ATTEMPT_FAILED) from None

    def _take_outcome(self, now: float) -> None:
        outcome = self._connector.take()
        match outcome:
            case None:
                pass
            case AttemptFailure(error, refused, retry_after):
                raise ConnectionLost(
                    error, LossReason.ATTEMPT_FAILED, refused=refused, retry_after=retry_after
                )
            case socket.socket():
                self._channel = Channel(outcome, self._settings, self._report, self._poller, now)
                self._connectivity.connected()
            case _:
                assert_never(outcome)

    # What arrives.

    def _handle(self, event: Authorized | Answered, now: float) -> None:
        match event:
            case Answered(request, reply):
                self._outbox.answered()
                self._answer(request, reply)
            case Authorized(features):
                self._report.connections += 1
                self._connectivity.authorized(now, features)
                logger.info("Connected to %s.", self._settings.address.shown)
                if self._settings.on_connected is not None:
                    self._callbacks.submit(self._settings.on_connected)
            case _:
                assert_never(event)

    def _answer(self, request: PendingRequest, reply: wire.Success | wire.Failure) -> None:
        call = request.call
        match reply:
            case wire.Success():
                try:
                    result = call.convert(reply)
                except ServiceError as error:
                    self._outbox.finish(request, error)
                else:
                    self._outbox.finish(request, None, result)
            case wire.Failure(_, words, fields):
                words = printable(words, self._settings.key)
                message = f"The service did not {call.action} thread {call.thread_id}: {words}"
                self._outbox.finish(request, ServiceRefusal(message, words, fields))
            case _:
                assert_never(reply)

    # Timers.

    def _check_timers(self, now: float) -> None:
        if now < self._timers_due and self._connectivity.state is State.READY:
            return
        self._timers_due = now + TIMER_INTERVAL
        if self._owner() is None:
            self._lifecycle.close(now, 0.0, CLOSE_TIMEOUT)
        self._expire_waiting(now)
        self._expire_attempt(now)
        if self._channel is not None:
            self._expire_sent(self._channel, now)
            if self._connectivity.state is State.READY:
                self._channel.link.beat(now)
        if self._outbox.has_waiting and self._connectivity.status.refusal(now) is not None:
            self._fail_waiting(now)
        self._connect_if_due(now)

    def _expire_waiting(self, now: float) -> None:
        for request in self._outbox.take_expired(now):
            self._report.count(Count.TIMEOUTS)
            self._outbox.unsent(request)
            reason = "the request timeout expired before it could be sent."
            self._outbox.finish(request, request.unanswered(reason))

    def _expire_attempt(self, now: float) -> None:
        status = self._connectivity.status
        if status.state in (State.CONNECTING, State.AUTHORIZING) and now >= status.until:
            seconds = self._settings.connect_timeout
            where = self._settings.address.shown
            error = ServiceUnavailable(f"{where} did not accept the client within {seconds:g} s.")
            raise ConnectionLost(error, LossReason.ATTEMPT_EXPIRED)

    def _expire_sent(self, channel: Channel, now: float) -> None:
        link, silent = channel.link, False
        for request in link.expire(now, self._outbox.trial):
            self._report.count(Count.TIMEOUTS)
            self._outbox.timed_out(now)
            silent = silent or link.is_silent_since(request)
            where = self._settings.address.shown
            reason = f"{where} did not reply within the request timeout."
            self._outbox.finish(request, request.unanswered(reason))
        if silent:
            raise link.lost("it was silent while a request awaited its reply", LossReason.SILENT)

    # The end of a connection, and of everything.

    def _lose(self, lost: ConnectionLost, now: float) -> None:
        """Discard the connection or the attempt, and decide about its requests."""
        connectivity, outbox = self._connectivity, self._outbox
        was_ready = connectivity.state is State.READY
        self._connector.abandon()
        channel, self._channel = self._channel, None
        sent = channel.end(lost.farewell, now) if channel is not None else []
        self._report.lost(lost.reason)
        connectivity.lost(
            now,
            lost.error,
            refused=lost.refused,
            retry_after=lost.retry_after,
            answered=channel is not None and channel.link.answered,
        )
        is_open = self._lifecycle.stage is Stage.OPEN
        may_wait = is_open and connectivity.status.may_wait(now)
        failed = outbox.return_lost(sent, may_wait=may_wait)
        if is_open:
            self._log_loss(lost, was_ready=was_ready, now=now)
        for request in failed:
            outbox.finish(request, request.unanswered(str(lost.error)))
        if not may_wait:
            self._fail_waiting(now)
        if was_ready:
            self._tell_disconnected(lost.error)

    def _fail_waiting(self, now: float) -> None:
        status = self._connectivity.status
        for request in self._outbox.take_all():
            if request.repeated:
                error = request.unanswered(str(status.error))
            else:
                error = status.refusal(now) or closed_error()
            self._outbox.unsent(request)
            self._outbox.finish(request, error)

    def _log_loss(self, lost: ConnectionLost, *, was_ready: bool, now: float) -> None:
        self._outage_log.log(
            lost.error,
            was_ready=was_ready,
            refused=lost.refused,
            failures=self._connectivity.backoff.failures,
            delay=self._connectivity.status.until - now,
            now=now,
        )

    def _tell_disconnected(self, error: StoreError) -> None:
        if self._settings.on_disconnected is not None:
            self._callbacks.submit(partial(self._settings.on_disconnected, error))

    def _is_over(self, now: float) -> bool:
        lifecycle = self._lifecycle
        stage = lifecycle.stage
        match stage:
            case Stage.OPEN:
                return False
            case Stage.CLOSING:
                if self._outbox.pending and now < lifecycle.deadline:
                    return False
                return not self._leave(now)
            case Stage.LEAVING:
                return self._channel is None or now >= lifecycle.deadline
            case Stage.CLOSED:
                return True
            case _:
                assert_never(stage)

    def _leave(self, now: float) -> bool:
        """Send a close frame. Return whether the other end's is awaited."""
        channel = self._channel
        if channel is None or self._connectivity.state is not State.READY:
            return False
        channel.link.control.append(frames.close_frame(frames.NORMAL))
        self._lifecycle.leave(now)
        try:
            channel.write(self._outbox, None, now)
        except ConnectionLost as lost:
            self._lose(lost, now)
        return self._channel is not None
