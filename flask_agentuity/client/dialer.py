"""One attempt to open a WebSocket, in a thread of its own that can be left behind.

Resolving a name, a proxy, the TLS handshake and a service that drips its header byte by
byte have no common time limit in any library; whoever waits for the attempt has one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import websocket

from ..errors import AuthenticationFailed, ServiceUnavailable, StoreError
from .address import without_secrets
from .settings import Settings

#: From Linux 2.6.37 (tcp(7)): how long sent data may go unacknowledged, in milliseconds.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


@dataclass(frozen=True, slots=True)
class DialFailure:
    """Why an attempt failed.

    ``refused``: trying again soon will not mend it. ``retry_after`` is in seconds, as the
    service asked.
    """

    error: StoreError
    refused: bool = False
    retry_after: float | None = None


class Dial:
    """An attempt: :meth:`start` it, and *deliver* is called once, in its thread."""

    def __init__(self, settings: Settings, deliver: Callable[[Dial], None]) -> None:
        self.outcome: socket.socket | DialFailure | None = None
        self.thread = threading.Thread(target=self._run, name="flask-agentuity dial", daemon=True)
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
        self.thread.start()

    def abandon(self) -> None:
        """Nobody waits any more: end what can be ended. The thread closes its socket."""
        with contextlib.suppress(OSError):
            if self._websocket.sock is not None:
                self._websocket.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, in a process that was forked while the attempt was under way."""
        for opened in (self._websocket.sock, self.outcome):
            if isinstance(opened, socket.socket):
                opened.close()

    def _run(self) -> None:
        where = self._settings.address.shown
        self.outcome = _unavailable(f"Connecting to {where} met a fault of the client's own.")
        try:
            self.outcome = self._attempt()
        finally:
            self._deliver(self)

    def _attempt(self) -> socket.socket | DialFailure:
        dialled = self._websocket
        try:
            dialled.connect(  # type: ignore[no-untyped-call]
                self._settings.address.url,
                timeout=self._settings.connect_timeout,
                redirect_limit=0,
                suppress_origin=True,
            )
            opened = dialled.sock
            if opened is not None and dialled.getstatus() == 101:
                dialled.sock = None
                return opened
            raise websocket.WebSocketException("the upgrade was not confirmed")
        except Exception as error:  # noqa: BLE001 - the library may raise anything at rubbish
            if dialled.sock is not None:
                dialled.sock.close()
            return self._explain(error)

    def _explain(self, error: Exception) -> DialFailure:
        where = self._settings.address.shown
        match error:
            # An answer without a status line has no status, whatever the types say.
            case websocket.WebSocketBadStatusException(status_code=int()):
                return _explain_status(where, error.status_code, error.resp_headers or {})
            case websocket.WebSocketProxyException():
                words = str(error)
                if "407" in words:
                    words = "it wants other credentials (407)"
                return _unavailable(f"The proxy on the way to {where} failed: {words}.")
            case websocket.WebSocketAddressException() | UnicodeError():
                return _unavailable(f"The host name in {where} could not be resolved.")
            case ssl.SSLCertVerificationError():
                return _unavailable(
                    f"The certificate of {where} is not accepted: {error.verify_message}",
                    refused=True,
                )
            case ssl.SSLError():
                return _unavailable(
                    f"The TLS handshake with {where} failed: {error.reason or error}."
                )
            case websocket.WebSocketTimeoutException() | TimeoutError():
                return _unavailable(f"Connecting to {where} took too long.")
            case websocket.WebSocketConnectionClosedException():
                return _unavailable(f"{where} closed the connection before it was open.")
            case OSError():
                return _unavailable(
                    f"Connecting to {where} failed: {error.strerror or type(error).__name__}."
                )
        answer = self._websocket.handshake_response
        if answer is not None and 300 <= answer.status < 400:
            target = without_secrets(str(answer.headers.get("location", "nowhere")))
            return _unavailable(
                f"{where} redirects to {target!r} ({int(answer.status)}), which is not followed"
                " because the key would go there: set that address instead.",
                refused=True,
            )
        return _unavailable(f"What answers at {where} does not speak WebSocket.")


def _unavailable(message: str, *, refused: bool = False) -> DialFailure:
    return DialFailure(ServiceUnavailable(message), refused)


def _explain_status(where: str, status: int, headers: dict[str, str]) -> DialFailure:
    if status in (401, 403):
        error = AuthenticationFailed(f"{where} refuses the connection with HTTP status {status}.")
        return DialFailure(error, refused=True)
    if status == 404:
        return _unavailable(
            f"There is no thread service at {where} (HTTP status 404): check the path.",
            refused=True,
        )
    if status in (429, 503):
        asked = headers.get("retry-after", "")
        retry_after = float(asked) if asked.isascii() and asked.isdigit() else None
        later = f" and asks to wait {retry_after:.0f} s" if retry_after is not None else ""
        failure = _unavailable(f"{where} is not available now (HTTP status {status}){later}.")
        return DialFailure(failure.error, retry_after=retry_after)
    if status >= 500:
        return _unavailable(f"{where} answers with HTTP status {status}.")
    return _unavailable(
        f"{where} answers as a web page (HTTP status {status}), not as a thread service:"
        " check the address."
    )
