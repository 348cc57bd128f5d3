"""One client's connection: let in, read, answered in any order, and ended in good order."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from .. import wire
from .answering import answer
from .keys import namespace_of
from .room import Room
from .settings import Settings

logger = logging.getLogger("flask_agentuity.service")

#: Frames longer than this, in characters, are taken apart outside the event loop.
_LONG_FRAME = 64 * 1024

#: When the service ends it still takes what has arrived: until this many seconds of
#: silence, and for so many at most.
_QUIET = 0.05
_LONGEST_READING = 1.0


class Connection:
    """Serves one client until either side ends it."""

    def __init__(
        self, socket: ServerConnection, settings: Settings, pool: ThreadPoolExecutor
    ) -> None:
        """Serve the client at *socket*; the store is used in the threads of *pool*."""
        self._socket = socket
        self._settings = settings
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._end = wire.ServiceEnd(settings.keys.accepts, settings.max_frame_bytes)
        self._room = Room(settings.max_requests, 4 * settings.max_frame_bytes)
        # The newest request for each thread that has one under way.
        self._newest: dict[str, asyncio.Task[None]] = {}
        self._receiving: asyncio.Timeout | None = None
        # When reading ends at the latest, once the service is ending.
        self._read_until: float | None = None
        host, port = socket.remote_address[:2]
        self._peer = f"{host}:{port}"

    async def run(self) -> None:
        """Serve until the client goes, or until :meth:`drain` was called and all is answered."""
        try:
            namespace = await self._authorize()
            if namespace is None:
                return
            async with asyncio.TaskGroup() as requests:
                await self._read(namespace, requests)
            await self._socket.close(CloseCode.GOING_AWAY, "the service is ending")
        except ConnectionClosed:
            pass
        finally:
            logger.info(
                "%s is gone (%s).",
                self._peer,
                self._socket.protocol.close_code or "no closing handshake",
            )

    def drain(self) -> None:
        """Take what has arrived, answer it, and end the connection (1001)."""
        self._read_until = self._loop.time() + _LONGEST_READING
        if self._receiving is not None and not self._receiving.expired():
            self._receiving.reschedule(self._loop.time() + _QUIET)

    def abort(self) -> None:
        """Cut the connection; for one that :meth:`drain` did not end in time."""
        self._socket.transport.abort()

    async def _authorize(self) -> str | None:
        """Let the client in and return its namespace; None when it was sent away."""
        decision: object
        try:
            frame = await self._receive(self._settings.authorization_timeout)
        except TimeoutError:
            if self._read_until is not None:
                await self._socket.close(CloseCode.GOING_AWAY, "the service is ending")
                return None
            seconds = self._settings.authorization_timeout
            decision = wire.Denied(f"No authorization came within {seconds:g} seconds.")
        else:
            decision = self._end.receive(frame)
        if isinstance(decision, wire.Denied):
            logger.warning("%s was not let in: %s", self._peer, decision.error)
            await self._send(self._end.answer(decision))
            await self._socket.close(CloseCode.POLICY_VIOLATION, "not authorized")
            return None
        assert self._end.key is not None
        namespace = await self._loop.run_in_executor(self._pool, namespace_of, self._end.key)
        await self._send(self._end.answer(wire.Granted()))
        logger.info("%s was let in; its threads are those of %s.", self._peer, namespace)
        return namespace

    async def _read(self, namespace: str, requests: asyncio.TaskGroup) -> None:
        while True:
            try:
                frame = await self._receive(None)
            except (TimeoutError, ConnectionClosed):
                # What is under way is done all the same.
                return
            if len(frame) > _LONG_FRAME:
                request = await self._loop.run_in_executor(self._pool, self._end.receive, frame)
            else:
                request = self._end.receive(frame)
            if isinstance(request, wire.Restore | wire.Save | wire.Merge | wire.Delete):
                size = len(frame)
                await self._room.enter(size)
                previous = self._newest.get(request.thread_id)
                self._newest[request.thread_id] = requests.create_task(
                    self._serve(namespace, request, previous, size)
                )
            elif isinstance(request, wire.Refusal):
                logger.debug("%s sent what is no request: %s", self._peer, request.error)
                # Without an id nobody waits for an answer.
                if request.id is not None:
                    await self._send(wire.encode_failure(request.id, request.error))

    async def _serve(
        self,
        namespace: str,
        request: wire.Request,
        previous: asyncio.Task[None] | None,
        size: int,
    ) -> None:
        try:
            # Requests for one thread are done in the order they came.
            if previous is not None:
                await asyncio.wait([previous])
            reply = await self._loop.run_in_executor(
                self._pool, answer, self._settings.store, namespace, request
            )
            await self._send(reply)
        finally:
            self._room.leave(size)
            if self._newest.get(request.thread_id) is asyncio.current_task():
                del self._newest[request.thread_id]

    async def _receive(self, patience: float | None) -> str | bytes:
        """Return the next frame.

        :raises TimeoutError: when *patience* is over, or the service ends and all is quiet.
        """
        if self._read_until is not None:
            patience = _QUIET if self._loop.time() < self._read_until else 0.0
        try:
            async with asyncio.timeout(patience) as self._receiving:
                return await self._socket.recv()
        except TimeoutError:
            if self._read_until is None:
                raise
            # What came in the very moment that patience ended.
            async with asyncio.timeout(0):
                return await self._socket.recv()
        finally:
            self._receiving = None

    async def _send(self, frame: bytes) -> None:
        try:
            await self._socket.send(frame.decode())
        except ConnectionClosed:
            logger.debug("%s did not wait for its answer.", self._peer)
