"""Memory that a service no longer needs is returned, and idle connections keep little."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from support.waiting import eventually

from flask_agentuity.service import ThreadService, idle_memory
from flask_agentuity.service.buffers import Buffers, Held

from .peers import KEY, PATIENCE, THREAD, Peer

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

PEERS = 16
DOCUMENT = json.dumps({"state": {"messages": ["x" * 1000] * 1000}})


class Running(NamedTuple):
    """A service in its own process."""

    url: str
    pid: int

    def memory(self) -> float:
        """Return how many MiB of memory the process has, without mapped files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / KIB


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    if not Path("/proc/self/status").exists() or not idle_memory._find_function("malloc_trim"):
        pytest.skip("memory is measured with Linux and the GNU C library only")
    options = ["--key", KEY, "--port=0", "--store=sqlite:///threads.db", "--log-level=error"]
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Running(json.loads(process.stdout.readline())["listening"], process.pid)
        finally:
            process.kill()


def thread_id(number: int) -> str:
    return f"thrd_{number:032}"


def each_saves(peers: list[Peer]) -> None:
    for number, peer in enumerate(peers):
        peer.ask("save", thread_id(number), user_data=DOCUMENT)
    for peer in peers:
        assert peer.receive()["success"] is True


def each_restores(peers: list[Peer], **data: object) -> None:
    for number, peer in enumerate(peers):
        peer.ask("restore", thread_id(number), **data)
    for peer in peers:
        assert peer.receive()["data"] == DOCUMENT.replace(" ", "")


def close(peers: list[Peer]) -> None:
    for peer in peers:
        with suppress(OSError):
            peer.close()


def test_idle_connections_and_closed_ones_keep_little(running: Running, connect: Connect) -> None:
    def peers() -> list[Peer]:
        return [connect(running.url) for _ in range(PEERS)]

    first = connect(running.url)
    each_saves([first])
    each_restores([first])
    # All peers together have a multiple of that.
    bound = running.memory() + PEERS / 2

    def is_small() -> bool:
        return running.memory() < bound

    saving = peers()
    each_saves(saving)
    eventually(is_small, "after saves")
    each_restores(saving, age=0)
    eventually(is_small, "after restores of clients that merge by themselves")
    close(saving)
    restoring = peers()
    each_restores(restoring)
    # These clients do not merge, so the service has to remember what they have seen.
    assert running.memory() > bound
    close(restoring)
    eventually(is_small, "after the end of the connections that restored")
    refused = peers()
    for peer in refused:
        peer.raw(json.dumps({"id": "1", "action": "save", "data": {"no": DOCUMENT}}))
        assert peer.receive()["success"] is False
    eventually(is_small, "after refusals")
    for peer in refused:
        head = b"\x81\xff" + (4 * MIB).to_bytes(8, "big") + b"mask"
        peer.socket.socket.sendall(head + b"x" * MIB)
    eventually(lambda: not is_small(), "the unfinished frames have arrived")
    for peer in refused:
        peer.socket.socket.shutdown(socket.SHUT_RDWR)
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
        peer.socket.send(["{", " " * 5_000, "}"], text=True)
    eventually(lambda: held.size == 0)
