"""Wrappers of asyncio's transports that control when they read, and how much they buffer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

#: How much of a TLS connection is read at once, in bytes. asyncio would reserve 256 KiB for it, and
#: a buffer of OpenSSL that has grown stays as large until the connection ends.
_TLS_READ = 32 * 1024
#: How much is encrypted at once, for the same reason.
_TLS_WRITE = 32 * 1024


def control(transport: asyncio.Transport, resume: Callable[[], object]) -> ControlledTransport:
    """Return *transport* with control. *resume* is called when held reading may go on."""
    if transport.get_extra_info("ssl_object") is None:
        return PlainTransport(transport, resume)
    return TLSTransport(transport, resume)


def _do_nothing() -> None:
    """Take the place of a callback after the end of the connection."""


class ControlledTransport:
    """A transport that is read only if both the WebSocket and its socket class allow it.

    Other attributes are those of the wrapped transport.
    """

    def __init__(self, transport: asyncio.Transport, resume: Callable[[], object]) -> None:
        self._transport = transport
        self._resume = resume
        # What every frame needs is found without __getattr__.
        self.is_closing = transport.is_closing
        self._is_held = False
        #: Whether the WebSocket has paused reading.
        self.is_paused = False
        #: Whether the transport's buffer of data to send is full.
        self.is_full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def flush(self) -> None:
        """Write what had to wait, until the transport is full."""

    def end(self) -> None:
        """Do nothing any more, because the connection has ended."""
        self._resume = _do_nothing

    def pause_reading(self) -> None:
        """Read nothing until :meth:`resume_reading` is called."""
        self.is_paused = True
        if not self._is_held:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, or let the socket class parse what it has."""
        self.is_paused = False
        if self._is_held:
            self._resume()
        else:
            self._transport.resume_reading()

    def hold(self) -> None:
        """Read nothing until :meth:`release` is called."""
        self._is_held = True
        self._transport.pause_reading()

    def release(self) -> None:
        """Read again, unless the WebSocket has paused reading."""
        if self._is_held:
            self._is_held = False
            if not self.is_paused:
                self._transport.resume_reading()


class PlainTransport(ControlledTransport):
    """A transport without TLS."""

    def __init__(self, transport: asyncio.Transport, resume: Callable[[], object]) -> None:
        super().__init__(transport, resume)
        self.write = transport.write


class TLSTransport(ControlledTransport):
    """A transport with TLS, whose buffers stay small."""

    def __init__(self, transport: asyncio.Transport, resume: Callable[[], object]) -> None:
        super().__init__(transport, resume)
        self._waiting: deque[memoryview] = deque()
        _shrink(transport)

    def write(self, data: bytes) -> None:
        """Write *data* in pieces, now or when the transport is no longer full."""
        self._waiting.append(memoryview(data))
        self.flush()

    def flush(self) -> None:
        """Write what had to wait, until the transport is full."""
        while self._waiting and not self.is_full:
            data = self._waiting.popleft()
            if len(data) > _TLS_WRITE:
                self._waiting.appendleft(data[_TLS_WRITE:])
            self._transport.write(data[:_TLS_WRITE])

    def close(self) -> None:
        """Close the transport after everything was written."""
        self._transport.writelines(self._waiting)
        self._waiting.clear()
        self._transport.close()

    def abort(self) -> None:
        """Close the transport at once."""
        self._waiting.clear()
        self._transport.abort()

    def end(self) -> None:
        """Do nothing any more, because the connection has ended."""
        super().end()
        self._waiting.clear()


def _shrink(transport: asyncio.Transport) -> None:
    # There is no public way to say how large the buffer is. Without it, all works as well.
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if hasattr(protocol, "max_size") and hasattr(protocol, "_ssl_buffer_view"):
        protocol.max_size = _TLS_READ
        protocol._ssl_buffer = bytearray(_TLS_READ)
        protocol._ssl_buffer_view = memoryview(protocol._ssl_buffer)
