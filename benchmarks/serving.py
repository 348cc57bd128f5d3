"""The scenarios with a server: one gthread worker of gunicorn, with 8 threads."""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .harness import Rounds
from .load import turns
from .peers import Place, find_peer
from .redis_server import free_port, wait_for_port
from .scenarios import LENGTHS

CLIENTS = 8
APPENDS = 200
_CONVERSATIONS = 200
_LENGTH = 100


class Server:
    """gunicorn with the app of one system."""

    def __init__(self, key: str, place: Place, core: int | None) -> None:
        self.key = key
        self.peer = find_peer(key)
        self.port = free_port()
        self._cookies = place.folder / "cookies.txt"
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread"]
        command += ["--workers", "1", "--threads", str(CLIENTS), "--log-level", "warning"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--no-control-socket"]
        command += ["benchmarks.application:from_environment()"]
        environment = os.environ | {
            "BENCHMARK_PEER": key,
            "BENCHMARK_FOLDER": str(place.folder),
            "BENCHMARK_REDIS": place.redis_url or "",
        }
        root = Path(__file__).parent.parent
        with _on_core(core):
            self._process = subprocess.Popen(command, env=environment, cwd=root)
        try:
            wait_for_port(self.port, self._process)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, path: str, cookie: str = "") -> tuple[str, str]:
        """Return a response's body, and the Cookie header for its cookies.

        :raises RuntimeError: if the status is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": cookie} if cookie else {}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{self.peer.name}: {path} was answered with {response.status}.")
        cookies = response.headers.get_all("Set-Cookie") or []
        return text, "; ".join(value.partition(";")[0] for value in cookies)

    def warm(self) -> None:
        """Have the worker handle a history that is longer than any that follows."""
        length = self.peer.most_messages or max(LENGTHS)
        cookie = self.call("POST", f"/start?length={length}")[1]
        for _ in range(4):
            self.call("POST", "/turn", cookie)

    def turns(self, seconds: int) -> dict[str, float]:
        """Return turns a second, p50 and p99 with conversations of 100 messages."""
        lines = [
            self.call("POST", f"/start?length={_LENGTH}")[1] or "none=0"
            for _ in range(_CONVERSATIONS)
        ]
        self._cookies.write_text("\n".join(lines) + "\n")
        return turns(self.port, self._cookies, seconds)

    def survived(self, pause: str) -> int:
        """Return how many of 200 appends by 8 clients to one conversation are stored."""
        begun = 10
        cookie = self.call("POST", f"/start?length={begun}")[1]

        def work() -> None:
            for _ in range(APPENDS // CLIENTS):
                self.call("POST", f"/append?pause={pause}", cookie)

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return int(self.call("GET", "/count", cookie)[0]) - begun

    def memory(self) -> float | None:
        """Return the resident MB of the worker, where Linux reports them."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        if not children.exists():
            return None
        (worker,) = children.read_text().split()
        for line in Path(f"/proc/{worker}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return None

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Have processes that are started here run on *core* only."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def throughput(servers: list[Server], rounds: int, seconds: int) -> dict[str, Rounds]:
    """Return turns a second, p50 and p99 of each system, round by round, alternately."""
    found: dict[str, Rounds] = {name: {} for name in ("rate", "p50", "p99")}
    for number in range(rounds):
        for server in random.Random(number).sample(servers, len(servers)):
            if server.peer.most_messages is not None:
                continue
            figures = server.turns(seconds)
            for name, taken in found.items():
                taken.setdefault(server.key, []).append(figures[name])
    return found
