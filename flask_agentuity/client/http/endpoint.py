"""A service's HTTP endpoint: one call at a time from each thread, bounded in time and size."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ...document.foreign_text import printable
from ...errors import (
    ConfigurationError,
    OutcomeUnknown,
    RequestTimeout,
    ServiceError,
    ServiceUnavailable,
    StoreError,
)
from ...per_process import PerProcess
from ...wire import limits
from ..address import parse_address
from ..settings import check_key

if TYPE_CHECKING:
    import urllib3

_CONNECTION = re.compile(r"^(\w+\(host=.*?\)|<.*? object at 0x[0-9A-Fa-f]+>): ")

#: The largest reply in bytes.
MAX_REPLY_BYTES = 16 * 1024 * 1024

_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


@dataclass(frozen=True, slots=True)
class HTTPReply:
    """The status, the headers and the body of a reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Connections:
    manager: urllib3.PoolManager
    #: The connections to the service.
    pool: urllib3.HTTPConnectionPool


class HTTPEndpoint:
    """The HTTP side of a service, with its key.

    Its connections belong to one process; a forked child makes its own. Redirects are not followed,
    because they would send the key to another host.
    """

    def __init__(
        self,
        base: str,
        key: str,
        *,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        request_timeout: float = limits.REQUEST_TIMEOUT,
        ca_file: str | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        """Connect nothing yet. All times are in seconds.

        :param base: the URL before the path of each call.
        :raises ConfigurationError: if the URL or the key is wrong, or urllib3 is missing.
        """
        require_urllib3()
        check_key(key)
        #: Whether the connection is encrypted, or stays on this machine.
        self.is_private = (address := parse_address(base)).secure or address.is_local
        self.base = base.rstrip("/")
        self._path = urlsplit(self.base).path
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._ca_file = ca_file
        self._max_reply_bytes = max_reply_bytes
        self._headers = {
            # http.client encodes in Latin-1; services expect UTF-8.
            "Authorization": f"Bearer {key}".encode().decode("latin-1"),
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"flask-agentuity/{_version()}",
        }
        self._connections = PerProcess(self._make_connections)

    def call(self, method: str, path: str, body: bytes | None = None) -> HTTPReply:
        """Send a request and return the reply, whatever its status.

        :raises ServiceUnavailable: if there is no connection; nothing was sent.
        :raises RequestTimeout: if the reply did not come in time.
        :raises OutcomeUnknown: if the connection was lost before the reply had come.
        :raises ServiceError: if the reply is not HTTP, or is too large.
        """
        import urllib3

        try:
            response = self._open(method, path, body)
            try:
                received = response.read(self._max_reply_bytes + 1)
            finally:
                response.close() if response.length_remaining else response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise self._explain(error, method, path) from error
        if len(received) > self._max_reply_bytes:
            raise ServiceError(
                f"The reply to {method} {self.base}{path.partition('?')[0]} has more than"
                f" {self._max_reply_bytes:,} bytes."
            )
        return HTTPReply(response.status, response.headers, received)

    def close(self) -> None:
        """Close the idle connections."""
        if (connections := self._connections.made()) is not None:
            # clear() alone leaves the connections to the garbage collector.
            connections.pool.close()
            connections.manager.clear()
            # A pool that was closed cannot be used again.
            connections.pool = connections.manager.connection_from_url(self.base)

    def _open(self, method: str, path: str, body: bytes | None) -> urllib3.BaseHTTPResponse:
        """Send a request, and return the response as soon as its headers are there."""
        connections = self._connections.get()
        options: dict[str, Any] = {
            "body": body,
            "headers": self._headers,
            "redirect": False,
            "retries": False,
            "preload_content": False,
            "decode_content": False,
        }
        if connections.manager.proxy is not None:
            return connections.manager.urlopen(method, self.base + path, **options)
        # Without the manager, which would take a quarter of the time of a call.
        return connections.pool.urlopen(method, self._path + path, **options)

    def _make_connections(self) -> _Connections:
        import urllib3

        from .bounded import bounded_pool_classes

        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=self._connect_timeout, read=self._request_timeout),
            "maxsize": 4,
        }
        if self.base.startswith("https:"):
            options["ssl_context"] = ssl.create_default_context(cafile=self._ca_file)
        proxy = _proxy_for(self.base)
        pools = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        pools.pool_classes_by_scheme = bounded_pool_classes(self._request_timeout)
        return _Connections(pools, pools.connection_from_url(self.base))

    def _explain(self, error: Exception, method: str, path: str) -> StoreError:
        from urllib3 import exceptions

        where = f"{method} {self.base}{path.partition('?')[0]}"
        # urllib3 begins with the representation of the connection.
        words = printable(_CONNECTION.sub("", str(error)))
        match error:
            case exceptions.ConnectTimeoutError() | exceptions.NewConnectionError():
                return ServiceUnavailable(f"{where}: there is no connection: {words}")
            case exceptions.TimeoutError():
                return RequestTimeout(
                    f"{where} was not answered within {self._request_timeout:g} seconds."
                )
            case exceptions.ProtocolError() if isinstance(
                error.__context__, ConnectionError | RemoteDisconnected
            ):
                return OutcomeUnknown(f"{where}: the connection was lost: {words}")
            case _:
                return ServiceError(f"{where} failed: {words}")


def base_of(url: str) -> str:
    """Return the URL before the paths of HTTP calls, for the *url* of a service.

    The path of a WebSocket URL is not part of it, except what precedes the usual one.
    """
    parts = urlsplit(url)
    path = parts.path
    if parts.scheme in ("ws", "wss"):
        path = path.removesuffix(limits.PATH) if path.endswith(limits.PATH) else ""
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path.rstrip("/"), "", ""))


def require_urllib3() -> None:
    """Make sure that the optional package is there.

    :raises ConfigurationError: if it is missing. The message says how to install it.
    """
    if importlib.util.find_spec("urllib3") is None:
        raise ConfigurationError(
            "HTTP calls to the service need the package urllib3, 2.0.2 or newer:"
            ' python -m pip install "flask-agentuity[reports]"'
        )


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _version() -> str:
    try:
        return importlib.metadata.version("flask-agentuity")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
