"""Many frames that arrive at once are parsed little by little, and none is lost."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_client

from flask_agentuity.service import ThreadService, server_socket

from .peers import KEY, PATIENCE, THREAD, Peer
from .single_client import certificate

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

COUNT = 2_000


def masked(payload: bytes) -> bytes:
    """Return a text frame of less than 64 KiB, with a mask that changes nothing."""
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + b"\0\0\0\0" + payload


def frames(count: int) -> list[dict[str, Any]]:
    data = {"thread_id": THREAD}
    return [{"id": str(number), "action": "restore", "data": data} for number in range(count)]


@pytest.mark.parametrize("padding", [0, 60_000])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_all_requests_of_a_burst_are_answered(serve: Serve, scheme: str, padding: int) -> None:
    requests = frames(COUNT if not padding else 100)
    burst = b"".join(masked(json.dumps(each).encode().ljust(padding)) for each in requests)
    trusting = context = None
    if scheme == "wss":
        leaf, trusting = certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
    service = serve(ssl_context=context)
    replies = asyncio.run(send_burst(service.url, trusting, burst, len(requests)))
    assert {reply["id"] for reply in replies} == {request["id"] for request in requests}
    assert all(reply["success"] for reply in replies)


async def send_burst(
    url: str, context: ssl.SSLContext | None, burst: bytes, count: int
) -> list[dict[str, Any]]:
    """Send and receive at the same time, in one thread: two must not use one TLS socket."""
    async with asyncio.timeout(PATIENCE), open_client(url, ssl=context, compression=None) as client:
        await client.send(json.dumps({"authorization": KEY}))
        await client.recv()
        client.transport.write(burst)
        replies = [json.loads(await client.recv()) for _ in range(count)]
        await client.send(json.dumps(frames(1)[0]))
        assert json.loads(await client.recv())["data"] == ""
        return replies


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
