"""Memory that a service no longer needs is returned, and idle connections keep little."""

from __future__ import annotations

import gc
import json
import ssl
import subprocess
import sys
import threading
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
import websocket
from support.waiting import eventually

from flask_agentuity.service import ThreadService, idle_memory
from flask_agentuity.service.buffers import Buffers, Held
from flask_agentuity.service.connection import ServedConnection
from flask_agentuity.service.server_socket import ServerSocket
from flask_agentuity.wire import SaveRequest

from .peers import KEY, PATIENCE, THREAD, HeldStore, Peer
from .single_client import SingleClient, certificate, clients

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

KIB = 1024
MIB = KIB * KIB

#: A service that returns memory soon, and must not need the garbage collector.
SERVICE = """
import gc

from flask_agentuity.service import idle_memory
from flask_agentuity.service.command import main

gc.disable()
idle_memory._PAUSE = 0.1
raise SystemExit(main())
"""

CLIENTS = 16
DOCUMENT = json.dumps({"state": {"messages": ["x" * 1000] * 1000}}, separators=(",", ":"))


class Running(NamedTuple):
    """A service in its own process, and how to connect to it."""

    url: str
    pid: int
    context: ssl.SSLContext | None

    def clients(self, count: int = CLIENTS) -> AbstractContextManager[list[SingleClient]]:
        return clients(self.url, count, self.context)

    def memory(self) -> float:
        """Return how many MiB of memory the process has, without mapped files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / KIB


@pytest.fixture(params=["ws", "wss"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    if not Path("/proc/self/status").exists() or not idle_memory._find_function("malloc_trim"):
        pytest.skip("memory is measured with Linux and the GNU C library only")
    options = ["--key", KEY, "--port=0", "--store=sqlite:///threads.db", "--log-level=error"]
    context = None
    if request.param == "wss":
        issued, context = certificate()
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "certificate.pem"))
        options += ["--certificate=certificate.pem"]
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["listening"]
            yield Running(url, process.pid, context)
        finally:
            process.kill()


def thread_id(number: int) -> str:
    return f"thrd_{number:032}"


def each_saves(connected: list[SingleClient]) -> None:
    for number, client in enumerate(connected):
        client.ask("save", thread_id(number), user_data=DOCUMENT)
    for client in connected:
        assert client.receive()["success"] is True


def each_restores(connected: list[SingleClient], times: int = 1, **data: object) -> None:
    for number, client in enumerate(connected):
        for _ in range(times):
            client.ask("restore", thread_id(number), **data)
    for client in connected:
        for _ in range(times):
            assert client.receive()["data"] == DOCUMENT


def test_idle_connections_and_closed_ones_keep_little(running: Running) -> None:
    with running.clients(1) as first:
        each_saves(first)
        each_restores(first)
    # All clients together have a multiple of that.
    bound = running.memory() + CLIENTS / 2

    def is_small() -> bool:
        return running.memory() < bound

    with running.clients() as saving:
        each_saves(saving)
        eventually(is_small, "after saves")
        # More than is sent at once.
        each_restores(saving, 5, age=0)
        eventually(is_small, "after restores of clients that merge by themselves")
    with running.clients() as restoring:
        each_restores(restoring)
        # These clients do not merge, so the service has to remember what they have seen.
        assert running.memory() > bound
    eventually(is_small, "after the end of the connections that restored")
    with running.clients() as refused:
        for client in refused:
            client.ask("save", user_data=[DOCUMENT])
            assert client.receive()["success"] is False
        eventually(is_small, "after refusals")
        for client in refused:
            head = b"\x81\xff" + (4 * MIB).to_bytes(8, "big") + b"mask"
            client.raw_socket.sendall(head + b"x" * MIB)
        eventually(lambda: not is_small(), "the unfinished frames have arrived")
    eventually(is_small, "after unfinished frames")


def test_memory_is_given_back_after_large_frames(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed = threading.Event()

    def trim(pad: int) -> int:
        assert pad == 0
        trimmed.set()
        return 1

    functions = {"malloc_trim": trim}
    monkeypatch.setattr(idle_memory, "_find_function", functions.__getitem__)
    monkeypatch.setattr(idle_memory, "_PAUSE", 0.02)
    monkeypatch.setattr(idle_memory, "_ENOUGH", 64 * KIB)
    peer = connect(serve())
    peer.restore()
    time.sleep(0.1)
    assert not trimmed.is_set()
    peer.call("save", user_data='{"state":{"a":"%s"}}' % ("x" * 100_000))
    assert trimmed.wait(PATIENCE)
    time.sleep(0.1)
    trimmed.clear()
    # What the client had restored is forgotten with its connection.
    peer.close()
    assert trimmed.wait(PATIENCE)


def test_what_is_held_is_given_back(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Buffers] = []

    class Noted(Buffers):
        def __init__(self, limit: int, freed: Callable[[int], object]) -> None:
            super().__init__(limit, freed)
            found.append(self)

    monkeypatch.setattr("flask_agentuity.service.shared.Buffers", Noted)
    peer = connect(serve())
    # Neither text outside ASCII nor refusals leave anything behind.
    for number in range(5):
        assert peer.call("save", user_data='{"state":{"a":"%s"}}' % ("é" * 200_000))["success"]
        assert not peer.call("merge", operations="é" * 200_000)["success"]
        assert peer.restore(f"{THREAD}{number}") == ""
    eventually(lambda: found[0].total == 0)


def test_no_received_data_is_kept(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    for _ in range(3):
        assert peer.call("save", user_data=DOCUMENT)["success"] is True
    views = [each for each in gc.get_objects() if type(each) is memoryview]
    assert all(sys.getsizeof(each.obj) < 10 * KIB for each in views)


@pytest.mark.skipif(
    int(version("websockets").partition(".")[0]) < 17,
    reason="connections of earlier versions refer to themselves",
)
@pytest.mark.parametrize("tls", [False, True])
def test_closed_connections_are_freed_at_once(serve: Serve, tls: bool) -> None:
    server_context = client_context = None
    if tls:
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued, client_context = certificate()
        issued.configure_cert(server_context)
    service = serve(ssl_context=server_context)
    kinds = ServedConnection, ServerSocket, SSLProtocol
    gc.disable()
    # Those of earlier tests.
    gc.collect()
    try:
        with clients(service.url, 3, client_context) as connected:
            each_saves(connected)
            assert len(kept(*kinds)) == (9 if tls else 6)
        eventually(lambda: not kept(*kinds))
    finally:
        gc.enable()


def kept(*kinds: type) -> list[object]:
    return [each for each in gc.get_objects() if type(each) in kinds]


def test_headers_and_control_frames_are_not_held(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Held] = []

    class Noted(Held):
        def __init__(self, buffers: Buffers, tenant: str, close: Callable[[], object]) -> None:
            super().__init__(buffers, tenant, close)
            found.append(self)

    monkeypatch.setattr("flask_agentuity.service.connection.Held", Noted)
    peer = connect(serve())
    (held,) = found
    for padding in (0, 200, 2_000, 70_000):
        peer.call("restore", padding="x" * padding)
        peer.socket.ping().wait(PATIENCE)
        peer.socket.send(["{", " " * 5_000, "}"])
    eventually(lambda: held.size == 0)


def test_connections_that_are_closed_to_free_memory_do_free_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    store = HeldStore()
    service = serve(store, max_frame_bytes=4 * MIB, max_memory_bytes=16 * MIB)
    document = json.dumps({"state": {"text": "x" * 2 * MIB}})
    try:
        with clients(service.url, 10) as connected:
            for number, client in enumerate(connected):
                with suppress(OSError, websocket.WebSocketException):
                    for each in range(3):
                        client.ask("save", f"held {number} {each}", user_data=document)
                        time.sleep(0.02)
        eventually(lambda: "that held" in caplog.text)
        # The bound leaves room for six of ours. Two more may be in threads.
        eventually(lambda: len(kept(SaveRequest)) <= 8, "the requests of closed connections")
    finally:
        store.go.set()
    with clients(service.url, 1) as (client,):
        client.ask("restore")
        assert client.receive()["success"] is True
