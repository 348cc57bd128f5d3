"""Limits, plain HTTP, slow and bad clients, and the end: on real sockets."""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.waiting import eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_socket

from flask_agentuity.client import ThreadClient
from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.errors import ConfigurationError, ServiceUnavailable
from flask_agentuity.service import ThreadService
from flask_agentuity.service.settings import DEFAULT_MAX_FRAME_BYTES
from flask_agentuity.stores.memory import MemoryStore

from .peers import AUTHORIZED, KEY, PATIENCE, THREAD, HeldStore, Peer
from .single_client import certificate, clients

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

MEGABYTE = 1_000_000


def address(service: ThreadService) -> tuple[str, int]:
    parts = urlsplit(service.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def get(service: ThreadService, path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(*address(service), timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        return response.status, response.headers["Content-Type"].partition(";")[0], body
    finally:
        connection.close()


# HTTP


def test_the_health_needs_no_key(serve: Serve, connect: Connect) -> None:
    service = serve()
    for path in ("/health", "/health?from=balancer"):
        status, kind, body = get(service, path)
        assert (status, kind) == (200, "application/json")
        assert json.loads(body) == {"status": "ok", "connections": 0}
    connect(service)
    assert json.loads(get(service, "/health")[2])["connections"] == 1


@pytest.mark.parametrize("path", ["/", "/threads", "/thread-x", "/health/x", "//thread/ws", "*"])
def test_elsewhere_is_nothing(serve: Serve, path: str) -> None:
    service = serve()
    assert get(service, path)[0] == 404
    with (
        pytest.raises(InvalidStatus) as caught,
        connect_socket(service.url.removesuffix("/thread/ws") + path.replace("*", "/*")),
    ):
        pass
    assert caught.value.response.status_code == 404


def test_a_browser_at_the_endpoint_is_told_to_upgrade(serve: Serve) -> None:
    assert get(serve(), "/thread/ws")[0] == 426


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /thread/ws HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 100_000,
        b"GET /thread/ws HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
        b"\0" * 1000,
        b"GET /thread/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_handshake_does_no_harm(
    serve: Serve, connect: Connect, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve()
    peer = connect(service)
    with socket.create_connection(address(service), timeout=PATIENCE) as knocking:
        try:
            knocking.sendall(rubbish)
            knocking.shutdown(socket.SHUT_WR)
            while knocking.recv(65_536):
                pass
        except OSError:
            pass  # it was shown the door
    assert peer.restore() == ""
    assert not any(record.exc_info for record in caplog.records)


# Frames


def test_the_frame_limit_is_exact(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    head = json.dumps({"id": "1", "action": "restore", "data": {"thread_id": THREAD}})[:-2]
    room = DEFAULT_MAX_FRAME_BYTES - len(head) - len(',"x":""}}')
    peer.raw(head + ',"x":"' + "x" * room + '"}}')
    assert peer.receive() == {"id": "1", "success": True, "data": ""}
    peer.raw(head + ',"x":"' + "x" * (room + 1) + '"}}')
    code, reason = peer.closed_with()
    assert code == 1009
    assert f"{DEFAULT_MAX_FRAME_BYTES + 1}" in reason
    assert connect(service).restore() == ""


def test_a_frame_that_announces_a_terabyte(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    peer.socket.socket.sendall(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"mask")
    assert peer.closed_with()[0] == 1009
    assert connect(service).restore() == ""


def test_fragments_without_an_end(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(max_frame_bytes=4 * 1024 * 1024))
    with pytest.raises(ConnectionClosed) as caught:
        peer.socket.send(itertools.repeat("x" * 65_536))
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


def test_frames_that_are_not_websocket(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    peer.socket.socket.sendall(b"\xff" * 100)
    assert peer.closed_with()[0] == 1002
    assert connect(service).restore() == ""


# Others


def test_a_slow_reader_delays_no_other_and_takes_little_room(
    serve: Serve, connect: Connect
) -> None:
    calls: list[str] = []
    document = '{"state":{"a":"%s"}}' % ("x" * MEGABYTE)

    class Large(MemoryStore):
        def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
            if "large" not in thread_id:
                return super().read(thread_id, keys)
            calls.append(thread_id)
            return codec.split_document(document, thread_id)

    service = serve(Large(), max_requests=4)
    slow, other = connect(service), connect(service)
    asked = {slow.ask("restore", f"large {number}") for number in range(150)}
    for number in range(100):
        assert other.call("merge", operations=[{"op": "push", "key": "l", "value": number}])
    # Some are in the sockets' buffers; the rest was not even read from the store.
    assert len(calls) < 100
    replies = [slow.receive() for _ in asked]
    assert {reply["id"] for reply in replies} == asked
    assert all(reply["data"] == document for reply in replies)


def test_a_client_that_goes_at_once_is_served_to_the_end(serve: Serve, connect: Connect) -> None:
    store = HeldStore()
    service = serve(store)
    peer, other = connect(service), connect(service)
    peer.ask("merge", "held", operations=[{"op": "push", "key": "l", "value": 1}])
    assert store.held.acquire(timeout=PATIENCE)
    peer.socket.socket.shutdown(socket.SHUT_RDWR)
    store.go.set()
    eventually(lambda: other.restore("held") == '{"state":{"l":[1]}}')


def test_there_is_room_for_so_many_and_no_more(serve: Serve, connect: Connect) -> None:
    service = serve(max_connections=2)
    first, second = connect(service), connect(service)
    with pytest.raises(InvalidStatus) as caught:
        Peer(service.url)
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) > 0
    client = ThreadClient(service.url, KEY)
    with pytest.raises(ServiceUnavailable, match="503"):
        client.restore(THREAD)
    client.close()
    first.close()
    eventually(lambda: json.loads(get(service, "/health")[2])["connections"] == 1)
    assert connect(service).restore() == second.restore() == ""


def test_many_connections_come_and_go(serve: Serve) -> None:
    service = serve()

    def visit(number: int) -> None:
        peer = Peer(service.url)
        assert peer.authorize(KEY) == AUTHORIZED
        assert peer.call("merge", operations=[{"op": "push", "key": "l", "value": number}])
        if number % 2:
            peer.close()
        else:
            peer.socket.socket.shutdown(socket.SHUT_RDWR)
            peer.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(120)))
    eventually(lambda: json.loads(get(service, "/health")[2])["connections"] == 0)
    peer = Peer(service.url)
    peer.authorize(KEY)
    assert sorted(json.loads(peer.restore())["state"]["l"]) == list(range(120))
    peer.close()


# The end


@pytest.fixture
def stopping() -> Iterator[Callable[[ThreadService], threading.Thread]]:
    """Begins to stop a service, and returns once it listens no more."""
    threads: list[threading.Thread] = []

    def begin(service: ThreadService) -> threading.Thread:
        thread = threading.Thread(target=service.stop)
        threads.append(thread)
        thread.start()
        eventually(lambda: not listens(service))
        return thread

    yield begin
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


Stopping = Callable[[ThreadService], threading.Thread]


def listens(service: ThreadService) -> bool:
    try:
        socket.create_connection(address(service), timeout=PATIENCE).close()
    except ConnectionError:
        return False
    return True


def test_what_is_under_way_is_answered_before_the_end(
    serve: Serve, connect: Connect, stopping: Stopping
) -> None:
    store = HeldStore()
    service = serve(store)
    peers = [connect(service) for _ in range(3)]
    asked = {
        peer.ask("merge", "held", operations=[{"op": "push", "key": "l", "value": 1}]): peer
        for peer in peers
        for _ in range(5)
    }
    idle, unknown = connect(service), connect(service, key=None)
    for _ in peers:
        assert store.held.acquire(timeout=PATIENCE)
    # The one behind has arrived, but was not begun yet.
    ending = stopping(service)
    assert idle.closed_with()[0] == 1001
    assert unknown.closed_with()[0] == 1001
    assert ending.is_alive()
    store.go.set()
    for id, peer in asked.items():
        assert peer.receive() == {"id": id, "success": True}
    for peer in peers:
        assert peer.closed_with()[0] == 1001
    ending.join(PATIENCE)
    tenants = store.for_tenants()
    (document,) = [tenants.restore(thread_id) for thread_id in tenants._threads]
    assert document == b'{"state":{"l":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}'


def test_a_store_that_hangs_does_not_keep_it_from_ending(
    serve: Serve, connect: Connect, stopping: Stopping, caplog: pytest.LogCaptureFixture
) -> None:
    store = HeldStore()
    service = serve(store, drain_timeout=0.2)
    peer = connect(service)
    peer.ask("restore", "held")
    assert store.held.acquire(timeout=PATIENCE)
    stopping(service).join(PATIENCE)
    assert not service.running
    assert peer.closed_with()[0] != 1000
    assert "were not closed within 0.2 seconds" in caplog.text
    store.go.set()


def test_stopping_is_possible_at_any_time(serve: Serve) -> None:
    service = ThreadService(MemoryStore(), [KEY])
    service.stop()
    with pytest.raises(ConfigurationError, match="not started"):
        _ = service.url
    service.start()
    with pytest.raises(ConfigurationError, match="started before"):
        service.start()
    service.stop()
    service.stop()
    assert not service.running


# How it is set up


def test_a_port_that_is_taken(serve: Serve) -> None:
    host, port = address(serve())
    with pytest.raises(ConfigurationError, match=f"{host}:{port}"):
        ThreadService(MemoryStore(), [KEY], port=port).start()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", -1),
        ("port", 65_536),
        ("max_frame_bytes", 1024),
        ("max_connections", 0),
        ("max_requests", 0),
        ("workers", 1.5),
        ("authorization_timeout", 0),
        ("drain_timeout", float("nan")),
    ],
)
def test_wrong_options(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        ThreadService(MemoryStore(), [KEY], **{option: value})


@pytest.mark.parametrize(
    "keys", [[], [""], [" " * 20], [KEY, ""], ["\ud800" * 16], [5], ["x" * 15], [" " + "x" * 15]]
)
def test_wrong_keys(keys: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="key") as refused:
        ThreadService(MemoryStore(), keys)
    assert "x" * 15 not in str(refused.value)


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}\t{KEY}", f"{KEY}\x00"])
def test_a_key_that_no_client_can_send(key: str) -> None:
    for options in ({"keys": [key]}, {"own_key": key}):
        with pytest.raises(ConfigurationError, match="white space, such as the newline"):
            ThreadService(MemoryStore(), **options)


def test_a_key_of_16_characters_is_long_enough() -> None:
    ThreadService(MemoryStore(), ["x" * 16])
    with pytest.raises(ConfigurationError, match=r"at least 16 characters.*token_urlsafe"):
        ThreadService(MemoryStore(), ["short"])


def test_ipv6(serve: Serve, connect: Connect) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 on this system")
    service = serve(host="::1")
    assert service.url.startswith("ws://[::1]:")
    assert connect(service).restore() == ""


def test_wss(serve: Serve) -> None:
    leaf, trusting = certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    service = serve(ssl_context=context)
    assert service.url.startswith("wss://127.0.0.1:")
    with clients(service.url, 1, trusting) as (client,):
        client.ask("restore")
        assert client.receive()["data"] == ""


def test_no_key_is_ever_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = serve(MemoryStore(), "a-good-key-of-7f3a")
    assert connect(service, "a-good-key-of-7f3a").restore() == ""
    peer = connect(service, key=None)
    peer.send({"authorization": "a-wrong-key-of-9b21"})
    assert "9b21" not in peer.receive()["error"]
    assert peer.closed_with() == (1008, "not authorized")
    service.stop()
    said = "\n".join(
        record.getMessage()
        for record in caplog.records
        # The tests' own end of the wire.
        if record.name != "websockets.client"
    )
    assert "was authorized" in said
    assert "was not authorized" in said
    assert "7f3a" not in said
    assert "9b21" not in said
