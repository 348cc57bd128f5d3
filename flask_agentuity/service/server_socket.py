"""A WebSocket of the service that counts what arrives, before anything is parsed."""

from __future__ import annotations

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
        # It is made when the socket was accepted, before the TLS handshake.
        self._accepted = self.loop.time()

    def authorize(self, held: Held) -> None:
        """Take frames of every size from now on, and count them as *held*."""
        self._held = held

    def seconds_left(self, timeout: float) -> float:
        """Return how much of *timeout* is left since the socket was accepted."""
        return max(0.0, self._accepted + timeout - self.loop.time())

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
