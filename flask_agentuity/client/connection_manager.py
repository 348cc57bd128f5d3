"""Makes connections, decides about their requests, and handles their loss."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Mapping
from functools import partial
from typing import assert_never

from ..errors import ServiceUnavailable, StoreError
from . import frames
from .attempt import AttemptFailure
from .callbacks import CallbackRunner
from .channel import Channel
from .connectivity import Connectivity, State
from .connector import Connector
from .lifecycle import Lifecycle, Stage, closed_error
from .link import Answered, Authorized, ConnectionLost
from .outbox import Outbox
from .poller import Poller
from .report import Count, LossReason, OutageLog, Report
from .settings import ClientSettings

logger = logging.getLogger("flask_agentuity.client")


class ConnectionManager:
    """Has at most one connection or one attempt at a time. For the I/O thread only.

    A method that finds that the connection is over raises :exc:`.ConnectionLost`. The caller
    then calls :meth:`lose`.
    """

    def __init__(
        self,
        settings: ClientSettings,
        lifecycle: Lifecycle,
        connectivity: Connectivity,
        outbox: Outbox,
        report: Report,
        poller: Poller,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._connectivity = connectivity
        self._outbox = outbox
        self._report = report
        self._poller = poller
        self._outage_log = OutageLog()
        self._callbacks = CallbackRunner()
        self._connector = Connector(settings, poller.wake)
        self._channel: Channel | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, authorized or not."""
        return self._channel is not None

    def has_work(self) -> bool:
        """Return whether something can be done without waiting."""
        if self._connector.has_outcome:
            return True
        channel, waiting = self._channel, self._outbox.waiting
        if channel is None:
            return bool(waiting) and self._connectivity.status.state is State.IDLE
        if channel.transport.more:
            return True
        return bool(waiting) and channel.idle and self._features is not None

    def can_leave(self) -> bool:
        """Return whether :meth:`leave` can send a close frame at once."""
        channel = self._channel
        return channel is None or (channel.idle and self._connectivity.state is State.READY)

    def due(self) -> float:
        """Return when :meth:`check_timers` may next have something to do."""
        due = self._channel.link.due if self._channel is not None else math.inf
        status, waiting = self._connectivity.status, self._outbox.waiting
        if status.state is not State.READY:
            due = min(due, status.due(waiting=bool(waiting)))
        return min(due, self._outbox.due) if waiting else due

    def receive(self, readable: bool, now: float) -> None:
        """Take the outcome of an attempt, and what the service sent.

        :raises ConnectionLost: if the connection or the attempt is over.
        """
        if self._connector.has_outcome:
            self._take_outcome(now)
        channel = self._channel
        if channel is not None and (readable or channel.transport.more):
            for event in channel.read(now):
                self._handle(event, now)

    def send(self, now: float) -> None:
        """Send as many requests as the socket accepts.

        :raises ConnectionLost: if the connection is over.
        """
        channel = self._channel
        if channel is not None and (self._outbox.waiting or not channel.idle):
            channel.write(self._outbox, self._features, now)

    def check_timers(self, now: float) -> None:
        """Expire requests and attempts, send pings, and begin an attempt if one is due.

        :raises ConnectionLost: if the connection or the attempt is over.
        """
        self._outbox.expire(now)
        self._expire_attempt(now)
        if self._channel is not None:
            self._expire_sent(self._channel, now)
            if self._connectivity.state is State.READY:
                self._channel.link.beat(now)
        if self._outbox.waiting and self._connectivity.status.refusal(now) is not None:
            self._outbox.fail_waiting(self._connectivity.status, now)
        self._connect_if_due(now)

    def lose(self, lost: ConnectionLost, now: float) -> None:
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
            outbox.fail_waiting(connectivity.status, now)
        if was_ready:
            self._tell_disconnected(lost.error)

    def leave(self, now: float) -> None:
        """Send a close frame if there is an authorized connection.

        :raises ConnectionLost: if the connection is over.
        """
        channel = self._channel
        if channel is None or self._connectivity.state is not State.READY:
            return
        channel.link.control.append(frames.close_frame(frames.NORMAL))
        self._lifecycle.leave(now)
        channel.write(self._outbox, None, now)

    def end(self, now: float) -> None:
        """Close everything and finish all requests."""
        was_ready = self._connectivity.state is State.READY
        self._connector.abandon()
        waiting = self._outbox.close()
        channel, self._channel = self._channel, None
        sent = channel.end(None, now) if channel is not None else []
        for request in [*sent, *waiting]:
            self._outbox.finish(request, request.unanswered("the client was closed."))
        if was_ready:
            self._tell_disconnected(closed_error())
        self._callbacks.close()

    def abandon_copies(self) -> None:
        """Close a forked child's copies of the sockets, without affecting the parent's."""
        self._connector.abandon_copies()
        if self._channel is not None:
            self._channel.close_copy()

    @property
    def _features(self) -> Mapping[str, int] | None:
        """The features of the service if requests can be sent now."""
        status = self._connectivity.status
        if status.state is State.READY and self._lifecycle.stage is not Stage.LEAVING:
            return status.features
        return None

    def _connect_if_due(self, now: float) -> None:
        status, outbox = self._connectivity.status, self._outbox
        due = (status.state is State.BACKOFF and now >= status.until) or (
            status.state is State.IDLE and outbox.waiting
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

    def _handle(self, event: Authorized | Answered, now: float) -> None:
        match event:
            case Answered(request, reply):
                self._outbox.answer(request, reply)
            case Authorized(features):
                self._report.connections += 1
                self._connectivity.authorized(now, features)
                logger.info("Connected to %s.", self._settings.address.shown)
                if self._settings.on_connected is not None:
                    self._callbacks.submit(self._settings.on_connected)
            case _:
                assert_never(event)

    def _expire_attempt(self, now: float) -> None:
        status = self._connectivity.status
        if status.state in (State.CONNECTING, State.AUTHORIZING) and now >= status.until:
            seconds = self._settings.connect_timeout
            where = self._settings.address.shown
            error = ServiceUnavailable(f"{where} did not accept the client within {seconds:g} s.")
            raise ConnectionLost(error, LossReason.ATTEMPT_EXPIRED)

    def _expire_sent(self, channel: Channel, now: float) -> None:
        link, silent = channel.link, False
        for request in link.expire(now):
            self._report.count(Count.TIMEOUTS)
            self._outbox.timed_out(now)
            silent = silent or link.is_silent_since(request)
            where = self._settings.address.shown
            reason = f"{where} did not reply within the request timeout."
            self._outbox.finish(request, request.unanswered(reason))
        if silent:
            raise link.lost("it was silent while a request awaited its reply", LossReason.SILENT)

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
