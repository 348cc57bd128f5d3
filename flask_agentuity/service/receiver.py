"""Receiving frames, with a timeout, and what has arrived when the service stops."""

from __future__ import annotations

import asyncio

from .server_socket import ServerSocket

#: When the service ends, it still takes what has arrived: until this many seconds of silence, and
#: for at most the second number of seconds.
_QUIET = 0.05
_LONGEST_READING = 1.0


class Overrun(Exception):
    """The client sent more than it may before it was authorized."""


class Receiver:
    """The frames of one connection. Only one task may wait for them."""

    def __init__(self, socket: ServerSocket) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._receiving: asyncio.Timeout | None = None
        # When reading ends at the latest, once the service is ending.
        self._read_until: float | None = None
        socket.on_overrun = self._stop_waiting

    @property
    def is_draining(self) -> bool:
        """Whether the service is ending."""
        return self._read_until is not None

    def drain(self) -> None:
        """From now on, take only what has arrived."""
        self._read_until = self._loop.time() + _LONGEST_READING
        if self._receiving is not None and not self._receiving.expired():
            self._receiving.reschedule(self._loop.time() + _QUIET)

    async def receive(self, patience: float | None) -> bytes:
        """Return the next frame.

        :raises TimeoutError: after *patience* seconds, or if the service ends and nothing arrives
            any more.
        :raises Overrun: if the client sent too much.
        """
        if self._read_until is not None:
            patience = _QUIET if self._loop.time() < self._read_until else 0.0
        try:
            async with asyncio.timeout(patience) as self._receiving:
                # It may have happened before on_overrun was set.
                if self._socket.is_overrun:
                    raise Overrun
                return await self._socket.recv(decode=False)
        except TimeoutError:
            if self._socket.is_overrun:
                raise Overrun from None
            if self._read_until is None:
                raise
            # A frame that arrived at the very moment of the timeout.
            async with asyncio.timeout(0):
                return await self._socket.recv(decode=False)
        finally:
            self._receiving = None

    def _stop_waiting(self) -> None:
        if self._receiving is not None and not self._receiving.expired():
            self._receiving.reschedule(self._loop.time())
