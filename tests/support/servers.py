"""Real servers in processes of their own, and a client that hides nothing."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from support.ports import free_port
from support.waiting import eventually

#: Seconds after which something that must happen is taken for not happening.
PATIENCE = 30.0

TESTS = Path(__file__).parents[1]

WERKZEUG = [sys.executable, "-m", "flask", "--app", "server.app:create_app", "run"]
WERKZEUG += ["--port", "0", "--with-threads", "--no-reload", "--no-debugger"]


def gunicorn(worker: str, workers: int = 1, *options: str) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "server.app:create_app()", "-b", "127.0.0.1:0"]
    command += ["-k", worker, "-w", str(workers), "--threads", "8", *options]
    # The control socket has one place for all servers of a user.
    return [*command, "--no-control-socket"]


def uwsgi(app: str, *options: str) -> list[str]:
    """Return a command for uWSGI with two workers; skip if it is not installed."""
    path = shutil.which(
        "uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    )
    if path is None:
        pytest.skip("uwsgi is not installed: pip install pyuwsgi, or uwsgi")
    # After a reload, it would bind another port if it could choose.
    command = [path, "--http-socket", f"127.0.0.1:{free_port()}", "--master", "--processes", "2"]
    command += ["--need-app", "--enable-threads", "--module", app]
    # As a service manager stops it.
    command += ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all"]
    return [*command, "--virtualenv", sys.prefix, *options]


class Server:
    """A server process: where it listens, what it says, what its app tells of."""

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        self.folder = folder
        self.instance = folder / "instance"
        self._command = command
        self._environment = environment
        self._log = folder / "server.log"
        self._events = folder / "events"
        self.address = ("127.0.0.1", 0)

    def start(self) -> None:
        begin = len(self.log())
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
                    "PYTHONUNBUFFERED": "1",
                    "SERVED_INSTANCE": str(self.instance),
                    "SERVED_EVENTS": str(self._events),
                    **self._environment,
                },
                cwd=self.folder,
                stdout=log,
                stderr=log,
                # Its workers end with it, and nothing else does.
                start_new_session=True,
            )

        def listening() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log()
            found = r"(?:http://|bound to TCP address )127\.0\.0\.1:(\d+)"
            return re.search(found, self.log()[begin:])

        try:
            found = eventually(listening, "the server listens")
        except AssertionError:
            self.kill()
            raise AssertionError(self.log()) from None
        self.address = ("127.0.0.1", int(found[1]))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server and all of its workers with SIGKILL."""
        with suppress(ProcessLookupError):  # All of them have ended.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def events(self, event: str | None = None, name: str | None = None) -> list[list[Any]]:
        """Return what the app's signals told: event, name of the request, name of the error."""
        if not self._events.exists():
            return []
        lines = self._events.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [found for found in events if event in (None, found[0]) and name in (None, found[1])]


@contextmanager
def running(folder: Path, command: list[str], **environment: str) -> Iterator[Server]:
    server = Server(folder, command, **environment)
    server.start()
    try:
        yield server
    except BaseException:
        print(server.log(), file=sys.stderr)
        raise
    finally:
        server.stop()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection10(http.client.HTTPConnection):
    _http_vsn = 10
    _http_vsn_str = "HTTP/1.0"


class Visitor:
    """A client with a cookie. Every request opens a new connection."""

    def __init__(self, server: Server, version: str = "1.1") -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        self._connection = http.client.HTTPConnection if version == "1.1" else _Connection10

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = self._connection(*self.server.address, timeout=PATIENCE)
        sent = self._headers(headers)
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            self._keep(response.headers)
            # The last byte of the body is here, the connection's end is not.
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def state(self) -> Any:
        return self.get("/state").json()

    def leave(self, path: str, **headers: str) -> None:
        """Take the beginning of a body, and go."""
        with socket.create_connection(self.server.address, timeout=PATIENCE) as connection:
            # The server is told at once, by a reset.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
            lines += [f"{name}: {value}" for name, value in self._headers(headers).items()]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            received = b""
            while len(received) < 100_000:
                data = connection.recv(65_536)
                assert data, received
                received += data

    def copy(self) -> Visitor:
        """Return another tab of the same browser."""
        tab = Visitor(self.server)
        tab.cookies = dict(self.cookies)
        return tab

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        sent = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return sent

    def _keep(self, headers: http.client.HTTPMessage) -> None:
        for header in headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value


def together(*tasks: Callable[[], None]) -> None:
    """Run *tasks* in threads of their own, and raise what the first of them raised."""
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
