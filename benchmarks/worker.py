"""One process for each system, which calls its app as a WSGI server does.

No system then pays for the modules, the heap or the garbage of another. Only one of the
processes works at a time.
"""

from __future__ import annotations

import gc
import importlib
import io
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication

from flask import Flask

from .application import PEER, make_app
from .peers import Place, find_peer

_IO = Path("/proc/self/io")
_PACKAGE = "flask_agentuity"
# After so many conversations were started, they are settled.
_SETTLED = 200
_BASE = {
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SCRIPT_NAME": "",
    "CONTENT_LENGTH": "0",
    "HTTP_HOST": "localhost",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


class Visitor:
    """A browser: it keeps its cookies."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._cookies: dict[str, str] = {}

    def call(self, method: str, path: str, query: str = "") -> tuple[float, bytes]:
        """Return the µs until the response was closed, and its body."""
        environ, answered = self._environ(method, path, query), list[Any]()
        start_response = _keeping(answered)
        began = time.perf_counter_ns()
        body = self._application(environ, start_response)
        text = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        taken = (time.perf_counter_ns() - began) / 1_000
        self._take(path, environ["wsgi.errors"], *answered)
        return taken, text

    def stream_and_look(self, visitor: Visitor) -> int:
        """Stream a turn; return the history's length when the body has ended, not yet closed."""
        environ, answered = self._environ("POST", "/stream", ""), list[Any]()
        body = self._application(environ, _keeping(answered))
        try:
            for _ in body:
                pass
            self._take("/stream", environ["wsgi.errors"], *answered)
            visitor._cookies = self._cookies
            return int(visitor.call("GET", "/count")[1])
        finally:
            if hasattr(body, "close"):
                body.close()

    def _environ(self, method: str, path: str, query: str) -> dict[str, Any]:
        environ = _BASE | {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        if self._cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        return environ

    def _take(
        self, path: str, errors: io.StringIO, status: str, headers: list[tuple[str, str]]
    ) -> None:
        if not status.startswith("200"):
            raise RuntimeError(f"{path} was answered with {status}.\n{errors.getvalue()}")
        for name, value in headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.partition(";")[0]


def _keeping(answered: list[Any]) -> StartResponse:
    def start_response(status: str, headers: Any, exc_info: Any = None, /) -> Any:
        answered[:] = status, headers

    return start_response


@dataclass
class Work:
    """An app and its visitors."""

    app: Flask
    visitors: list[Visitor] = field(default_factory=list)
    next: int = 0

    @classmethod
    def of(cls, key: str, place: Place) -> Self:
        """Return the app of the system with this key, without visitors."""
        return cls(make_app(key, place))

    def start(self, length: int, visitors: int) -> None:
        """Start this many conversations, each with a history of *length*.

        Each is read once, so that a request that is measured is not the first to continue it.
        Logs of SQLite files are copied into the files: in use, a log has only what is new.
        """
        self.visitors = [Visitor(self.app) for _ in range(visitors)]
        self.next = 0
        for number, visitor in enumerate(self.visitors, 1):
            visitor.call("POST", "/start", f"length={length}")
            visitor.call("GET", "/count")
            if number % _SETTLED == 0:
                self.settle()
        self.settle()
        for file in Path(self.app.instance_path).glob("*.db"):
            with closing(sqlite3.connect(file, isolation_level=None)) as connection:
                connection.execute("PRAGMA wal_checkpoint(RESTART)")
        gc.collect()

    def settle(self) -> None:
        """Finish what the requests have left to the background."""
        self.app.extensions[PEER].settle()

    def block(self, method: str, path: str, calls: int, pause: float = 0.0) -> list[float]:
        """Return the µs of each of a number of calls, each for the next visitor.

        :param pause: seconds between two calls.
        """
        taken = []
        for _ in range(calls):
            if pause:
                time.sleep(pause)
            visitor = self.visitors[self.next % len(self.visitors)]
            self.next += 1
            taken.append(visitor.call(method, path)[0])
        return taken

    def processor_time(self) -> float:
        """Return the seconds that all threads of this process have worked."""
        return time.process_time()

    def check(self, path: str, stored: str) -> None:
        """Fail unless what a view answers is what another view finds stored.

        :raises RuntimeError: if it is not.
        """
        visitor = self.visitors[0]
        answer = visitor.call("POST", path)[1]
        if visitor.call("GET", stored)[1] != answer:
            raise RuntimeError(f"{path} has not stored what it answered.")

    def written(self, method: str, path: str, calls: int) -> int | None:
        """Return the bytes that a number of calls gave to write(), where Linux counts them."""
        before = _bytes_written()
        self.block(method, path, calls)
        after = _bytes_written()
        return None if before is None or after is None else after - before

    def streamed(self) -> tuple[int, int, int]:
        """Return the length of a history before, at the end of, and after a streamed turn."""
        visitor = self.visitors[0]
        before = int(visitor.call("GET", "/count")[1])
        at_end = visitor.stream_and_look(Visitor(self.app))
        return before, at_end, int(visitor.call("GET", "/count")[1])

    def package_folder(self) -> str:
        """Return the folder from which this package was imported."""
        found = importlib.import_module(_PACKAGE).__file__
        assert found is not None
        return str(Path(found).parent.parent)


def _bytes_written() -> int | None:
    if not _IO.exists():
        return None
    return int(dict(line.split(": ") for line in _IO.read_text().splitlines())["wchar"])


@dataclass(frozen=True)
class Setting:
    """Where a worker runs, and which version of the package it measures."""

    core: int | None = None
    #: The folder to import the package from; None: where Python finds it.
    package: Path | None = None
    #: Modules that the process is to do without, as if they were not installed.
    hidden: Collection[str] = ()

    def prepare(self) -> None:
        """Apply the setting to this process, before the package is imported."""
        # Ctrl-C reaches all processes of a terminal; the one that started this one ends it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.core is not None:
            os.sched_setaffinity(0, {self.core})
        if self.package is not None:
            sys.path.insert(0, str(self.package))
        for name in self.hidden:
            sys.modules[name] = None  # type: ignore[assignment]


def _run(pipe: Connection, key: str, place: Place, setting: Setting) -> None:
    setting.prepare()
    work = Work.of(key, place)
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, str | None] = getattr(work, name)(*arguments), None
        except Exception as error:  # noqa: BLE001 - it is raised in the process that asked
            answer = None, f"{type(error).__name__}: {error}"
        try:
            pipe.send(answer)
        except OSError:
            return


class Worker:
    """The process of one system, as the process that started it sees it."""

    def __init__(
        self, key: str, place: Place, setting: Setting | None = None, label: str = ""
    ) -> None:
        self.key = key
        self.label = label or key
        self.peer = find_peer(key)
        self.place = place
        self._pipe, end = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(end, key, place, setting or Setting()), daemon=True
        )
        self._process.start()
        end.close()

    def __call__(self, name: str, *arguments: object) -> Any:
        """Call a method in the process, and return its result.

        :raises RuntimeError: if it failed there, or if the process has ended.
        """
        try:
            self._pipe.send((name, arguments))
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"The process of {self.label} has ended.") from None
        if error is not None:
            raise RuntimeError(f"{self.label}: {error}")
        return result

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()
