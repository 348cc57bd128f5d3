"""One client's connection: authorized, read, answered in any order, and closed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from functools import partial

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from .. import wire
from .answering import Answering
from .authorization import Authorization
from .buffers import Held
from .flow_control import FlowControl
from .receiver import Receiver
from .server_socket import ServerSocket
from .settings import ServiceSettings
from .shared import Shared
from .tenants import Tenant
from .views import Views

logger = logging.getLogger("flask_agentuity.service")

#: Frames longer than this, in bytes, are parsed outside the event loop, and merged by few threads.
_LONG_FRAME = 16 * 1024

#: Seconds after which other connections are served.
_LONGEST_TURN = 0.0002

#: What an idle connection takes, in bytes, without TLS.
_CONNECTION_BYTES = 16 * 1024

#: Seconds between two checks for views that are too old.
_PRUNE_INTERVAL = 60.0


class _GaveUp(Exception):
    """The connection was closed because the service needs its memory."""


async def _fail() -> None:
    """Cancel the other tasks of the same group."""
    raise _GaveUp


class ServedConnection:
    """Serves one client until either side closes the connection."""

    def __init__(self, socket: ServerSocket, settings: ServiceSettings, shared: Shared) -> None:
        """Serve the client at *socket*."""
        self._socket = socket
        self._settings = settings
        self._shared = shared
        self._views = Views(shared.budget)
        self._pruning: asyncio.TimerHandle | None = None
        # The difference between the service's clock and the client's.
        self._clock_difference = math.inf
        self._loop = asyncio.get_running_loop()
        self._end = wire.ServiceEnd(
            settings.keys.accepts, settings.max_frame_bytes, settings.max_operations
        )
        self._flow = FlowControl(settings.max_requests, 4 * settings.max_frame_bytes)
        self._receiver = Receiver(socket)
        self._authorization = Authorization(socket, self._receiver, settings, shared)
        self._peer = self._authorization.peer
        # Replies are written one after another, so that only one waits in the socket's buffer.
        self._sending = asyncio.Lock()
        self._sending_since = math.inf
        self._watching: asyncio.TimerHandle | None = None
        # The newest request in progress for each thread.
        self._newest: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the client closes, or :meth:`drain` was called and everything is answered."""
        try:
            key = await self._authorization.run(self._end)
            if key is not None:
                tenant = await self._shared.pool.run("", self._settings.tenant_of, key)
                await self._serve_tenant(tenant)
        except ConnectionClosed:
            pass
        finally:
            for timer in (self._pruning, self._watching):
                if timer is not None:
                    timer.cancel()
            self._shared.idle_memory.freed(self._views.size + _CONNECTION_BYTES)
            self._views.close()

    @property
    def socket_number(self) -> int:
        """The file number of the socket."""
        return self._socket.socket_number

    def drain(self) -> None:
        """Answer the requests that have arrived, and close the connection (1001)."""
        self._receiver.drain()

    def abort(self) -> None:
        """Abort the connection, if :meth:`drain` did not close it in time."""
        self._socket.transport.abort()

    async def _serve_tenant(self, tenant: Tenant) -> None:
        shared = self._shared
        if shared.is_full(tenant.name):
            shared.logs.full.warn(
                "Refused a connection: the key of %s has too many already.", tenant.name
            )
            await self._socket.close(CloseCode.TRY_AGAIN_LATER, "too many connections")
            return
        held = Held(shared.buffers, tenant.name, self.abort)
        self._socket.authorize(held)
        shared.admission.authorize(self._socket.socket_number)
        shared.connections[tenant.name] += 1
        try:
            await self._socket.send(self._end.answer(wire.Granted(wire.FEATURES)).decode())
            shared.logs.came.info(
                "%s was authorized; the namespace of its threads is %s.", self._peer, tenant.name
            )
            answering = Answering(tenant, self._views, shared.logs)
            try:
                async with asyncio.TaskGroup() as requests:
                    held.close = partial(self._give_up, requests, held)
                    await self._read(answering, requests, held)
            except* _GaveUp:
                pass
            finally:
                held.close = self.abort
            await self._socket.close(CloseCode.GOING_AWAY, "the service is ending")
        finally:
            held.clear()
            shared.connections[tenant.name] -= 1
            if not shared.connections[tenant.name]:
                del shared.connections[tenant.name]
            code = self._socket.protocol.close_code or "no closing handshake"
            shared.logs.left.info("%s disconnected (%s).", self._peer, code)

    def _give_up(self, requests: asyncio.TaskGroup, held: Held) -> None:
        """Close the connection, and forget its requests, which take the memory."""
        held.close = self.abort
        self.abort()
        requests.create_task(_fail())

    async def _read(self, answering: Answering, requests: asyncio.TaskGroup, held: Held) -> None:
        busy, began = 0.0, time.perf_counter()
        while True:
            busy += time.perf_counter() - began
            if busy > _LONGEST_TURN:
                # Frames that have arrived are received without waiting, so other connections were
                # not served.
                await asyncio.sleep(0)
                busy = 0.0
            try:
                frame = await self._receiver.receive(None)
            except (TimeoutError, ConnectionClosed):
                # Requests in progress are still completed.
                return
            began, now, size = time.perf_counter(), time.monotonic(), len(frame)
            if size > _LONG_FRAME:
                parsing = self._shared.parsing
                request = await parsing.run(held.tenant, self._end.receive, frame)
            else:
                request = self._end.receive(frame)
            # An idle connection keeps neither its last frame nor its last request.
            del frame
            if isinstance(request, wire.ThreadRequest):
                await self._flow.enter(size)
                self._begin(answering, requests, request, now, size, held)
            else:
                held.remove(size)
                if isinstance(request, wire.Refusal):
                    await self._refuse(request, held)
            del request

    def _begin(
        self,
        answering: Answering,
        requests: asyncio.TaskGroup,
        request: wire.ThreadRequest,
        now: float,
        size: int,
        held: Held,
    ) -> None:
        previous = self._newest.get(request.thread_id)
        began = self._began(request, now)
        self._newest[request.thread_id] = requests.create_task(
            self._serve(answering, request, began, previous, size, held)
        )

    async def _refuse(self, refusal: wire.Refusal, held: Held) -> None:
        # Logs neither the request nor the reason, which may quote it.
        self._shared.logs.refused.warn(
            "A request of %s was refused; its reply says why.", self._peer
        )
        if refusal.expects_reply:
            await self._send(wire.encode_failure(refusal.id, refusal.error), held)

    async def _serve(
        self,
        answering: Answering,
        request: wire.ThreadRequest,
        began: float,
        previous: asyncio.Task[None] | None,
        size: int,
        held: Held,
    ) -> None:
        try:
            # Requests for one thread are done in the order in which they came.
            if previous is not None:
                await asyncio.wait([previous])
            pool = self._shared.pool if size <= _LONG_FRAME else self._shared.merging
            reply = await pool.run(held.tenant, answering.answer, request, began)
            self._prune_later()
            await self._send(reply, held)
        finally:
            held.remove(size)
            self._flow.leave(size)
            if self._newest.get(request.thread_id) is asyncio.current_task():
                del self._newest[request.thread_id]

    def _began(self, request: wire.ThreadRequest, now: float) -> float:
        """Return when the client's own request began, by this clock; *now* if it is unknown."""
        began = None if isinstance(request, wire.DeleteRequest) else request.began
        if began is None:
            return now
        if began.at is None:
            return now - began.age
        # The frame that arrived fastest shows the difference of the clocks best.
        self._clock_difference = min(self._clock_difference, now - began.at)
        return began.at - began.age + self._clock_difference

    def _prune_later(self) -> None:
        if self._pruning is None and len(self._views):
            self._pruning = self._loop.call_later(_PRUNE_INTERVAL, self._prune)

    def _prune(self) -> None:
        self._pruning = None
        before = self._views.size
        self._views.prune(time.monotonic())
        self._shared.idle_memory.freed(max(0, before - self._views.size))
        self._prune_later()

    async def _send(self, frame: bytes, held: Held) -> None:
        size = len(frame)
        held.add(size)
        try:
            async with self._sending:
                self._watch_sending()
                await self._socket.send(frame.decode())
        except ConnectionClosed:
            logger.debug("%s disconnected before its reply was sent.", self._peer)
        finally:
            self._sending_since = math.inf
            held.remove(size)

    def _watch_sending(self) -> None:
        # A timer for each reply would cost more than it does to send a small one.
        self._sending_since = self._loop.time()
        if self._watching is None:
            timeout = self._settings.send_timeout
            self._watching = self._loop.call_later(timeout, self._check_sending)

    def _check_sending(self) -> None:
        self._watching = None
        left = self._sending_since + self._settings.send_timeout - self._loop.time()
        if left <= 0:
            self._shared.logs.slow.warn(
                "Disconnected %s, which does not read its replies.", self._peer
            )
            self.abort()
        elif left < math.inf:
            self._watching = self._loop.call_later(left, self._check_sending)
