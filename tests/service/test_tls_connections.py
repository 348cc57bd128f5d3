"""TLS connections have small buffers, and lose nothing of large replies."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket
from support.waiting import eventually

from flask_agentuity.service import ThreadService

from .peers import PATIENCE
from .single_client import SingleClient, certificate, clients

#: More than the system's buffers take, if a client asks for it several times.
DOCUMENT = json.dumps(
    {"state": {"messages": [f"{number:_>1000}" for number in range(900)]}}, separators=(",", ":")
)
TIMES = 8

Opened = tuple[ThreadService, SingleClient]


@pytest.fixture
def opened(serve: Callable[..., ThreadService], request: pytest.FixtureRequest) -> Iterator[Opened]:
    """A service with TLS that keeps a document, and a client of it."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued, trusting = certificate()
    issued.configure_cert(context)
    service = serve(ssl_context=context, **options)
    with clients(service.url, 1, trusting) as (client,):
        client.ask("save", user_data=DOCUMENT)
        assert client.receive()["success"] is True
        yield service, client


def test_large_replies_to_a_slow_reader_are_complete(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    _, client = opened
    asked = [client.ask("restore") for _ in range(TIMES)]
    for id in asked:
        time.sleep(0.05)
        reply = client.receive()
        assert (reply["id"], reply["data"]) == (id, DOCUMENT)
    # asyncio logs exceptions of its protocols.
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_a_reply_that_has_begun_is_sent_before_a_client_is_left(opened: Opened) -> None:
    _, client = opened
    for _ in range(TIMES):
        client.ask("restore")
    time.sleep(0.2)
    client.socket.send_close(1000)
    replies = []
    while True:
        opcode, data = client.socket.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        replies.append(json.loads(data))
    assert replies
    assert all(reply["data"] == DOCUMENT for reply in replies)


def test_what_waits_is_sent_before_the_end(opened: Opened) -> None:
    service, client = opened
    asked = [client.ask("restore") for _ in range(TIMES)]
    replies = [client.receive()]
    ending = threading.Thread(target=service.stop)
    ending.start()
    replies += [client.receive() for _ in asked[1:]]
    assert [reply["id"] for reply in replies] == asked
    assert all(reply["data"] == DOCUMENT for reply in replies)
    assert client.close_code() == 1001
    client.hang_up()
    ending.join(PATIENCE)


@pytest.mark.parametrize("opened", [{"send_timeout": 0.3}], indirect=True)
def test_a_client_that_does_not_read_is_disconnected(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    _, client = opened
    for _ in range(TIMES):
        client.ask("restore")
    eventually(lambda: "does not read its replies" in caplog.text)
    with pytest.raises((OSError, websocket.WebSocketException)):
        for _ in range(TIMES):
            client.receive()
