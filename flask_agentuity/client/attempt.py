"""One attempt to open a WebSocket, in a thread that can be abandoned.

No library limits the total time of resolving a name, going through a proxy, the TLS handshake
and a service that sends its header byte by byte. So an attempt runs in its own thread, and the
I/O thread stops waiting for it after the connect timeout.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import websocket

from ..document.foreign_text import printable
from ..document.shown_url import without_secrets
from ..errors import AuthenticationFailed, ServiceUnavailable, StoreError
from .address import proxy_hint
from .settings import ClientSettings

#: From Linux 2.6.37 (tcp(7)): how long sent data may stay unacknowledged, in milliseconds.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt failed.

    ``refused``: an immediate retry cannot help. ``retry_after``: the seconds that the service
    asked to wait.
    """

    error: StoreError
    refused: bool = False
    retry_after: float | None = None


class ConnectAttempt:
    """After :meth:`start`, *deliver* is called once in the attempt's thread."""

    def __init__(self, settings: ClientSettings, deliver: Callable[[ConnectAttempt], None]) -> None:
        self.outcome: socket.socket | AttemptFailure | None = None
        self.thread = threading.Thread(
            target=self._run, name="flask-agentuity connect", daemon=True
        )
        self._settings = settings
        self._deliver = deliver
        options = []
        if _USER_TIMEOUT is not None:
            milliseconds = min(int(settings.pong_timeout * 1000), 2**31 - 1)
            options.append((socket.IPPROTO_TCP, _USER_TIMEOUT, max(milliseconds, 1)))
        self._websocket = websocket.WebSocket(
            sockopt=options,
            sslopt={"ca_certs": settings.ca_file} if settings.ca_file else {},
            enable_multithread=False,
            skip_utf8_validation=True,
        )

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: if no thread can be started.
        """
        self.thread.start()

    def abandon(self) -> None:
        """Interrupt the attempt where that is possible. Its thread closes the socket."""
        with contextlib.suppress(OSError):
            if self._websocket.sock is not None:
                self._websocket.sock.shutdown(socket.SHUT_RDWR)

    def discard(self) -> None:
        """Close the socket that the attempt opened."""
        if isinstance(self.outcome, socket.socket):
            self.outcome.close()

    def abandon_copy(self) -> None:
        """Close a forked child's copies of the sockets, without affecting the parent's."""
        self.discard()
        if self._websocket.sock is not None:
            self._websocket.sock.close()

    def _run(self) -> None:
        where = self._settings.address.shown
        self.outcome = _unavailable(f"Internal error while connecting to {where}.")
        try:
            self.outcome = self._connect()
        finally:
            self._deliver(self)

    def _connect(self) -> socket.socket | AttemptFailure:
        connecting = self._websocket
        try:
            connecting.connect(  # type: ignore[no-untyped-call]
                self._settings.address.url,
                timeout=self._settings.connect_timeout,
                redirect_limit=0,
                suppress_origin=True,
            )
            opened = connecting.sock
            if opened is not None and connecting.getstatus() == 101:
                connecting.sock = None
                return opened
            raise websocket.WebSocketException("the upgrade was not confirmed")
        except Exception as error:  # noqa: BLE001 - the library can raise anything
            if connecting.sock is not None:
                connecting.sock.close()
            return self._explain(error)

    def _explain(self, error: Exception) -> AttemptFailure:
        where = self._settings.address.shown
        match error:
            # A response without a status line has no status, contrary to the annotation.
            case websocket.WebSocketBadStatusException(status_code=int()):
                return _explain_status(where, error.status_code, error.resp_headers or {})
            case websocket.WebSocketProxyException():
                return self._explain_proxy(error)
            case websocket.WebSocketAddressException() | UnicodeError():
                return _unavailable(f"The host name in {where} could not be resolved.{self._hint}")
            case ssl.SSLCertVerificationError():
                return _unavailable(
                    f"The certificate of {where} was rejected: {printable(error.verify_message)}",
                    refused=True,
                )
            case ssl.SSLError():
                reason = error.reason or printable(str(error))
                return _unavailable(f"The TLS handshake with {where} failed: {reason}.")
            case websocket.WebSocketTimeoutException() | TimeoutError():
                return _unavailable(f"Connecting to {where} timed out.{self._hint}")
            case websocket.WebSocketConnectionClosedException():
                return _unavailable(
                    f"{where} closed the connection during the handshake.{self._hint}"
                )
            case OSError():
                reason = error.strerror or type(error).__name__
                return _unavailable(f"Connecting to {where} failed: {reason}.{self._hint}")
        return self._explain_response()

    @property
    def _hint(self) -> str:
        return proxy_hint(os.environ, self._settings.address)

    def _explain_proxy(self, error: Exception) -> AttemptFailure:
        reason = printable(str(error)).rstrip(".")
        if "407" in reason:
            reason = "it requires other credentials (407)"
        where = self._settings.address.shown
        return _unavailable(f"The proxy for {where} failed: {reason}.{self._hint}")

    def _explain_response(self) -> AttemptFailure:
        where = self._settings.address.shown
        response = self._websocket.handshake_response
        if response is not None and 300 <= response.status < 400:
            target = _shown_target(response.headers.get("location"))
            return _unavailable(
                f"{where} redirects to {target!r} ({int(response.status)}). Redirects are not"
                " followed because the key would be sent there. Configure that address instead.",
                refused=True,
            )
        return _unavailable(f"The server at {where} does not speak WebSocket.")


def _shown_target(location: str | None) -> str:
    if location is None:
        return "nowhere"
    if location.startswith("/"):
        return printable(location.partition("?")[0])
    return without_secrets(location)


def _unavailable(message: str, *, refused: bool = False) -> AttemptFailure:
    return AttemptFailure(ServiceUnavailable(message), refused)


def _explain_status(where: str, status: int, headers: dict[str, str]) -> AttemptFailure:
    if status in (401, 403):
        error = AuthenticationFailed(f"{where} refused the connection with HTTP status {status}.")
        return AttemptFailure(error, refused=True)
    if status == 404:
        return _unavailable(
            f"There is no thread service at {where} (HTTP status 404). Check the path.",
            refused=True,
        )
    if status in (429, 503):
        asked = headers.get("retry-after", "")
        retry_after = float(asked) if asked.isascii() and asked.isdigit() else None
        later = f" and asks to wait {retry_after:.0f} s" if retry_after is not None else ""
        failure = _unavailable(f"{where} is unavailable (HTTP status {status}){later}.")
        return AttemptFailure(failure.error, retry_after=retry_after)
    if status >= 500:
        return _unavailable(f"{where} answered with HTTP status {status}.")
    return _unavailable(
        f"{where} answered like a web page (HTTP status {status}), not like a thread service."
        " Check the address."
    )
