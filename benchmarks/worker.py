"""A process of its own for each system, which calls its app as a WSGI server does.

So no system pays for the modules, the heap or the garbage of another, and only one of
them works at any moment.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from .application import make_app
from .peers import Place, find_peer

_IO = Path("/proc/self/io")
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
        """Return how many µs a request took until its response was closed, and its body."""
        environ, heard = self._environ(method, path, query), list[Any]()
        start_response = _hearing(heard)
        began = time.perf_counter_ns()
        body = self._application(environ, start_response)
        text = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        taken = (time.perf_counter_ns() - began) / 1_000
        self._take(path, *heard)
        return taken, text

    def stream_and_look(self, visitor: Visitor) -> int:
        """Stream a turn; return the history's length when the body has ended, not yet closed."""
        heard = list[Any]()
        body = self._application(self._environ("POST", "/stream", ""), _hearing(heard))
        try:
            for _ in body:
                pass
            self._take("/stream", *heard)
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

    def _take(self, path: str, status: str, headers: list[tuple[str, str]]) -> None:
        if not status.startswith("200"):
            raise RuntimeError(f"{path} was answered with {status}.")
        for name, value in headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.partition(";")[0]


def _hearing(heard: list[Any]) -> StartResponse:
    def start_response(status: str, headers: Any, exc_info: Any = None, /) -> Any:
        heard[:] = status, headers

    return start_response


@dataclass
class _Work:
    app: WSGIApplication
    visitors: list[Visitor] = field(default_factory=list)
    next: int = 0

    def start(self, length: int, visitors: int) -> None:
        """Begin as many conversations, each with a history of *length*."""
        self.visitors = [Visitor(self.app) for _ in range(visitors)]
        self.next = 0
        for visitor in self.visitors:
            visitor.call("POST", "/start", f"length={length}")
        gc.collect()

    def block(self, method: str, path: str, calls: int) -> list[float]:
        """Return the µs of a number of calls, each for the next visitor."""
        taken = []
        for _ in range(calls):
            visitor = self.visitors[self.next % len(self.visitors)]
            self.next += 1
            taken.append(visitor.call(method, path)[0])
        return taken

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


def _bytes_written() -> int | None:
    if not _IO.exists():
        return None
    return int(dict(line.split(": ") for line in _IO.read_text().splitlines())["wchar"])


def _run(pipe: Connection, key: str, place: Place, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    work = _Work(make_app(key, place))
    while (order := pipe.recv()) is not None:
        name, arguments = order
        try:
            pipe.send((getattr(work, name)(*arguments), None))
        except Exception as error:  # noqa: BLE001 - it is raised in the process that asked
            pipe.send((None, f"{type(error).__name__}: {error}"))


class Worker:
    """The process of one system, as the benchmark's own process sees it."""

    def __init__(self, key: str, place: Place, core: int | None) -> None:
        self.key = key
        self.peer = find_peer(key)
        self._pipe, end = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(end, key, place, core)
        )
        self._process.start()
        end.close()

    def __call__(self, name: str, *arguments: object) -> Any:
        """Have the process do something, and return what it gives.

        :raises RuntimeError: when it failed there.
        """
        self._pipe.send((name, arguments))
        result, error = self._pipe.recv()
        if error is not None:
            raise RuntimeError(f"{self.peer.name}: {error}")
        return result

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()
        self._pipe.close()
