"""The listening socket: which requests become connections, and how the service ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ..document.messages import encode_message
from ..wire import limits
from .connection import ServedConnection, Shared
from .settings import ServiceSettings

logger = logging.getLogger("flask_agentuity.service")

HEALTH_PATH = "/health"

#: Seconds after which a client may try again if the service is full.
_RETRY_AFTER = "5"
#: Seconds for the closing handshake.
_CLOSE_TIMEOUT = 2.0
#: Frames of a connection that wait to be read, besides those that the operating system holds.
_WAITING_FRAMES = 4


class Server:
    """Listens and serves the connections. Belongs to one event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._connections: set[ServedConnection] = set()
        self._pool = ThreadPoolExecutor(settings.workers, "thread-service-store")
        self._shared = Shared(self._pool)
        self._server: WebSocketServer | None = None

    async def start(self) -> str:
        """Listen, and return the URL that clients connect to.

        :raises OSError: if it cannot listen.
        """
        settings = self._settings
        self._server = await serve(
            self._serve,
            settings.host,
            settings.port,
            ssl=settings.ssl_context,
            process_request=self._process_request,
            # Compressing a megabyte would delay all other connections.
            compression=None,
            open_timeout=settings.authorization_timeout,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=settings.max_frame_bytes,
            max_queue=_WAITING_FRAMES,
            logger=_Quiet(logger),
        )
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        scheme = "wss" if settings.ssl_context else "ws"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{limits.PATH}"
        logger.info("Listening on %s.", url)
        return url

    async def stop(self) -> None:
        """Stop listening, answer the requests that have arrived, and close every connection."""
        if self._server is not None:
            logger.info("Ending; %d connections are open.", len(self._connections))
            await self._stop_accepting(self._server)
            self._server.close(close_connections=False)
            for connection in self._connections:
                connection.drain()
            try:
                async with asyncio.timeout(self._settings.drain_timeout):
                    await self._server.wait_closed()
                    # That does not wait for what was accepted at the last moment.
                    while others := asyncio.all_tasks() - {asyncio.current_task()}:
                        await asyncio.wait(others)
            except TimeoutError:
                logger.warning(
                    "%d connections did not end within %g seconds.",
                    len(self._connections),
                    self._settings.drain_timeout,
                )
                for connection in self._connections:
                    connection.abort()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    async def _stop_accepting(server: WebSocketServer) -> None:
        # Up to Python 3.12 asyncio leaks a connection that it accepts during close().
        for listener in server.sockets:
            # The default loop on Windows has no readers.
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(listener)
        # A connection that was accepted before is set up now.
        await asyncio.sleep(0)

    async def _serve(self, socket: ServerConnection) -> None:
        connection = ServedConnection(socket, self._settings, self._shared)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        match path:
            case limits.PATH:
                if len(self._connections) < self._settings.max_connections:
                    return None
                logger.warning("Full: %d connections are open.", len(self._connections))
                response = socket.respond(
                    HTTPStatus.SERVICE_UNAVAILABLE, "The service has too many connections.\n"
                )
                response.headers["Retry-After"] = _RETRY_AFTER
                return response
            case _ if path == HEALTH_PATH:
                state = {"status": "ok", "connections": len(self._connections)}
                response = socket.respond(HTTPStatus.OK, encode_message(state).decode())
                del response.headers["Content-Type"]
                response.headers["Content-Type"] = "application/json"
                return response
        return socket.respond(
            HTTPStatus.NOT_FOUND,
            f"Not found. Use {limits.PATH} for threads, {HEALTH_PATH} for health.\n",
        )


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """The WebSocket library's log without its debug lines, which contain keys."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(target, None)

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        # A client that does not complete its handshake is not worth a traceback.
        if str(msg).startswith("opening handshake failed"):
            msg, kwargs["exc_info"] = f"A connection did not open: {sys.exc_info()[1]}", None
        return msg, kwargs
