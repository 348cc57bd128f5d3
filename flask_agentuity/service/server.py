"""The listening sockets: which requests become connections, and how the service ends."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ..document.foreign_text import printable
from ..document.messages import encode_message
from ..wire import limits
from .connection import ServedConnection
from .http_routes import ROUTE, ThreadRoutes, as_json, is_route
from .limited_log import LimitedLog
from .listener import listen
from .server_socket import ServerSocket
from .settings import ServiceSettings
from .shared import Shared

logger = logging.getLogger("flask_agentuity.service")

HEALTH_PATH = "/health"

#: Seconds after which a client may try again if the service is full.
_RETRY_AFTER = 5
#: Seconds for the closing handshake.
_CLOSE_TIMEOUT = 2.0
#: Frames of a connection that may wait to be read, besides those in the operating system's buffers.
_WAITING_FRAMES = 2


class Server:
    """Listens and serves the connections. Belongs to one event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._connections: set[ServedConnection] = set()
        self._shared = Shared(settings)
        self._routes = ThreadRoutes(settings, self._shared)
        self._servers: list[WebSocketServer] = []

    async def start(self) -> str:
        """Listen, and return the URL that clients connect to.

        :raises OSError: if it cannot listen.
        """
        settings = self._settings
        log = _Quiet(logger)
        for listening in listen(settings.host, settings.port, self._shared.admission):
            self._servers.append(
                await serve(
                    self._serve,
                    sock=listening,
                    ssl=settings.ssl_context,
                    create_connection=ServerSocket,
                    process_request=self._process_request,
                    # To compress a megabyte would delay all other connections.
                    compression=None,
                    open_timeout=settings.authorization_timeout,
                    close_timeout=_CLOSE_TIMEOUT,
                    max_size=settings.max_frame_bytes,
                    max_queue=_WAITING_FRAMES,
                    logger=log,
                )
            )
        host, port = next(iter(self._servers[0].sockets)).getsockname()[:2]
        scheme = "wss" if settings.ssl_context else "ws"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{limits.PATH}"
        logger.info("Listening on %s.", url)
        return url

    async def stop(self) -> None:
        """Stop listening, answer the requests that have arrived, and close every connection."""
        if self._servers:
            logger.info("Shutting down; %d connections are open.", len(self._connections))
            await self._stop_accepting()
            for server in self._servers:
                server.close(close_connections=False)
            for connection in self._connections:
                connection.drain()
            self._shared.admission.close({each.socket_number for each in self._connections})
            try:
                async with asyncio.timeout(self._settings.drain_timeout):
                    for server in self._servers:
                        await server.wait_closed()
                    # wait_closed() does not wait for connections that were accepted at the last
                    # moment.
                    while others := asyncio.all_tasks() - {asyncio.current_task()}:
                        await asyncio.wait(others)
            except TimeoutError:
                logger.warning(
                    "%d connections were not closed within %g seconds; aborting them.",
                    len(self._connections),
                    self._settings.drain_timeout,
                )
                for connection in self._connections:
                    connection.abort()
        self._shared.close()

    async def _stop_accepting(self) -> None:
        # Up to Python 3.12 asyncio leaks a connection that it accepts during close().
        for server in self._servers:
            for listener in server.sockets:
                asyncio.get_running_loop().remove_reader(listener)
        # A connection that was accepted before is set up meanwhile.
        await asyncio.sleep(0)

    async def _serve(self, socket: ServerConnection) -> None:
        assert isinstance(socket, ServerSocket)
        connection = ServedConnection(socket, self._settings, self._shared)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _process_request(
        self, socket: ServerConnection, request: Request
    ) -> Awaitable[Response] | Response | None:
        path = request.path.partition("?")[0]
        if path == limits.PATH:
            return self._refuse(socket, request)
        if is_route(path):
            assert isinstance(socket, ServerSocket)
            refusal = self._refuse(socket, request)
            if refusal is not None:
                return as_json(socket, refusal)
            return self._routes.respond(socket, request)
        if path == HEALTH_PATH:
            state = {"status": "ok", "connections": self._shared.connections.total()}
            response = socket.respond(HTTPStatus.OK, encode_message(state).decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            return response
        words = f"Not found. Use {limits.PATH} or {ROUTE} for threads, {HEALTH_PATH} for health.\n"
        return socket.respond(HTTPStatus.NOT_FOUND, words)

    def _is_allowed(self, origin: str, request: Request) -> bool:
        # Some libraries for WebSockets send the address of the service, which serves no pages.
        hosts = request.headers.get_all("Host")
        own = [f"{scheme}://{host.lower()}" for host in hosts for scheme in ("http", "https")]
        return origin.lower() in self._settings.origins or origin.lower() in own

    def _refuse(self, socket: ServerConnection, request: Request) -> Response | None:
        """Return a response that refuses the connection; None if it may be opened."""
        origins = request.headers.get_all("Origin")
        if not all(self._is_allowed(origin, request) for origin in origins):
            self._shared.logs.refused.warn(
                "Refused a web page of %s. To allow it, use --allow-origin or allowed_origins.",
                printable(origins[0]),
            )
            return socket.respond(HTTPStatus.FORBIDDEN, "This origin is not allowed.\n")
        host = socket.remote_address[0]
        if (seconds := self._shared.seconds_to_wait(host)) > 0:
            words = "Too many wrong keys came from this address.\n"
            return _try_later(socket, HTTPStatus.TOO_MANY_REQUESTS, words, seconds)
        if self._shared.is_full():
            self._shared.logs.full.warn(
                "Refused a connection: %d are open already.", len(self._connections)
            )
            words = "The service has too many connections.\n"
            return _try_later(socket, HTTPStatus.SERVICE_UNAVAILABLE, words, _RETRY_AFTER)
        return None


def _try_later(
    socket: ServerConnection, status: HTTPStatus, words: str, seconds: float
) -> Response:
    response = socket.respond(status, words)
    response.headers["Retry-After"] = str(math.ceil(seconds))
    return response


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """The WebSocket library's log: no debug lines, which contain keys, and no tracebacks of
    clients that do not complete their handshakes.
    """

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(target, None)
        self._failed = LimitedLog(target)

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if str(msg).startswith("opening handshake failed"):
            error = sys.exc_info()[1]
            self._failed.warn("A handshake failed: %s", printable(str(error)))
        else:
            super().log(level, msg, *args, **kwargs)
