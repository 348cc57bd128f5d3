"""Listening sockets that ask before a connection is set up, and accepted ones that say when
they are closed.

The limits must apply from the beginning: a client that sends nothing, or does not finish its TLS
handshake, has a socket but no WebSocket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)
# A name may have an address of a family that is disabled.
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class AcceptedSocket(socket.socket):
    """A client's socket. :attr:`on_close` is called once, when it is closed."""

    host: str
    #: Its file number, also after it was closed.
    number: int
    on_close: Callable[[AcceptedSocket], object] | None = None

    def close(self) -> None:
        """Close the socket."""
        super().close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close(self)

    def hang_up(self) -> None:
        """End the connection. The reader of the socket notices that, and closes it."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Gate(Protocol):
    """Decides about accepted sockets."""

    def admit(self, accepted: AcceptedSocket) -> bool:
        """Return whether to set up the connection. Otherwise the socket is closed."""

    def refuse_for_lack_of_files(self) -> None:
        """Log that a connection must be refused because no more files can be opened."""


class ListeningSocket(socket.socket):
    """Accepts the connections that its gate admits."""

    def __init__(self, *arguments: Any, gate: Gate) -> None:
        super().__init__(*arguments)
        self._gate = gate
        # A spare file. When no more files can be opened, it is closed to accept, and refuse, a
        # connection.
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        :raises BlockingIOError: if none is waiting, or the next one was refused.
        """
        try:
            opened, address = super().accept()
        except OSError as error:
            if error.errno not in _NO_MORE_FILES:
                raise
            self._refuse_one()
            raise BlockingIOError from None
        accepted = AcceptedSocket(self.family, self.type, self.proto, opened.detach())
        accepted.host, accepted.number = str(address[0]), accepted.fileno()
        if self._gate.admit(accepted):
            return accepted, address
        accepted.close()
        raise BlockingIOError

    def close(self) -> None:
        """Stop listening."""
        super().close()
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)

    def _refuse_one(self) -> None:
        self._gate.refuse_for_lack_of_files()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with suppress(OSError):
            super().accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)


def listen(host: str, port: int, gate: Gate) -> list[ListeningSocket]:
    """Return a socket that listens for each address of *host*, all on one port.

    :raises OSError: if one cannot listen.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[ListeningSocket] = []
    problem: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        if sockets:
            port = sockets[0].getsockname()[1]
        try:
            sockets.append(_listen(family, (address[0], port, *address[2:]), gate))
        except OSError as error:
            problem = error
            if error.errno not in _NOT_HERE:
                break
    if not sockets or (problem is not None and problem.errno not in _NOT_HERE):
        for opened in sockets:
            opened.close()
        raise problem or OSError(f"no address was found for {host!r}")
    return sockets


def _listen(family: int, address: tuple[Any, ...], gate: Gate) -> ListeningSocket:
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol. With it, the
    # second of two replies waits until the client has acknowledged the first, mostly 40 ms.
    opened = ListeningSocket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, gate=gate)
    try:
        opened.setblocking(False)
        if os.name == "posix":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened
