"""Clients without a key: they get little, for a short time, and keep no one out."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
import websocket
from support.waiting import eventually
from websockets.exceptions import InvalidStatus

from flask_agentuity.client import ThreadClient
from flask_agentuity.errors import AuthenticationFailed, ConfigurationError, ServiceUnavailable
from flask_agentuity.service import ThreadService, open_files
from flask_agentuity.service.addresses import TrustedAddresses, source_of
from flask_agentuity.service.settings import ServiceSettings
from flask_agentuity.service.wrong_keys import FREE_ATTEMPTS, WrongKeys
from flask_agentuity.stores.memory import MemoryStore

from .peers import AUTHORIZED, KEY, PATIENCE, THREAD, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]
Knock = Callable[..., socket.socket]

WRONG = "a wrong key of the tests"


@pytest.fixture
def knock() -> Iterator[Knock]:
    """Opens a TCP connection, and sends nothing."""
    with ExitStack() as opened:

        def make(url: str, source: str = "127.0.0.1") -> socket.socket:
            parts = urlsplit(url)
            assert parts.hostname and parts.port
            address, place = (parts.hostname, parts.port), (source, 0)
            made = socket.create_connection(address, PATIENCE, source_address=place)
            return opened.enter_context(made)

        yield make


def is_closed(knocking: socket.socket) -> bool:
    """Wait until the other end says something, and return whether that is the end."""
    try:
        return knocking.recv(1) == b""
    except ConnectionError:
        return True


def is_open(knocking: socket.socket) -> bool:
    knocking.setblocking(False)
    try:
        return knocking.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


# How many


def test_silent_sockets_give_way_to_others(
    serve: Serve, connect: Connect, knock: Knock, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve(max_unauthorized=10)
    let_in = connect(service)
    silent = [knock(service.url) for _ in range(40)]
    assert all(is_closed(each) for each in silent[:30])
    assert connect(service).restore() == let_in.restore() == ""
    eventually(lambda: sum(map(is_open, silent)) <= 10)
    assert len(caplog.records) <= 2


def test_each_address_has_so_many(serve: Serve, connect: Connect, knock: Knock) -> None:
    service = serve(max_unauthorized_per_address=3, trusted_addresses=())
    other = knock(service.url, "127.0.0.2")
    silent = [knock(service.url) for _ in range(5)]
    assert all(is_closed(each) for each in silent[:2])
    # Those with a good key do not count.
    assert all(connect(service).restore() == "" for _ in range(5))
    assert is_open(other)


def test_trusted_addresses_have_as_many_as_they_want(serve: Serve, knock: Knock) -> None:
    service = serve(
        max_unauthorized=6, max_unauthorized_per_address=1, trusted_addresses=["127.0.0.2/32"]
    )
    trusted = [knock(service.url, "127.0.0.2") for _ in range(5)]
    strangers = [knock(service.url, f"127.0.0.{number}") for number in range(3, 8)]
    # Strangers give way first.
    assert all(is_closed(each) for each in strangers[:4])
    assert all(map(is_open, trusted))


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_what_counts_as_one_address(host: str, source: str) -> None:
    assert source_of(host) == source


def test_trusted_networks() -> None:
    trusted = TrustedAddresses(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
    assert "10.1.2.3" in trusted
    assert "::ffff:10.1.2.3" in trusted
    assert "2001:db8::1" in trusted
    assert "192.0.2.7" in trusted
    assert "192.0.2.8" not in trusted
    assert "no address" not in trusted
    with pytest.raises(ConfigurationError, match=r"trusted_addresses.*10\.0\.0\.0/8"):
        TrustedAddresses(["10.0.0.0/99"])


# How long


def test_five_seconds_are_the_default() -> None:
    assert ServiceSettings.authorization_timeout == 5.0


@pytest.mark.parametrize("stage", ["nothing", "a part of the handshake", "the handshake"])
def test_an_address_has_so_long(serve: Serve, connect: Connect, knock: Knock, stage: str) -> None:
    service = serve(authorization_timeout=0.2)
    if stage == "the handshake":
        assert connect(service, key=None).closed_with()[0] == 1008
        return
    knocking = knock(service.url)
    if stage == "a part of the handshake":
        knocking.sendall(b"GET /thread/ws HTTP/1.1\r\n")
    assert is_closed(knocking)


def test_a_tls_handshake_counts(serve: Serve, knock: Knock) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    service = serve(authorization_timeout=0.2, max_unauthorized=5, ssl_context=context)
    silent = [knock(service.url.replace("wss", "ws")) for _ in range(8)]
    assert all(map(is_closed, silent))


def test_silent_sockets_do_not_delay_the_end(serve: Serve, knock: Knock) -> None:
    service = serve(drain_timeout=60.0, authorization_timeout=60.0)
    silent = [knock(service.url) for _ in range(3)]
    silent[0].sendall(b"GET /thread/ws HTTP/1.1\r\n")
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 30


# How much


def test_an_unfinished_first_frame_is_refused_when_it_is_too_long(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(), key=None)
    head = b"\x81\xff" + struct.pack("!Q", 8_000_000) + b"mask"
    peer.socket.socket.sendall(head + b"x" * 100_000)
    assert "4,096 bytes" in peer.receive()["error"]
    assert peer.closed_with()[0] in (1008, 1006, None)


def test_a_handshake_is_small(serve: Serve, connect: Connect, knock: Knock) -> None:
    service = serve()
    knocking = knock(service.url)
    knocking.sendall(b"GET /thread/ws HTTP/1.1\r\n")
    try:
        for number in range(100):
            knocking.sendall(b"X-%d: %b\r\n" % (number, b"x" * 8_000))
    except ConnectionError:
        pass
    assert is_closed(knocking)
    assert connect(service, additional_headers={"X": "x" * 8_000}).restore() == ""


# Files


@pytest.mark.skipif(sys.platform != "linux", reason="it counts on Linux's numbers of files")
def test_near_the_limit_of_files_others_are_closed(
    tmp_path: Path, connect: Connect, knock: Knock
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))

    options = [f"--key={KEY}", "--port=0", "--store=memory://", "--max-unauthorized=1000"]
    with subprocess.Popen(
        [sys.executable, "-m", "flask_agentuity.service", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        url = json.loads(process.stdout.readline())["listening"]
        silent = [knock(url) for _ in range(200)]
        client = ThreadClient(url, KEY, reconnect_base=0.01, grace=PATIENCE)
        eventually(lambda: client_gets_in(client))
        client.close()
        assert len(silent) == 200
        process.terminate()
        log = process.stderr.read()
    assert "near its limit of open files" in log
    assert "Traceback" not in log
    assert len(log.splitlines()) < 20


@pytest.mark.skipif(sys.platform != "linux", reason="it counts on Linux's numbers of files")
def test_files_are_left_for_the_store(
    serve: Serve, connect: Connect, knock: Knock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(authorization_timeout=PATIENCE * 10)
    let_in = connect(service)
    next_number = os.dup(0)
    os.close(next_number)
    # Each connection takes a file of the service and one of the test.
    few = next_number + open_files.RESERVED + 20
    monkeypatch.setattr(open_files, "_limit", lambda: few)
    silent = [knock(service.url) for _ in range(20)]
    assert is_closed(silent[0])
    assert is_open(silent[-1])
    assert let_in.restore() == ""
    # Those that hold the files have a key.
    monkeypatch.setattr(open_files, "_limit", lambda: next_number + open_files.RESERVED // 2)
    assert is_closed(knock(service.url))
    assert let_in.restore() == ""


def client_gets_in(client: ThreadClient) -> bool:
    try:
        return client.restore(THREAD) is None
    except ServiceUnavailable:
        return False


# Wrong keys


def test_wrong_keys_are_slowed_for_each_address(serve: Serve, connect: Connect) -> None:
    service = serve(trusted_addresses=())
    let_in, early = connect(service), connect(service, key=None)
    for _ in range(FREE_ATTEMPTS):
        with_wrong_key(service.url)
    # Neither a wrong key nor the right one is looked at now.
    for key in (WRONG, KEY):
        with pytest.raises(InvalidStatus) as caught:
            Peer(service.url).authorize(key)
        assert caught.value.response.status_code == 429
        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 6
    early.send({"authorization": KEY})
    assert early.closed_with()[0] == 1013
    client = ThreadClient(service.url, KEY)
    with pytest.raises(ServiceUnavailable, match="429"):
        client.restore(THREAD)
    client.close()
    assert let_in.restore() == ""
    elsewhere = connect(service, source_address=("127.0.0.2", 0))
    assert elsewhere.restore() == ""


def with_wrong_key(url: str) -> None:
    client = ThreadClient(url, WRONG)
    with pytest.raises(AuthenticationFailed):
        client.restore(THREAD)
    client.close()


def test_a_trusted_address_is_not_slowed(serve: Serve, connect: Connect) -> None:
    service = serve()
    for _ in range(FREE_ATTEMPTS + 1):
        with_wrong_key(service.url)
    assert connect(service).restore() == ""


def test_an_address_gets_its_attempts_back_one_by_one() -> None:
    now = [0.0]
    wrong_keys = WrongKeys(lambda: now[0])
    tried = 0
    for second in range(600):
        now[0] = float(second)
        while not wrong_keys.wait("a"):
            wrong_keys.count("a")
            tried += 1
    assert tried == FREE_ATTEMPTS + 99
    assert wrong_keys.wait("a") > 0
    assert wrong_keys.wait("b") == 0
    now[0] += 3600
    assert wrong_keys.wait("a") == 0


def test_so_many_addresses_are_remembered() -> None:
    wrong_keys = WrongKeys()
    for number in range(10_100):
        wrong_keys.count(str(number))
    assert len(wrong_keys) == 10_000


# Web pages


def test_a_web_page_is_refused_unless_its_origin_is_allowed(serve: Serve, connect: Connect) -> None:
    service = serve(allowed_origins=["https://chat.example"])
    for origin in ("https://evil.example", "null", "https://chat.example.evil.example"):
        with pytest.raises(InvalidStatus) as caught:
            Peer(service.url, origin=origin)
        assert caught.value.response.status_code == 403
    peer = connect(service, origin="https://chat.example")
    assert peer.restore() == ""
    assert connect(service).restore() == ""


def test_only_the_own_origin_is_allowed_without_the_option(serve: Serve, connect: Connect) -> None:
    service = serve()
    host = service.url.removeprefix("ws").removesuffix("/thread/ws")
    with pytest.raises(InvalidStatus):
        Peer(service.url, origin=f"http{host}0")
    # Behind a proxy with TLS, the scheme is another.
    for scheme in ("http", "https"):
        assert connect(service, origin=f"{scheme}{host}").restore() == ""


def test_the_origin_that_websocket_client_sends_is_allowed(serve: Serve) -> None:
    with closing(websocket.create_connection(serve().url, timeout=10)) as socket:
        socket.send(json.dumps({"authorization": KEY}))
        assert json.loads(socket.recv())["success"] is True


# The log


def test_bad_clients_leave_few_lines(
    serve: Serve, knock: Knock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = serve()
    before = len(caplog.records)

    def send(text: bytes) -> None:
        knocking = knock(service.url)
        knocking.sendall(text)
        knocking.shutdown(socket.SHUT_WR)
        while not is_closed(knocking):
            pass

    for number in range(30):
        send(b"rubbish %d\r\n\r\n" % number)
        peer: Any = Peer(service.url)
        assert peer.authorize(f"{WRONG} {number}")["success"] is False
        peer.close()
    assert len(caplog.records) - before <= 4


def test_control_characters_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    service = ThreadService(MemoryStore(), own_key=KEY)
    service.start()
    try:
        peer = Peer(service.url)
        assert peer.authorize(KEY) == AUTHORIZED
        document = '{"state":{"a":"%s"}}' % ("x" * 2_000_000)
        peer.call("save", "t\x1b[2J\nforged", user_data=document)
        peer.close()
    finally:
        service.stop()
    assert caplog.messages
    assert not any("\x1b" in line or "\n" in line for line in caplog.messages)
