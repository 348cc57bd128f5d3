"""A reply leaves at once, also if the client has not acknowledged the one before it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

import pytest

from flask_agentuity.service import ThreadService, listener

from .single_client import SingleClient, certificate, clients

Serve = Callable[..., ThreadService]


class Recording:
    """Admits all sockets, and keeps them."""

    def __init__(self) -> None:
        self.accepted: list[listener.AcceptedSocket] = []

    def admit(self, accepted: listener.AcceptedSocket) -> bool:
        self.accepted.append(accepted)
        return True

    def refuse_for_lack_of_files(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_sockets_name_their_protocol(host: str) -> None:
    gate = Recording()
    try:
        (listening,) = listener.listen(host, 0, gate)
    except OSError:
        pytest.skip(f"there is no {host} here")
    with listening:
        listening.setblocking(True)
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0]:
            assert [each.proto for each in gate.accepted] == [socket.IPPROTO_TCP]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_two_replies_do_not_wait_for_an_acknowledgement(serve: Serve, scheme: str) -> None:
    trusting = context = None
    if scheme == "wss":
        leaf, trusting = certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
    with clients(serve(ssl_context=context).url, 1, trusting) as (client,):
        fastest = min(pair(client) for _ in range(20))
    # The system acknowledges after 40 ms if it has nothing else to send. One of 20 is fast enough
    # on a busy machine, too.
    assert fastest < 0.035


def pair(client: SingleClient) -> float:
    """Return how long two requests take that are sent together."""
    began = time.perf_counter()
    client.ask("restore")
    client.ask("restore")
    client.receive()
    client.receive()
    return time.perf_counter() - began
