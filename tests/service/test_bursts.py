"""Many frames that arrive at once are parsed little by little, and none is lost."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trustme

from flask_agentuity.service import ThreadService, server_socket

from .peers import PATIENCE, THREAD, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

COUNT = 2_000


@pytest.fixture(params=["ws", "wss"])
def connected(request: pytest.FixtureRequest, serve: Serve, connect: Connect) -> Peer:
    if request.param == "ws":
        return connect(serve())
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return connect(serve(ssl_context=context), ssl=trusting)


def masked(payload: bytes) -> bytes:
    """Return a text frame of less than 64 KiB, with a mask that changes nothing."""
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + b"\0\0\0\0" + payload


def frames(count: int) -> list[dict[str, Any]]:
    data = {"thread_id": THREAD}
    return [{"id": str(number), "action": "restore", "data": data} for number in range(count)]


@pytest.mark.parametrize("padding", [0, 60_000])
def test_all_requests_of_a_burst_are_answered(connected: Peer, padding: int) -> None:
    requests = frames(COUNT if not padding else 100)
    burst = b"".join(masked(json.dumps(each).encode().ljust(padding)) for each in requests)
    sending = threading.Thread(target=connected.socket.socket.sendall, args=(burst,))
    sending.start()
    replies = [connected.receive() for _ in requests]
    sending.join(PATIENCE)
    assert {reply["id"] for reply in replies} == {request["id"] for request in requests}
    assert all(reply["success"] for reply in replies)
    assert connected.restore() == ""


def test_a_client_that_goes_in_the_middle_of_a_burst_leaves_nothing(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each piece is parsed in a separate step.
    monkeypatch.setattr(server_socket, "_LONGEST_TURN", 0.0)
    service = serve()
    other = connect(service)
    for _ in range(5):
        peer = connect(service)
        burst = b"".join(masked(json.dumps(each).encode()) for each in frames(COUNT))
        with suppress(OSError):
            peer.socket.socket.sendall(burst)
            peer.socket.socket.shutdown(2)
        assert other.restore() == ""
