"""The thread service, which runs in its own thread and is controlled from any other."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..stores.base import ThreadStore
from .keys import Keys
from .settings import DEFAULT_MAX_FRAME_BYTES, ServiceSettings

if TYPE_CHECKING:
    from .server import Server


class ThreadService:
    """Serves the threads of a store over WebSockets, in a separate thread::

        with ThreadService(MemoryStore(), keys=["a-key-of-16-chars"]) as service:
            client = ThreadClient(service.url, "a-key-of-16-chars")

    Each key sees only its own threads. The service does not close the store. Times are in
    seconds.

    :param keys: those that clients may use; each has at least 16 characters.
    :param port: 0 chooses a free port.
    :param max_frame_bytes: the largest frame. A larger one closes its connection (1009).
    :param max_connections: further clients are told to try again later (503).
    :param max_requests: how many requests of one connection are processed at once. Further
        requests are not read yet.
    :param workers: how many threads use the store.
    :param authorization_timeout: for the handshake, and again for the first frame.
    :param drain_timeout: for answering what has arrived when the service stops.
    :param ssl_context: makes the service use wss.
    """

    def __init__(
        self,
        store: ThreadStore,
        keys: Iterable[str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_connections: int = 1000,
        max_requests: int = 64,
        workers: int = 8,
        authorization_timeout: float = 10.0,
        drain_timeout: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Check the options. Nothing is opened before :meth:`start`.

        :raises ConfigurationError: if an option is wrong, or the package ``websockets`` is
            missing.
        """
        self._settings = ServiceSettings(
            store,
            Keys(keys),
            host=host,
            port=port,
            max_frame_bytes=max_frame_bytes,
            max_connections=max_connections,
            max_requests=max_requests,
            workers=workers,
            authorization_timeout=authorization_timeout,
            drain_timeout=drain_timeout,
            ssl_context=ssl_context,
        )
        self._server_type = _find_server_type()
        self._url: str | None = None
        self._thread: threading.Thread | None = None
        self._stopping: Future[None] = Future()

    @property
    def url(self) -> str:
        """Where clients connect, ``ws://HOST:PORT/thread/ws``, once the service has started."""
        if self._url is None:
            raise ConfigurationError("The thread service has not started yet.")
        return self._url

    @property
    def running(self) -> bool:
        """Whether the service was started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start listening. Returns when clients can connect.

        :raises ConfigurationError: if it cannot listen there, or was started before.
        """
        if self._thread is not None:
            raise ConfigurationError("The thread service was started before. Create a new one.")
        started: Future[str] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="thread-service", daemon=True
        )
        self._thread.start()
        try:
            self._url = started.result()
        except OSError as error:
            self._thread.join()
            where = f"{self._settings.host}:{self._settings.port}"
            raise ConfigurationError(
                f"The thread service cannot listen on {where}: {error}"
            ) from error

    def stop(self) -> None:
        """Answer the requests that have arrived, close every connection, and return then."""
        if self._thread is None:
            return
        if not self._stopping.done():
            self._stopping.set_result(None)
        self._thread.join()

    def __enter__(self) -> ThreadService:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    async def _run(self, started: Future[str]) -> None:
        server = self._server_type(self._settings)
        try:
            url = await server.start()
        except OSError as error:
            await server.stop()
            started.set_exception(error)
            return
        started.set_result(url)
        await asyncio.wrap_future(self._stopping)
        await server.stop()


def _find_server_type() -> type[Server]:
    try:
        from .server import Server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        raise ConfigurationError(
            "The thread service needs the package websockets, 13.0 or newer:"
            ' python -m pip install "flask-agentuity[service]"'
        ) from None
    return Server
