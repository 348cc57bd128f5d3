"""What streamed answers cost: ``python -m benchmarks.streams``.

Compares an answer of 500 tokens as a plain stream with the same answer as a run, measures how
late readers in the same and in another worker see a token, and what waiting readers cost. All
figures of one table are from one run, alternately; read the ratios.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .command import progress, run
from .redis_server import free_port, redis_server, wait_for_port
from .streaming_app import TOKEN_BYTES

_ROOT = Path(__file__).parent.parent
_TOKENS = 500
_STORES = ["SQLite", "Redis"]
_PARTS = ["duration", "latency", "waiting"]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="to watch waiting readers")
    parser.add_argument("--stores", nargs="+", choices=_STORES, default=_STORES)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in arguments.stores:
            url = stack.enter_context(redis_server(folder)) if name == "Redis" else ""
            place = folder / name
            place.mkdir()
            measure(name, url, place, arguments)


def measure(name: str, url: str, place: Path, arguments: argparse.Namespace) -> None:
    """Measure one store."""
    parts = arguments.parts
    if "duration" in parts:
        with serving(place, url, workers=1, threads=16) as server:
            progress(f"500 tokens, {name}")
            print_duration(name, server, arguments.rounds)
    if "latency" in parts or "waiting" in parts:
        with serving(place, url, workers=2, threads=arguments.readers + 16) as server:
            if "latency" in parts:
                progress(f"latency, {name}")
                print_latency(name, server, max(2, arguments.rounds // 3))
            if "waiting" in parts:
                progress(f"waiting readers, {name}")
                print_waiting(name, server, arguments.readers, arguments.seconds)


class Server:
    """gunicorn with the app."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process

    def open(
        self, method: str, path: str, cookie: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={"Cookie": cookie} if cookie else {})
        return connection, connection.getresponse()

    def visitor(self) -> str:
        """Return the Cookie header of a new visitor."""
        connection, response = self.open("POST", "/run?count=1")
        response.read()
        connection.close()
        cookies = response.headers.get_all("Set-Cookie") or []
        return "; ".join(value.partition(";")[0] for value in cookies)


@contextmanager
def serving(folder: Path, url: str, workers: int, threads: int) -> Iterator[Server]:
    """Run gunicorn."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread"]
    command += ["--workers", str(workers), "--threads", str(threads), "--log-level", "error"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    command += ["benchmarks.streaming_app:create_app()"]
    environment = os.environ | {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_STORE": url}
    process = subprocess.Popen(command, env=environment, cwd=_ROOT)
    try:
        wait_for_port(port, process)
        yield Server(port, process)
    finally:
        process.terminate()
        process.wait()


def print_duration(name: str, server: Server, rounds: int) -> None:
    """Print how long an answer takes, until its end is there."""
    cookie = server.visitor()
    print(f"\n500 tokens on {name}: median milliseconds, and over the plain stream\n")
    print("| pause between tokens | bare Flask | plain stream | run | ratio |")
    print("|---|---|---|---|---|")
    for pause in (0.0, 0.001, 0.005):
        taken: dict[str, list[float]] = {"bare": [], "plain": [], "run": []}
        for number in range(rounds):
            for way in random.Random(number).sample(list(taken), 3):
                began = time.perf_counter()
                connection, response = server.open(
                    "POST", f"/{way}?count={_TOKENS}&pause={pause}", cookie
                )
                received = len(response.read())
                connection.close()
                if response.status != 200 or received != _TOKENS * TOKEN_BYTES:
                    raise RuntimeError(f"/{way}: {response.status}, {received} bytes.")
                taken[way].append((time.perf_counter() - began) * 1_000)
        bare, plain, as_run = (statistics.median(taken[way]) for way in ("bare", "plain", "run"))
        print(
            f"| {pause * 1_000:g} ms | {bare:.1f} | {plain:.1f} | {as_run:.1f}"
            f" | {as_run / plain:.2f} |"
        )


def print_latency(name: str, server: Server, rounds: int) -> None:
    """Print how late tokens arrive."""
    late: dict[str, list[float]] = {"plain stream": [], "same worker": [], "another worker": []}
    for _ in range(rounds):
        cookie = server.visitor()
        connection, response = server.open("POST", "/plain?count=100&pause=0.02", cookie)
        late["plain stream"] += _latencies(response)
        connection.close()
        connection, response = server.open("POST", "/run?count=150&pause=0.02", cookie)
        reader = threading.Thread(
            target=_read_elsewhere,
            args=(server, cookie, response.headers["X-Worker"], late["another worker"]),
        )
        reader.start()
        late["same worker"] += _latencies(response)
        reader.join()
        connection.close()
    print(f"\nTokens every 20 ms on {name}: milliseconds until the client has one\n")
    print("| reader | p50 | p99 | most | tokens |")
    print("|---|---|---|---|---|")
    for reader_name, taken in late.items():
        taken.sort()
        p99 = taken[int(len(taken) * 0.99)]
        print(
            f"| {reader_name} | {statistics.median(taken):.2f} | {p99:.1f} | {taken[-1]:.1f}"
            f" | {len(taken)} |"
        )


def _read_elsewhere(server: Server, cookie: str, worker: str, late: list[float]) -> None:
    for _ in range(50):
        connection, response = server.open("GET", "/chat/stream", cookie)
        if response.status == 200 and response.headers["X-Worker"] != worker:
            # What was said before this reader came is late for another reason.
            response.read1(1_000_000)
            late += _latencies(response)
            connection.close()
            return
        response.close()
        connection.close()


def _latencies(response: http.client.HTTPResponse) -> list[float]:
    found: list[float] = []
    rest = b""
    while data := response.read1(65_536):
        now = time.monotonic()
        rest += data
        while len(rest) >= TOKEN_BYTES:
            token, rest = rest[:TOKEN_BYTES], rest[TOKEN_BYTES:]
            found.append((now - float(token)) * 1_000)
    return found


def print_waiting(name: str, server: Server, readers: int, seconds: float) -> None:
    """Print how much of a core the workers use while readers wait for a run that is silent."""
    cookie = server.visitor()
    idle = _load(server, seconds)
    connection, response = server.open("POST", f"/run?count=1&pause={seconds + 10}", cookie)
    alone = _load(server, seconds)
    opened = [server.open("GET", "/chat/stream", cookie) for _ in range(readers)]
    time.sleep(0.5)
    waiting = _load(server, seconds)
    elsewhere = sum(each.headers["X-Worker"] != response.headers["X-Worker"] for _, each in opened)
    for each, _ in opened:
        each.close()
    response.read()
    connection.close()
    print(f"\nShare of a core on {name}, in percent\n")
    print(f"| no run | one silent run | and {readers} readers ({elsewhere} in the other worker) |")
    print("|---|---|---|")
    print(f"| {idle:.1f} | {alone:.1f} | {waiting:.1f} |")


def _load(server: Server, seconds: float) -> float:
    began = _cpu_seconds(server)
    time.sleep(seconds)
    return (_cpu_seconds(server) - began) / seconds * 100


def _cpu_seconds(server: Server) -> float:
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for worker in children:
        fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    run(main)
