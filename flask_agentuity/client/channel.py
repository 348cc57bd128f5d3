"""A link together with the socket that it runs over."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping

from . import frames
from .frames import FrameError
from .link import Event, Link
from .outbox import Outbox
from .poller import Poller
from .report import LossReason, Report, Traffic
from .request import PendingRequest
from .settings import ClientSettings
from .transport import WRITE_BYTES, Transport, TransportError


class Channel:
    """One open connection. Every method but the properties is for the I/O thread only."""

    def __init__(
        self,
        opened: socket.socket,
        settings: ClientSettings,
        report: Report,
        poller: Poller,
        now: float,
    ) -> None:
        self.link = Link(settings, report, now)
        self.transport = Transport(opened, settings.max_frame_bytes)
        self._where = settings.address.shown
        self._report = report
        self._poller = poller
        self._watching_output = False
        poller.add(opened)
        report.connected(self._traffic)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self.transport.writing and not self.link.control

    def read(self, now: float) -> Iterator[Event]:
        """Read what has arrived, and yield what happened.

        :raises ConnectionLost: if the connection is over.
        """
        transport, link = self.transport, self.link
        before = transport.bytes_in
        try:
            messages = transport.receive()
        except TransportError as error:
            raise link.lost(str(error), LossReason.BROKEN) from None
        except FrameError as error:
            farewell = frames.close_frame(error.code)
            raise link.lost(f"it sent {error}", LossReason.PROTOCOL_ERROR, farewell) from None
        if transport.bytes_in != before:
            link.hear(now)
        for message in messages:
            event = link.take(message, now)
            if event is not None:
                yield event

    def write(self, outbox: Outbox, features: Mapping[str, int] | None, now: float) -> None:
        """Write as much as the socket accepts: control frames first, then requests.

        *features* are those of the service, None while it has not accepted the key.

        :raises ConnectionLost: if the connection is broken.
        """
        try:
            blocked = self._write(outbox, features, now)
        except TransportError as error:
            raise self.link.lost(str(error), LossReason.BROKEN) from None
        if blocked != self._watching_output:
            self._watching_output = blocked
            self._poller.watch_output(self.transport.socket, blocked)

    def _write(self, outbox: Outbox, features: Mapping[str, int] | None, now: float) -> bool:
        transport, control = self.transport, self.link.control
        while transport.flush(now):
            if control:
                transport.begin(control.popleft())
            elif features is None or not outbox.waiting:
                return False
            elif batch := self._next_batch(outbox, features):
                self.link.expect(batch, now)
                transport.begin_requests(batch)
        return True

    def _next_batch(self, outbox: Outbox, features: Mapping[str, int]) -> list[PendingRequest]:
        batch: list[PendingRequest] = []
        while not batch and (taken := outbox.take(WRITE_BYTES)):
            for request in taken:
                if not request.frame:
                    outbox.end_trial(request)
                    outbox.finish(request, None, features)
                elif not request.is_supported(features):
                    outbox.end_trial(request)
                    outbox.finish(request, request.unsupported(self._where))
                else:
                    batch.append(request)
        return batch

    def end(self, farewell: bytes | None, now: float) -> list[PendingRequest]:
        """Close the connection. Return the requests that have no reply.

        *farewell* is sent if the socket accepts it at once.
        """
        transport = self.transport
        if farewell is not None:
            with contextlib.suppress(TransportError):
                if transport.flush(now):
                    transport.begin(farewell)
                    transport.flush(now)
        self._poller.remove(transport.socket)
        transport.close()
        self._report.disconnected()
        return self.link.replies.give_up_all()

    def _traffic(self) -> Traffic:
        transport, replies = self.transport, self.link.replies
        return Traffic(
            transport.bytes_in,
            transport.bytes_out,
            replies.unknown,
            replies.duplicate,
            replies.late,
        )

    def close_copy(self) -> None:
        """Close a forked child's copy of the socket, without affecting the parent's."""
        self.transport.socket.close()
