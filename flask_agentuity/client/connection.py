"""One open socket, non-blocking, touched by the I/O thread only."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Sequence

from .frames import FrameError, FrameReader, Message
from .request import Progress, Request

#: How much is asked of the socket at once, and how much is put together for one write.
READ_BYTES = 256 * 1024
WRITE_BYTES = 64 * 1024

#: After this many messages the other work has its turn.
BATCH = 64


class ConnectionLost(Exception):
    """The socket is of no more use."""


class Connection:
    """Messages in and frames out; neither ever waits."""

    def __init__(self, opened: socket.socket, max_message_bytes: int) -> None:
        opened.setblocking(False)
        self.socket = opened
        self.bytes_in = 0
        self.bytes_out = 0
        #: There may be more to read without the socket saying so again.
        self.more = True
        self._failure: Exception | None = None
        self._reader = FrameReader(max_message_bytes)
        self._view = memoryview(bytearray(READ_BYTES))
        # TLS gives out one record at a time, and holds what the selector knows nothing of.
        self._tls = isinstance(opened, ssl.SSLSocket)
        self._control: deque[bytes] = deque()
        # What is being written. It must stay as it is until all of it is gone: TLS wants
        # the same bytes again after it could not write them.
        self._writing = memoryview(b"")
        self._written = 0
        self._ends: deque[tuple[int, Request]] = deque()

    def receive(self) -> list[Message]:
        """Return what has come, at most about :data:`BATCH` messages.

        :raises ConnectionLost: when the socket is closed or broken.
        :raises FrameError: when what came breaks the protocol or a limit.
        """
        messages: list[Message] = []
        self.more = False
        if self._failure is not None:
            raise self._failure
        drained = False
        try:
            while True:
                while (message := self._reader.next()) is not None:
                    messages.append(message)
                    if len(messages) >= BATCH:
                        self.more = True
                        return messages
                if drained or not (count := self._read()):
                    return messages
                self.bytes_in += count
                self._reader.feed(self._view[:count])
                # A short read has emptied the socket; asking again would cost a call to learn it.
                drained = count < READ_BYTES and not self._tls
        except (ConnectionLost, FrameError) as failure:
            if not messages:
                raise
            # What came whole before counts: often it says why the end came.
            self._failure = failure
            self.more = True
            return messages

    def _read(self) -> int:
        try:
            count = self.socket.recv_into(self._view)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise ConnectionLost(_words(error)) from None
        if count == 0:
            raise ConnectionLost("it was closed without a word")
        return count

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._writing and not self._control

    def put_control(self, frame: bytes) -> None:
        """Send a ping, pong or close before the next frame, never inside one."""
        self._control.append(frame)

    def replace_control(self, frame: bytes) -> None:
        """Like :meth:`put_control`, for pongs: old ones need not be sent (RFC 6455, 5.5.3)."""
        if len(self._control) >= 4:
            self._control.pop()
        self._control.append(frame)

    def put(self, requests: Sequence[Request]) -> None:
        """Begin to send the frames of *requests*; only when :attr:`idle`."""
        end = 0
        for request in requests:
            end += len(request.frame)
            self._ends.append((end, request))
            request.progress = Progress.BEGUN
        frames = [request.frame for request in requests]
        self._begin(frames[0] if len(frames) == 1 else b"".join(frames))

    def flush(self, now: float) -> bool:
        """Write as much as the socket takes; return whether all of it is gone.

        :raises ConnectionLost: when the socket is closed or broken.
        """
        while True:
            if not self._writing:
                if not self._control:
                    return True
                self._begin(self._control.popleft())
            piece = self._writing[self._written : self._written + READ_BYTES]
            try:
                count = self.socket.send(piece)
            except (
                BlockingIOError,
                InterruptedError,
                ssl.SSLWantReadError,
                ssl.SSLWantWriteError,
            ):
                return False
            except OSError as error:
                raise ConnectionLost(_words(error)) from None
            self._written += count
            self.bytes_out += count
            while self._ends and self._ends[0][0] <= self._written:
                _, request = self._ends.popleft()
                request.progress = Progress.SENT
                request.sent_at = now
            if self._written == len(self._writing):
                self._writing = memoryview(b"")

    def _begin(self, data: bytes) -> None:
        self._writing = memoryview(data)
        self._written = 0

    def close(self) -> None:
        """Tell the other end at once, whoever else holds the file, and let go of it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def _words(error: OSError) -> str:
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "the other end broke it off"
    if error.errno == errno.ETIMEDOUT:
        return "the other end no longer answers"
    return error.strerror or type(error).__name__
