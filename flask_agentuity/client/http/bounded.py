"""Connections on which a call ends after a given time, however slowly the other end sends."""

from __future__ import annotations

import http.client
import io
import socket
import time
import weakref
from collections.abc import Callable
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ...per_process import after_fork_in_child

clock = time.monotonic


class _BoundedReader(io.RawIOBase):
    """Reads from a socket until a deadline. The socket's own timeout starts again each time."""

    def __init__(self, raw: io.RawIOBase, opened: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._socket = opened
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - clock()
        if left <= 0:
            raise TimeoutError("The reply did not end in time.")
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response_class(deadline: Callable[[], float]) -> type[http.client.HTTPResponse]:
    class BoundedResponse(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_BoundedReader(raw, sock, deadline()))

    return BoundedResponse


def _connection_class(base: type[HTTPConnection], seconds: float) -> type[HTTPConnection]:
    class BoundedConnection(base):  # type: ignore[misc,valid-type]
        deadline = 0.0

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.response_class = _response_class(lambda: self.deadline)
            _opened.add(self)

        def request(self, *arguments: Any, **named: Any) -> None:
            self.deadline = clock() + seconds
            super().request(*arguments, **named)

    return BoundedConnection


def bounded_pool_classes(seconds: float) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return the pools for each scheme, on which calls end after this many *seconds*.

    That is the time from the first byte sent to the last byte received; connecting has its own
    limit.
    """

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = _connection_class(HTTPConnection, seconds)

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = _connection_class(HTTPSConnection, seconds)  # type: ignore[assignment]

    return {"http": Pool, "https": SecurePool}


_opened: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()


@after_fork_in_child
def _close_copies() -> None:
    """Close a forked child's copies of the sockets, without affecting the parent's."""
    for connection in list(_opened):
        opened = connection.sock
        if opened is not None:
            opened.close()
