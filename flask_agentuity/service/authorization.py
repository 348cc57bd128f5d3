"""The first frame of a connection: the client's key."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from websockets.frames import CloseCode

from .. import wire
from ..wire import limits
from .addresses import source_of
from .receiver import Overrun, Receiver
from .server_socket import ServerSocket
from .settings import ServiceSettings
from .shared import Shared

logger = logging.getLogger("flask_agentuity.service")

_ENDING = "the service is ending"
#: Seconds in which a client that sent too much can read why.
_TIME_TO_READ = 0.2
_TOO_LARGE = f"The frame is over {limits.MAX_AUTHORIZATION_BYTES:,} bytes."


class Authorization:
    """Receives a client's key and answers it."""

    def __init__(
        self, socket: ServerSocket, receiver: Receiver, settings: ServiceSettings, shared: Shared
    ) -> None:
        self._socket = socket
        self._receiver = receiver
        self._settings = settings
        self._shared = shared
        self._host, port = socket.remote_address[:2]
        self.peer = f"{self._host}:{port}"

    async def run(self, end: wire.ServiceEnd) -> str | None:
        """Return the key, once it was accepted; None if the connection is over.

        :raises ConnectionClosed: if the client has gone.
        """
        decision = await self._decide(end)
        if decision is None:
            return None
        if isinstance(decision, wire.Denied):
            self._shared.logs.denied.warn("%s was not authorized: %s", self.peer, decision.error)
            await self._socket.send(end.answer(decision).decode())
            await self._close(CloseCode.POLICY_VIOLATION, "not authorized")
            return None
        assert end.key is not None
        return end.key

    async def _decide(self, end: wire.ServiceEnd) -> wire.Granted | wire.Denied | None:
        seconds = self._settings.authorization_timeout
        try:
            frame = await self._receiver.receive(self._socket.seconds_left(seconds))
        except TimeoutError:
            if self._receiver.is_draining:
                await self._socket.close(CloseCode.GOING_AWAY, _ENDING)
                return None
            return wire.Denied(f"No authorization came within {seconds:g} seconds.")
        except Overrun:
            self._count_wrong()
            return wire.Denied(_TOO_LARGE)
        if self._must_wait():
            await self._socket.close(
                CloseCode.TRY_AGAIN_LATER, "too many wrong keys came from this address"
            )
            return None
        decision = end.receive(frame)
        if isinstance(decision, wire.Denied):
            self._count_wrong()
        assert isinstance(decision, wire.Granted | wire.Denied)
        return decision

    async def _close(self, code: CloseCode, reason: str) -> None:
        if not self._socket.is_overrun:
            await self._socket.close(code, reason)
            return
        # Everything that the client sends is discarded, also its part of the closing handshake.
        with suppress(TimeoutError):
            async with asyncio.timeout(_TIME_TO_READ):
                await self._socket.close(code, reason)
        self._socket.transport.abort()

    def _must_wait(self) -> bool:
        return self._shared.seconds_to_wait(self._host) > 0

    def _count_wrong(self) -> None:
        if self._host not in self._settings.trusted:
            self._shared.wrong_keys.count(source_of(self._host))
