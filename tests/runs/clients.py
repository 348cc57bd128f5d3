"""Clients of streamed answers on real servers."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from support.servers import PATIENCE, Server, Visitor, gunicorn, running
from support.waiting import eventually

from .served import text_of

APP = "runs.served:create_app"


def command(worker: str, workers: int = 2, *options: str) -> list[str]:
    known = gunicorn(worker, workers, *options)
    return [part.replace("server.app:create_app", APP) for part in known]


@contextmanager
def serving(folder: Path, worker: str, *options: str, **environment: str) -> Iterator[Server]:
    """Run two workers of gunicorn."""
    with running(folder, command(worker, 2, *options), **environment) as server:
        yield server


class Reading:
    """A response that is read piece by piece."""

    #: Those that were not left yet, so that a test that fails leaves nothing open.
    open: ClassVar[list[Reading]] = []

    def __init__(
        self,
        visitor: Visitor,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> None:
        address = visitor.server.address
        self._connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        self._connection.request(method, path, headers=visitor._headers(None) | (headers or {}))
        self._response = self._connection.getresponse()
        visitor._keep(self._response.headers)
        self.status = self._response.status
        self.data = b""
        self.open.append(self)

    @property
    def run(self) -> str:
        return self._response.headers["X-Run-ID"]

    @property
    def worker(self) -> int:
        return int(self._response.headers["X-Worker"])

    def more(self) -> bytes:
        """Return the next piece; nothing at the end, and if the server is gone."""
        try:
            data = self._response.read1(65_536)
        except (http.client.HTTPException, OSError):
            data = b""
        self.data += data
        return data

    def until(self, length: int) -> Reading:
        while len(self.data) < length and self.more():
            pass
        return self

    def all(self) -> bytes:
        while self.more():
            pass
        self.leave()
        return self.data

    def leave(self) -> None:
        # The response has its own reference to the socket.
        self._response.close()
        self._connection.close()
        if self in self.open:
            self.open.remove(self)


def ask(visitor: Visitor, **query: Any) -> Reading:
    """Send a message."""
    arguments = "&".join(f"{name}={value}" for name, value in query.items())
    return Reading(visitor, f"/chat?{arguments}", "POST")


def resume(visitor: Visitor, run: str, after: int) -> Reading:
    return Reading(visitor, f"/chat/stream?run={run}&after={after}")


def answers(visitor: Visitor) -> list[str]:
    messages = visitor.get("/messages").json()
    return [each["content"] for each in messages if each["role"] == "assistant"]


def last(visitor: Visitor) -> Any:
    return visitor.get("/last").json()


def is_prefix(text: str) -> bool:
    """Return whether *text* is the beginning of a long answer."""
    return text_of(10_000).startswith(text)


def events_in(data: bytes) -> list[tuple[str, str, Any]]:
    """Return type, id and data of each complete event."""
    found = []
    for block in data.split(b"\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
        if "data" in fields:
            data_of = json.loads(fields["data"])
            found.append((fields.get("event", "message"), fields.get("id", ""), data_of))
    return found


def wait_for_workers(server: Server, count: int = 2) -> set[int]:
    """Return the process ids of the workers once all of them answer."""
    found: set[int] = set()

    def look() -> bool:
        found.add(int(Visitor(server).get("/worker").body))
        return len(found) >= count

    eventually(look, "all workers answer")
    return found


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def until_gone(process: int) -> float:
    """Return how many seconds a process went on."""
    began = time.monotonic()
    eventually(lambda: not is_alive(process), "the process has ended")
    return time.monotonic() - began
