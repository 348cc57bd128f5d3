"""The listening socket: which requests become connections, and how all of them end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from .connection import Connection, Shared
from .settings import Settings

logger = logging.getLogger("flask_agentuity.service")

PATH = "/thread/ws"
HEALTH_PATH = "/health"

#: Seconds after which a client that found the service full may try again.
_RETRY_AFTER = "5"
#: Seconds for the closing handshake.
_CLOSE_TIMEOUT = 2.0
#: Frames of a connection that wait to be read, beyond what the operating system holds.
_WAITING_FRAMES = 4


class Server:
    """Listens, and keeps the connections. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections: set[Connection] = set()
        self._pool = ThreadPoolExecutor(settings.workers, "thread-service-store")
        self._shared = Shared(self._pool)
        self._server: WebSocketServer | None = None

    async def start(self) -> str:
        """Listen, and return the URL that clients connect to.

        :raises OSError: when that is not possible.
        """
        settings = self._settings
        self._server = await serve(
            self._serve,
            settings.host,
            settings.port,
            ssl=settings.ssl_context,
            process_request=self._process_request,
            # Documents are small or urgent; deflating a megabyte would hold up everybody.
            compression=None,
            open_timeout=settings.authorization_timeout,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=settings.max_frame_bytes,
            max_queue=_WAITING_FRAMES,
            logger=_Quiet(logger),
        )
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        scheme = "wss" if settings.ssl_context else "ws"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
        logger.info("Listening on %s.", url)
        return url

    async def stop(self) -> None:
        """Listen no more, answer what is under way, and end every connection."""
        if self._server is not None:
            logger.info("Ending; %d connections are open.", len(self._connections))
            await self._stop_accepting(self._server)
            self._server.close(close_connections=False)
            for connection in self._connections:
                connection.drain()
            try:
                async with asyncio.timeout(self._settings.drain_timeout):
                    await self._server.wait_closed()
                    # What was accepted at the last moment is not waited for there.
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
        # Up to Python 3.12 asyncio leaks what it accepts in the moment of its close().
        for listener in server.sockets:
            # The default loop on Windows has no readers.
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(listener)
        # What was accepted before becomes a connection now.
        await asyncio.sleep(0)

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(socket, self._settings, self._shared)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        match request.path.partition("?")[0]:
            case "/thread/ws":
                if len(self._connections) < self._settings.max_connections:
                    return None
                logger.warning("Full: %d connections are open.", len(self._connections))
                response = socket.respond(
                    HTTPStatus.SERVICE_UNAVAILABLE, "The service has no room for a connection.\n"
                )
                response.headers["Retry-After"] = _RETRY_AFTER
                return response
            case "/health":
                state = {"status": "ok", "connections": len(self._connections)}
                response = socket.respond(HTTPStatus.OK, orjson.dumps(state).decode())
                del response.headers["Content-Type"]
                response.headers["Content-Type"] = "application/json"
                return response
        return socket.respond(
            HTTPStatus.NOT_FOUND, f"Not here. Threads are at {PATH}, the health at {HEALTH_PATH}.\n"
        )


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """The WebSocket library's log, without its debugging lines: they hold the keys."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(target, None)

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        # Whoever knocks and goes is no fault of ours, and worth no traceback.
        if str(msg).startswith("opening handshake failed"):
            msg, kwargs["exc_info"] = f"A connection did not open: {sys.exc_info()[1]}", None
        return msg, kwargs
