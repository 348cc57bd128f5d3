"""``python -m flask_agentuity.service``, as a separate process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed

from flask_agentuity.client import ThreadClient
from flask_agentuity.document.operations import Push
from flask_agentuity.errors import AuthenticationFailed, StoreError

from .peers import AUTHORIZED, KEY, PATIENCE, THREAD, Peer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such signals on Windows")


class Process:
    """One service process, and what it says."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "flask_agentuity.service", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **environment},
        )
        self.said = ""
        # Read all along: a full pipe would stop it.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.said += line

    def url(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.ended() and self.said
        message = json.loads(line)
        assert list(message) == ["listening"]
        url = message["listening"]
        assert isinstance(url, str)
        return url

    def ended(self) -> int:
        """Wait for the end, and return the exit status."""
        status = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.popen.stdout is not None and self.popen.stderr is not None
        assert self.popen.stdout.read() == ""
        self.popen.stdout.close()
        self.popen.stderr.close()
        return status


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[Process] = []

    def make(*arguments: str, **environment: str) -> Process:
        process = Process(
            tmp_path, "--port", "0", "--store", "sqlite:///threads.db", *arguments, **environment
        )
        processes.append(process)
        return process

    yield make
    for process in processes:
        if process.popen.returncode is None:
            process.popen.kill()
        if process.popen.stdout is not None and not process.popen.stdout.closed:
            process.ended()


def items(url: str, thread_id: str = THREAD) -> list[Any]:
    client = ThreadClient(url, KEY)
    try:
        document = client.restore(thread_id)
    finally:
        client.close()
    return json.loads(document)["state"]["l"] if document else []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_is_under_way(start: Start, number: int) -> None:
    process = start("--key", KEY)
    peer = Peer(process.url())
    assert peer.authorize(KEY) == AUTHORIZED
    asked = [
        peer.ask("merge", operations=[{"op": "push", "key": "l", "value": count}])
        for count in range(300)
    ]
    answered = [peer.receive()["id"]]
    process.popen.send_signal(number)
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            reply = peer.receive()
            assert reply["success"] is True
            answered.append(reply["id"])
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    peer.close()
    assert process.ended() == 0
    assert "Traceback" not in process.said
    assert answered == asked[: len(answered)]
    again = start("--key", KEY)
    assert items(again.url()) == list(range(len(answered)))


def test_no_acknowledged_write_is_lost_when_it_is_killed(start: Start) -> None:
    process = start("--key", KEY)
    url = process.url()
    client = ThreadClient(url, KEY, request_timeout=5.0, grace=0.1)
    acknowledged = [0] * 4
    enough = threading.Semaphore(0)

    def write(name: int) -> None:
        try:
            while True:
                client.merge(f"{THREAD}-{name}", [Push("l", b"%d" % acknowledged[name])])
                acknowledged[name] += 1
                enough.release()
        except StoreError:
            pass

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        assert enough.acquire(timeout=PATIENCE)
    process.popen.kill()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    client.close()
    assert process.ended() == -signal.SIGKILL
    again = start("--key", KEY).url()
    for name, count in enumerate(acknowledged):
        stored = items(again, f"{THREAD}-{name}")
        # One that was not acknowledged may have been done, and was not repeated.
        assert stored in (list(range(count)), list(range(count + 1)))


def test_keys_from_everywhere_and_never_in_the_log(start: Start, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(
        "# a comment that is long enough\nin-a-file-of-keys-1\n\n  in-a-file-of-keys-2  \n"
    )
    process = start(
        "--key",
        "on-the-command-line-1",
        "--key",
        "on-the-command-line-2",
        "--key-file",
        "keys",
        "--log-level",
        "debug",
        AGENTUITY_SERVICE_KEYS="in-the-environment-1 in-the-environment-2",
    )
    url = process.url()
    keys = [
        f"{place}-{number}"
        for place in ("in-a-file-of-keys", "on-the-command-line", "in-the-environment")
        for number in (1, 2)
    ]
    for key in keys:
        client = ThreadClient(url, key)
        assert client.restore(THREAD) is None
        client.merge(THREAD, [Push("l", b"1")])
        client.close()
    for wrong in ("a-wrong-key", "# a comment that is long enough"):
        client = ThreadClient(url, wrong)
        with pytest.raises(AuthenticationFailed):
            client.restore(THREAD)
        client.close()
    process.popen.terminate()
    assert process.ended() == 0
    assert process.said.count("was authorized") == len(keys)
    assert "was not authorized" in process.said
    assert not [key for key in [*keys, "a-wrong-key"] if key in process.said]
    assert not [
        key for key in keys if key.encode() in (tmp_path / "threads-tenants.db").read_bytes()
    ]


def test_options_reach_the_service(start: Start) -> None:
    process = start(
        "--key",
        KEY,
        "--max-bytes",
        "100",
        "--max-connections",
        "1",
        "--ttl",
        "0",
        "--authorization-timeout",
        "0.2",
    )
    url = process.url()
    silent = Peer(url)
    assert "0.2 seconds" in silent.receive()["error"]
    silent.closed_with()
    silent.close()
    peer = Peer(url)
    peer.authorize(KEY)
    error = peer.call("save", user_data=json.dumps({"a": "x" * 100}))["error"]
    assert "the limit is 100." in error
    health = url.replace("ws://", "http://").replace("/thread/ws", "/health")
    with urllib.request.urlopen(health, timeout=PATIENCE) as response:
        assert json.load(response) == {"status": "ok", "connections": 1}
    peer.close()


def test_wss(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    process = start(
        *("--key", KEY, "--certificate", "certificate.pem", "--certificate-key", "key.pem")
    )
    client = ThreadClient(process.url(), KEY, ca_file=str(tmp_path / "ca.pem"))
    assert client.restore(THREAD) is None
    client.close()


def test_what_cannot_work_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign-tenants.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = [
            (start(), 2, "AGENTUITY_SERVICE_KEYS"),
            (start("--key-file", "missing"), 2, "missing"),
            (start("--key", ""), 2, "key"),
            (start("--key", KEY, "--store", "mysql://x"), 2, "mysql://"),
            (start("--key", KEY, "--store", "sqlite:///foreign.db"), 1, "another program"),
            (start("--key", KEY, "--port", port), 2, port),
            (start("--key", KEY, "--certificate-key", "x"), 2, "--certificate"),
            (start("--key", KEY, "--certificate", "missing"), 2, "missing"),
        ]
        for process, status, words in cases:
            assert process.ended() == status
            assert words in process.said
            assert "Traceback" not in process.said
            assert process.said.count("\n") == 1


def test_without_websockets_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['websockets'] = None\n"
        "from flask_agentuity.service.command import main\n"
        "sys.exit(main(['--key', 'k' * 16, '--store', 'memory://']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE * 3
    )
    assert done.returncode == 2
    assert 'python -m pip install "flask-agentuity[service]"' in done.stderr
    assert "Traceback" not in done.stderr
