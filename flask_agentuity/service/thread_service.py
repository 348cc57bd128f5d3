"""The thread service, which runs in its own thread and is controlled from any other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from ..errors import ConfigurationError
from ..stores.base import ThreadStore
from .keys import Keys
from .settings import ServiceOptions, ServiceSettings

if TYPE_CHECKING:
    from .server import Server


class ThreadService:
    """Serves the threads of a store over WebSockets, in a separate thread::

        with ThreadService(MemoryStore(), keys=["a-key-of-16-chars"]) as service:
            client = ThreadClient(service.url, "a-key-of-16-chars")

    Each key sees only its own threads. The service does not close the store.
    """

    def __init__(
        self,
        store: ThreadStore,
        keys: Iterable[str] = (),
        *,
        own_key: str | None = None,
        **options: Unpack[ServiceOptions],
    ) -> None:
        """Check the options. Nothing is opened before :meth:`start`.

        :param store: where threads are kept. Those of *keys* are kept apart from the store's own,
            see :meth:`.ThreadStore.for_tenants`.
        :param keys: those that clients may use; each has at least 16 characters.
        :param own_key: a key whose threads are those of the store itself: the app's.
        :param options: see :class:`~flask_agentuity.service.settings.ServiceSettings`.
        :raises ConfigurationError: if an option is wrong, or the package ``websockets`` is
            missing.
        """
        self._settings = ServiceSettings(store, Keys(keys, own_key), **options)
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

    def check_store(self) -> None:
        """Read from the store once.

        :raises StoreError: if it cannot be used.
        """
        for store in self._settings.stores:
            store.restore("none")

    def start(self) -> None:
        """Start listening. Returns when clients can connect.

        :raises ConfigurationError: if it cannot listen there, or was started before.
        """
        if self._thread is not None:
            raise ConfigurationError("The thread service was started before. Create a new one.")
        started: Future[str] = Future()
        self._thread = threading.Thread(
            target=self._run_loop, args=(started,), name="thread-service", daemon=True
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
        """Answer the requests that have arrived, close every connection, and return."""
        if self._thread is None:
            return
        if not self._stopping.done():
            self._stopping.set_result(None)
        self._thread.join()
        if self._settings.tenants_store is not self._settings.store:
            self._settings.tenants_store.close()

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

    def _run_loop(self, started: Future[str]) -> None:
        # The limits need this kind of loop, even if the app uses another one.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._run(started))

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
            "The thread service needs the package websockets, 17.0 or newer:"
            ' python -m pip install "flask-agentuity[service]"'
        ) from None
    return Server
