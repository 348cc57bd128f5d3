"""A WebSocket of the service that counts what arrives, before anything is parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import OPEN

from ..wire.limits import MAX_AUTHORIZATION_BYTES
from .buffers import Held

#: What a client may send before its key was accepted: a handshake, with cookies and headers of
#: proxies, and the first frame.
MAX_UNAUTHORIZED_BYTES = 24 * 1024 + MAX_AUTHORIZATION_BYTES


class ServerSocket(ServerConnection):
    """Takes little from a client until :meth:`authorize` is called, and counts all it takes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Called once if the client sends too much before it was authorized.
        self.on_overrun: Callable[[], object] | None = None
        self.is_overrun = False
        self._left = MAX_UNAUTHORIZED_BYTES
        self._held: Held | None = None
        self._on_lost: Callable[[], object] | None = None
        self._abort_later: asyncio.TimerHandle | None = None
        # It is made when the socket was accepted, before the TLS handshake.
        self._accepted = self.loop.time()

    def authorize(self, held: Held) -> None:
        """Take frames of every size from now on, and count them as *held*."""
        self._held = held

    def seconds_left(self, timeout: float) -> float:
        """Return how much of *timeout* is left since the socket was accepted."""
        return max(0.0, self._accepted + timeout - self.loop.time())

    def send_within(self, seconds: float, on_lost: Callable[[], object]) -> None:
        """Abort the connection unless it has ended in time. Call *on_lost* when it has ended."""
        self._on_lost = on_lost
        self._abort_later = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection has ended."""
        super().connection_lost(exc)
        if self._abort_later is not None:
            self._abort_later.cancel()
        if self._on_lost is not None:
            self._on_lost()

    @property
    def socket_number(self) -> int:
        """The file number of the socket."""
        opened = self.transport.get_extra_info("socket")
        return int(opened.fileno())

    def data_received(self, data: bytes) -> None:
        """Count what arrived, and parse it unless it is too much."""
        if self._held is not None:
            self._held.add(len(data))
        elif self.is_overrun:
            return
        else:
            self._left -= len(data)
            if self._left < 0:
                self._overrun()
                return
        super().data_received(data)

    def _overrun(self) -> None:
        # The rest is read and thrown away, so that the client can read why.
        self.is_overrun = True
        if self.protocol.state is OPEN and self.on_overrun is not None:
            self.on_overrun()
        else:
            self.transport.abort()
