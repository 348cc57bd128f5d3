"""A client that starts no thread, so it reads only what a test reads.

With TLS it is also more reliable than :class:`.peers.Peer`: two threads must not use one TLS socket
at the same time.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trustme
import websocket

from .peers import KEY, PATIENCE, THREAD


class SingleClient:
    """One connection to a service."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        options = {} if context is None else {"context": context}
        self.socket = websocket.create_connection(
            url, timeout=PATIENCE, sslopt=options, skip_utf8_validation=True
        )
        self.socket.send(json.dumps({"authorization": KEY}))
        assert json.loads(self.socket.recv())["success"] is True

    @property
    def raw_socket(self) -> socket.socket:
        assert self.socket.sock is not None
        return self.socket.sock

    def ask(self, action: str, thread_id: str = THREAD, **data: Any) -> str:
        """Send a request and return its id."""
        id = str(uuid.uuid4())
        data["thread_id"] = thread_id
        self.socket.send(json.dumps({"id": id, "action": action, "data": data}))
        return id

    def receive(self) -> Any:
        return json.loads(self.socket.recv())

    def close_code(self) -> int:
        """Read the next frame, which must be the one that closes the connection."""
        opcode, data = self.socket.recv_data(control_frame=True)
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        code: int = struct.unpack("!H", data[:2])[0]
        return code

    def hang_up(self) -> None:
        """Close the connection without a closing handshake."""
        self.socket.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def clients(
    url: str, count: int, context: ssl.SSLContext | None = None
) -> Iterator[list[SingleClient]]:
    """Connect several clients for the time of a block."""
    connected: list[SingleClient] = []
    try:
        for _ in range(count):
            connected.append(SingleClient(url, context))
        yield connected
    finally:
        for each in connected:
            each.hang_up()


def certificate() -> tuple[trustme.LeafCert, ssl.SSLContext]:
    """Return a certificate for a service, and what makes a client trust it."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return authority.issue_cert("127.0.0.1"), trusting
