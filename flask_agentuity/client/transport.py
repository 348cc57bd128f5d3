"""Messages from and frames to one open socket, without ever blocking."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Sequence

from .frames import FrameError, FrameReader, Message
from .request import PendingRequest

#: How many bytes are read at once, and how many are joined for one write.
READ_BYTES = 256 * 1024
WRITE_BYTES = 64 * 1024

#: The number of messages after which the loop attends to its other work.
BATCH = 64

_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TransportError(Exception):
    """The socket is closed or broken."""


class Transport:
    """A non-blocking socket, used by the I/O thread only."""

    def __init__(self, opened: socket.socket, max_message_bytes: int) -> None:
        opened.setblocking(False)
        self.socket = opened
        self.bytes_in = 0
        self.bytes_out = 0
        #: There may be more to read although the selector does not report it.
        self.more = True
        self._failure: Exception | None = None
        self._reader = FrameReader(max_message_bytes)
        self._view = memoryview(bytearray(READ_BYTES))
        # TLS returns one record at a time, and buffers data that the selector does not see.
        self._tls = isinstance(opened, ssl.SSLSocket)
        #: What is being written, empty when idle. TLS requires the same bytes again after a
        #: write that would have blocked, so they stay unchanged until all are written.
        self.writing = memoryview(b"")
        self._written = 0
        self._ends: deque[tuple[int, PendingRequest]] = deque()

    def receive(self) -> list[Message]:
        """Return the messages that have arrived, at most about :data:`BATCH`.

        :raises TransportError: if the socket is closed or broken.
        :raises FrameError: if the data violates the protocol or a limit.
        """
        messages: list[Message] = []
        self.more = False
        if self._failure is not None:
            raise self._failure
        try:
            self._receive_into(messages)
        except (TransportError, FrameError) as failure:
            if not messages:
                raise
            # Complete messages count: the last one often gives the reason for the end.
            self._failure = failure
            self.more = True
        return messages

    def _receive_into(self, messages: list[Message]) -> None:
        drained = False
        while True:
            while (message := self._reader.next()) is not None:
                messages.append(message)
                if len(messages) >= BATCH:
                    self.more = True
                    return
            if drained or not (count := self._read()):
                return
            self.bytes_in += count
            self._reader.feed(self._view[:count])
            # A short read has emptied the socket, so another call is not needed to learn it.
            drained = count < READ_BYTES and not self._tls

    def _read(self) -> int:
        try:
            count = self.socket.recv_into(self._view)
        except _WOULD_BLOCK:
            return 0
        except OSError as error:
            raise TransportError(_reason(error)) from None
        if count == 0:
            raise TransportError("it was closed without a close frame")
        return count

    def begin(self, data: bytes) -> None:
        """Begin to write one frame. The transport must be idle."""
        self.writing = memoryview(data)
        self._written = 0

    def begin_requests(self, requests: Sequence[PendingRequest]) -> None:
        """Begin to write the frames of *requests*. The transport must be idle."""
        end = 0
        for request in requests:
            end += len(request.frame)
            self._ends.append((end, request))
            request.begin()
        frames = [request.frame for request in requests]
        self.begin(frames[0] if len(frames) == 1 else b"".join(frames))

    def flush(self, now: float) -> bool:
        """Write as much as the socket accepts. Return whether everything was written.

        :raises TransportError: if the socket is closed or broken.
        """
        while self.writing:
            piece = self.writing[self._written : self._written + READ_BYTES]
            try:
                count = self.socket.send(piece)
            except _WOULD_BLOCK:
                return False
            except OSError as error:
                raise TransportError(_reason(error)) from None
            self._written += count
            self.bytes_out += count
            while self._ends and self._ends[0][0] <= self._written:
                self._ends.popleft()[1].sent(now)
            if self._written == len(self.writing):
                self.writing = memoryview(b"")
        return True

    def close(self) -> None:
        """Close the connection at once, also if a forked child has a copy of the socket."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def _reason(error: OSError) -> str:
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "the other end reset it"
    if error.errno == errno.ETIMEDOUT:
        return "the other end stopped responding"
    return error.strerror or type(error).__name__
