"""A recording HTTP server that plays the service to which sessions are reported."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONFIRMED = json.dumps({"success": True}).encode()


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """How the next request is answered."""

    status: int = 200
    body: bytes = CONFIRMED
    headers: dict[str, str] = field(default_factory=dict)
    #: Instead of a reply: called with the handler.
    act: Callable[[BaseHTTPRequestHandler], None] | None = None


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Answer nothing until the test ends."""
    server = handler.server
    assert isinstance(server, _Server)
    server.ended.wait(60)
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answer one byte at a time, without an end."""
    server = handler.server
    assert isinstance(server, _Server)
    try:
        while not server.ended.wait(0.02):
            handler.wfile.write(b"H")
    except OSError:
        pass
    handler.close_connection = True


def close(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def talk_nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(text) if text else None
        answer = server.service.receive(
            Received(self.command, self.path, dict(self.headers.items()), body)
        )
        if answer.act is not None:
            answer.act(self)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, service: ReportService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service
        self.ended = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closed its connection is no error here."""


class ReportService:
    """Listens, records what arrives, and answers as it was told to."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        #: The next answers; afterwards, every request is confirmed.
        self.answers: list[Answer] = []
        #: Every further answer.
        self.default = Answer()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def receive(self, request: Received) -> Answer:
        with self._lock:
            self.received.append(request)
            return self.answers.pop(0) if self.answers else self.default

    def wait_for(self, count: int, patience: float = 30.0) -> list[Received]:
        """Return what has arrived, once it is as much as *count*."""
        until = time.monotonic() + patience
        while len(self.received) < count:
            assert time.monotonic() < until, self.received
            time.sleep(0.005)
        return list(self.received)

    def summary(self) -> list[tuple[str, str]]:
        """Return the method and the session of each request."""
        return [(each.method, each.body["id"]) for each in self.received]

    def close(self) -> None:
        self._server.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
