"""A real Redis for the tests: started on a free port, stopped, killed, frozen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from support.ports import free_port

#: Seconds after which a server that does not come up fails the test, not what it takes.
PATIENCE = 30.0


def binary() -> str:
    """Return the path of the server; without one, skip, but fail where CI must have it."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    reason = "there is no redis-server on the PATH"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """One server process of the tests, with nothing kept on disk unless asked for."""

    def __init__(
        self, folder: Path, *options: str, configuration: Path | None = None, port: int = 0
    ) -> None:
        self._folder = folder
        self._configuration = [] if configuration is None else [str(configuration)]
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.path = folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self, ready: bytes = b"+PONG") -> None:
        """Start the server, on the port it had before where it had one.

        :param ready: what the server answers when it has come as far as wanted.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            port = self.port or free_port()
            self._process = subprocess.Popen(
                [
                    binary(),
                    *self._configuration,
                    *("--bind", "127.0.0.1", "--port", str(port)),
                    *("--dir", str(self._folder), "--unixsocket", str(self.path)),
                    *("--save", "", "--appendonly", "no", *self._options),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while self._process.poll() is None:
                if asked(port).startswith(ready):
                    self.port = port
                    return
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)
            # Another process has taken the port in the meantime.
            assert time.monotonic() < deadline, "the server does not start"

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        """Let the server hang: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def asked(port: int) -> bytes:
    """Return how the server answers a PING; nothing where there is none."""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100)
    except OSError:
        return b""


@contextmanager
def running(
    folder: Path,
    *options: str,
    configuration: Path | None = None,
    ready: bytes = b"+PONG",
) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options, configuration=configuration)
    try:
        server.start(ready)
        yield server
    finally:
        server.stop()


def pass_time(client: Any, seconds: float) -> None:
    """Take *seconds* from what every key has left, and from the times that threads have stored."""
    micros = round(seconds * 1_000_000)
    # A scan may return a key twice.
    for key in set(client.scan_iter()):
        if client.type(key) == b"hash":
            for field, text in client.hgetall(key).items():
                if field == b"head":
                    parts = text.split(b" ")
                    for place in (3, 4, 6):
                        if float(parts[place]):
                            parts[place] = b"%.6f" % (float(parts[place]) - seconds)
                    client.hset(key, field, b" ".join(parts))
                elif field == b"gone":
                    deleted, _, version = text.partition(b" ")
                    client.hset(key, field, b"%d %b" % (int(deleted) - micros, version))
                elif field == b"lock":
                    holder, _, expires = text.partition(b" ")
                    client.hset(key, field, b"%b %d" % (holder, int(expires) - micros))
        elif key.endswith(b":turn"):
            token, renewals, renewed, rest = client.get(key).split(b" ", 3)
            parts = token, renewals, b"%d" % (int(renewed) - micros), rest
            client.set(key, b" ".join(parts), keepttl=True)
        elif client.type(key) == b"zset" and float(client.zrange(key, 0, 0, withscores=True)[0][1]):
            for member, score in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {member: score - seconds})
        left = client.pttl(key)
        if left >= 0:
            client.pexpire(key, int(left - seconds * 1000))


def measured(client: redis.Redis, call: Callable[[], object]) -> tuple[dict[str, int], int, int]:
    """Return the commands that *call* ran in the server, and the bytes in and out."""
    client.config_resetstat()
    call()
    # Before another reply, whose length depends on the time that the commands took.
    stats = client.info("stats")
    commands = {
        name.removeprefix("cmdstat_"): values["calls"]
        for name, values in client.info("commandstats").items()
        if "config" not in name and "info" not in name
    }
    return commands, stats["total_net_input_bytes"], stats["total_net_output_bytes"]
