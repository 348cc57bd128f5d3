"""The protocol on one connection, from the open WebSocket to its loss. Sans-I/O.

A link is given the messages that arrive and the time. It returns what happened, and collects the
control frames to send. A lost link is discarded; the next connection has a new one.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from .. import wire
from ..document.foreign_text import printable
from ..errors import AuthenticationFailed, ServiceUnavailable, StoreError
from . import frames
from .frames import Message
from .heartbeat import Beat, Heartbeat
from .report import Count, LossReason, Report
from .request import PendingRequest, Progress
from .settings import ClientSettings

logger = logging.getLogger("flask_agentuity.client")

#: After this many consecutive messages that answer no request the service is considered broken.
MAX_NONSENSE = 1000

#: How many control frames may wait to be sent before pongs replace each other.
MAX_WAITING_PONGS = 4

#: The close code of RFC 6455 that services use for a key that they refuse.
_POLICY_VIOLATION = 1008


class Authorized(NamedTuple):
    """The service accepted the key and announced its features."""

    features: Mapping[str, int]


class Answered(NamedTuple):
    """The reply to a request arrived."""

    request: PendingRequest
    reply: wire.Success | wire.Failure


Event = Authorized | Answered


class ConnectionLost(Exception):
    """The connection, or the attempt to make one, is over.

    ``refused``: an immediate retry cannot help. ``retry_after``: the seconds that the service
    asked to wait. ``farewell``: a frame that still should be sent if that is possible.
    """

    def __init__(
        self,
        error: StoreError,
        reason: LossReason,
        *,
        refused: bool = False,
        retry_after: float | None = None,
        farewell: bytes | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.reason = reason
        self.refused = refused
        self.retry_after = retry_after
        self.farewell = farewell


class Link:
    """One connection: its authorization, pending requests and heartbeat."""

    def __init__(self, settings: ClientSettings, report: Report, now: float) -> None:
        self.replies: wire.PendingReplies[PendingRequest] = wire.PendingReplies()
        #: Whether a request was answered.
        self.answered = False
        self._settings = settings
        self._report = report
        self._protocol = wire.ClientProtocol(settings.max_frame_bytes)
        self._heartbeat = Heartbeat(
            settings.ping_interval, settings.pong_timeout, settings.probe_after, now
        )
        self._ping_sent: float | None = None
        self._nonsense = 0
        #: When the timers may next have something to do: never too late, sometimes too early.
        self.due = math.inf
        #: Frames to send before any request.
        self.control: deque[bytes] = deque(
            [frames.text_frame(self._protocol.opening(settings.key))]
        )

    @property
    def is_authorized(self) -> bool:
        """Whether the service accepted the key."""
        return self._protocol.phase is wire.Phase.GRANTED

    def hear(self, now: float) -> None:
        """Record that bytes arrived."""
        self._heartbeat.hear(now)

    def take(self, message: Message, now: float) -> Event | None:
        """Process a message.

        :raises ConnectionLost: if the service refuses the key, closes the connection, or sends too
            many invalid messages.
        """
        match message.opcode:
            case frames.TEXT:
                return self._take_text(message.data)
            case frames.PING:
                if len(self.control) >= MAX_WAITING_PONGS:
                    # Only the latest ping needs a pong (RFC 6455, 5.5.3).
                    self.control.pop()
                self.control.append(frames.control_frame(frames.PONG, message.data))
            case frames.PONG:
                self._report.count(Count.PONGS)
                if self._ping_sent is not None:
                    self._report.round_trip = now - self._ping_sent
                    self._ping_sent = None
            case frames.CLOSE:
                raise self._closed_by_service(message.data)
            case _:
                self._ignore("a binary message")
        return None

    def expect(self, requests: Sequence[PendingRequest], now: float) -> None:
        """Await the replies to *requests*, which are being sent."""
        replies, due = self.replies, self.due
        if not len(replies):
            self._heartbeat.expect(now)
            due = min(due, self._heartbeat.due(pending=True))
        for request in requests:
            replies.add(request.id, request)
            due = min(due, request.deadline)
        self.due = due

    def beat(self, now: float) -> None:
        """Send a ping if one is due. Update :attr:`due`.

        :raises ConnectionLost: if the last one was not answered in time.
        """
        pending = len(self.replies) > 0
        beat = self._heartbeat.beat(now, pending=pending)
        due = self._heartbeat.due(pending=pending)
        self.due = min((request.deadline for request in self.replies), default=due)
        self.due = min(self.due, due)
        match beat:
            case Beat.REST:
                pass
            case Beat.PING:
                self.control.append(frames.control_frame(frames.PING))
                self._ping_sent = now
                self._report.count(Count.PINGS)
            case Beat.LOST:
                silence = now - self._heartbeat.heard
                raise self.lost(f"it was silent for {silence:.1f} s", LossReason.SILENT)
            case _:
                assert_never(beat)

    def expire(self, now: float) -> list[PendingRequest]:
        """Stop awaiting the replies that are overdue. Return their requests."""
        # Not in order: a request that took long to encode is older than those before it.
        expired = [request for request in self.replies if request.deadline <= now]
        for request in expired:
            self.replies.give_up(request.id)
        return expired

    def is_silent_since(self, request: PendingRequest) -> bool:
        """Return whether nothing at all arrived after *request* was sent."""
        return request.progress is Progress.SENT and self._heartbeat.heard < request.sent_at

    def lost(self, how: str, reason: LossReason, farewell: bytes | None = None) -> ConnectionLost:
        """Return the exception that ends this link."""
        where = self._settings.address.shown
        error = ServiceUnavailable(f"The connection to {where} was lost: {how}.")
        return ConnectionLost(error, reason, farewell=farewell)

    def _take_text(self, data: bytes) -> Event | None:
        reply = self._protocol.receive(data)
        match reply:
            case wire.Success() | wire.Failure():
                return self._answer(reply)
            case wire.Granted(features):
                return Authorized(features)
            case wire.Denied(words):
                raise self._refused(self._printable(words))
            case wire.Malformed(reason):
                self._ignore(reason)
                return None
            case _:
                assert_never(reply)

    def _answer(self, reply: wire.Success | wire.Failure) -> Answered | None:
        replies = self.replies
        unknown = replies.unknown
        request = replies.answer(reply.id)
        if request is not None:
            self.answered = True
            self._nonsense = 0
            return Answered(request, reply)
        if replies.unknown != unknown:
            self._count_nonsense()
        logger.debug("Ignored a reply that belongs to no pending request.")
        return None

    def _ignore(self, reason: str) -> None:
        self._report.count(Count.MALFORMED)
        logger.debug("Ignored a message from the service: %s", printable(reason))
        self._count_nonsense()

    def _count_nonsense(self) -> None:
        self._nonsense += 1
        if self._nonsense >= MAX_NONSENSE:
            raise self.lost(
                f"it sent {MAX_NONSENSE:,} consecutive messages that answer no request",
                LossReason.PROTOCOL_ERROR,
                frames.close_frame(frames.PROTOCOL_ERROR),
            )

    def _closed_by_service(self, data: bytes) -> ConnectionLost:
        code, words = frames.close_reason(data)
        how = f"the service closed it with code {code}" if code is not None else "it was closed"
        if words:
            how += f" ({self._printable(words)})"
        farewell = frames.control_frame(frames.CLOSE, data[:2])
        if not self.is_authorized and code == _POLICY_VIOLATION:
            return self._refused(how, farewell)
        return self.lost(how, LossReason.CLOSED, farewell)

    def _refused(self, how: str, farewell: bytes | None = None) -> ConnectionLost:
        error = AuthenticationFailed(f"{self._settings.address.shown} refused the key: {how}")
        return ConnectionLost(error, LossReason.DENIED, refused=True, farewell=farewell)

    def _printable(self, words: str) -> str:
        return printable(words, self._settings.key)
