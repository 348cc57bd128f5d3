"""One client's connection: authorized, read, answered in any order, and closed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from .. import wire
from .answering import Answering
from .flow_control import FlowControl
from .keys import namespace_of
from .limited_log import LimitedLog
from .settings import ServiceSettings
from .views import Budget, Views

logger = logging.getLogger("flask_agentuity.service")

#: Frames longer than this, in characters, are taken apart outside the event loop.
_LONG_FRAME = 64 * 1024

#: When the service ends it still takes what has arrived: until this many seconds of
#: silence, and for so many at most.
_QUIET = 0.05
_LONGEST_READING = 1.0

#: Seconds between two looks for views that are too old.
_PRUNE_INTERVAL = 60.0


class Shared:
    """What all connections of a service share."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        """*pool* has the threads in which the store is used."""
        self.pool = pool
        #: The memory for what clients have restored.
        self.budget = Budget()
        self.refusals = LimitedLog(logger)


class ServedConnection:
    """Serves one client until either side closes the connection."""

    def __init__(self, socket: ServerConnection, settings: ServiceSettings, shared: Shared) -> None:
        """Serve the client at *socket*."""
        self._socket = socket
        self._settings = settings
        self._pool = shared.pool
        self._refusals = shared.refusals
        self._views = Views(shared.budget)
        self._pruning: asyncio.TimerHandle | None = None
        # What to add to a time of the client's clock.
        self._clock_difference = math.inf
        self._loop = asyncio.get_running_loop()
        self._end = wire.ServiceEnd(settings.keys.accepts, settings.max_frame_bytes)
        self._flow = FlowControl(settings.max_requests, 4 * settings.max_frame_bytes)
        # The newest request for each thread that has one under way.
        self._newest: dict[str, asyncio.Task[None]] = {}
        self._receiving: asyncio.Timeout | None = None
        # When reading ends at the latest, once the service is ending.
        self._read_until: float | None = None
        host, port = socket.remote_address[:2]
        self._peer = f"{host}:{port}"

    async def run(self) -> None:
        """Serve until the client closes, or :meth:`drain` was called and all is answered."""
        try:
            namespace = await self._authorize()
            if namespace is None:
                return
            answering = Answering(self._settings.store, namespace, self._views)
            async with asyncio.TaskGroup() as requests:
                await self._read(answering, requests)
            await self._socket.close(CloseCode.GOING_AWAY, "the service is ending")
        except ConnectionClosed:
            pass
        finally:
            if self._pruning is not None:
                self._pruning.cancel()
            self._views.clear()
            logger.info(
                "%s is gone (%s).",
                self._peer,
                self._socket.protocol.close_code or "no closing handshake",
            )

    def drain(self) -> None:
        """Take what has arrived, answer it, and close the connection (1001)."""
        self._read_until = self._loop.time() + _LONGEST_READING
        if self._receiving is not None and not self._receiving.expired():
            self._receiving.reschedule(self._loop.time() + _QUIET)

    def abort(self) -> None:
        """Abort the connection, if :meth:`drain` did not close it in time."""
        self._socket.transport.abort()

    async def _authorize(self) -> str | None:
        """Authorize the client and return its namespace; None if it was refused."""
        decision: wire.Granted | wire.Denied | wire.ThreadRequest | wire.Refusal
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
        assert isinstance(decision, wire.Granted) and self._end.key is not None
        namespace = await self._loop.run_in_executor(self._pool, namespace_of, self._end.key)
        await self._send(self._end.answer(decision))
        logger.info("%s was let in; its threads are those of %s.", self._peer, namespace)
        return namespace

    async def _read(self, answering: Answering, requests: asyncio.TaskGroup) -> None:
        while True:
            try:
                frame = await self._receive(None)
            except (TimeoutError, ConnectionClosed):
                # What is under way is still done.
                return
            now = time.monotonic()
            if len(frame) > _LONG_FRAME:
                request = await self._loop.run_in_executor(self._pool, self._end.receive, frame)
            else:
                request = self._end.receive(frame)
            if isinstance(request, wire.ThreadRequest):
                size = len(frame)
                await self._flow.enter(size)
                previous = self._newest.get(request.thread_id)
                self._newest[request.thread_id] = requests.create_task(
                    self._serve(answering, request, self._began(request, now), previous, size)
                )
            elif isinstance(request, wire.Refusal):
                # Neither the request nor the reason, which may quote it.
                self._refusals.warn("A request of %s was refused; its reply says why.", self._peer)
                # Without an id no answer is expected.
                if request.id is not None:
                    await self._send(wire.encode_failure(request.id, request.error))

    async def _serve(
        self,
        answering: Answering,
        request: wire.ThreadRequest,
        began: float,
        previous: asyncio.Task[None] | None,
        size: int,
    ) -> None:
        try:
            # Requests for one thread are done in the order in which they came.
            if previous is not None:
                await asyncio.wait([previous])
            reply = await self._loop.run_in_executor(self._pool, answering.answer, request, began)
            self._prune_later()
            await self._send(reply)
        finally:
            self._flow.leave(size)
            if self._newest.get(request.thread_id) is asyncio.current_task():
                del self._newest[request.thread_id]

    def _began(self, request: wire.ThreadRequest, now: float) -> float:
        """Return when the client's own request began, by our clock; *now* if it does not say."""
        began = None if isinstance(request, wire.DeleteRequest) else request.began
        if began is None:
            return now
        if began.at is None:
            return now - began.age
        # Of all frames, the fastest one tells best how far the clocks are apart.
        self._clock_difference = min(self._clock_difference, now - began.at)
        return began.at - began.age + self._clock_difference

    def _prune_later(self) -> None:
        if self._pruning is None and len(self._views):
            self._pruning = self._loop.call_later(_PRUNE_INTERVAL, self._prune)

    def _prune(self) -> None:
        self._pruning = None
        self._views.prune(time.monotonic())
        self._prune_later()

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
