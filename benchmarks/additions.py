"""Measure what session reports and telemetry add to a request, on SQLite.

    python -m benchmarks.additions

The same app runs plain, with session reports to a server that confirms each at once, and with
``instrument()`` and OpenTelemetry's API without an SDK, alternately in one run. Processes of one
app differ by some percent, so each is replaced a few times. The first table
has the time of a request, from the lowest decile of the calls of each round: other programs on
the machine disturb those least. The second has the time that the processor works in all. The
reports of each round are sent after it: that is part of the second table only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from .command import progress, run
from .harness import Figure, Rounds, alternately, over, short
from .machine import first_core, machine
from .peers import Place
from .report import table
from .worker import Setting, Worker

_KEYS = ("ours-sqlite", "ours-sqlite-reported", "ours-sqlite-instrumented")
_REQUESTS = {"untouched": ("GET", "/untouched"), "turn": ("POST", "/turn")}
_CONFIRMED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    b'{"success":true}'
)


def main() -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    requests = [
        (name, length)
        for name in _REQUESTS
        for length in (options.lengths if name == "turn" else options.lengths[:1])
    ]
    latency, work = ({request: _no_rounds() for request in requests} for _ in range(2))
    with confirming() as url, tempfile.TemporaryDirectory() as folder:
        # The workers inherit the environment.
        os.environ["BENCHMARK_REPORTS"] = url
        for number in range(options.processes):
            progress(f"processes {number + 1} of {options.processes}")
            with _workers(Path(folder) / str(number)) as workers:
                for request in requests:
                    for taken, rounds in zip(
                        (latency, work), _measure(workers, *request, options), strict=True
                    ):
                        for key, values in rounds.items():
                            taken[request][key] += values
    columns = ["request", "messages", "plain µs", "reported", "instrumented"]
    for title, taken in (
        ("The time of a request, over that of the plain app", latency),
        ("The work of the processor for a request", work),
    ):
        print(table(title, columns, [_row(*request, taken[request]) for request in requests]))


def _no_rounds() -> Rounds:
    return {key: [] for key in _KEYS}


@contextmanager
def _workers(folder: Path) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        workers = []
        for key in _KEYS:
            place = Place(folder / key, None)
            place.folder.mkdir(parents=True)
            workers.append(Worker(key, place, Setting(first_core())))
            stack.callback(workers[-1].close)
        yield workers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.additions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pause", type=float, default=5.0, metavar="MS", help="between two requests")
    add("--lengths", nargs="+", type=int, default=[10, 100])
    add("--processes", type=int, default=5, help="one after the other, for each app")
    add("--rounds", type=int, default=12, help="with each of the processes")
    add("--calls", type=int, default=12, help="in each round")
    return parser


def _measure(
    workers: Sequence[Worker], name: str, length: int, options: argparse.Namespace
) -> tuple[Rounds, Rounds]:
    """Return the µs of a request, and those of the processor's work for it, round by round."""
    for worker in workers:
        worker("start", length, 1 + 2 * options.calls * options.rounds // max(2, length // 10))
    processor: Rounds = {worker.key: [] for worker in workers}

    def measure(worker: Worker) -> float:
        before = worker("processor_time")
        taken = worker("block", *_REQUESTS[name], options.calls, options.pause / 1000)
        worker("settle")
        work = worker("processor_time") - before
        processor[worker.key].append(work / options.calls * 1e6)
        return statistics.quantiles(taken, n=10, method="inclusive")[0]

    subjects = {worker.key: partial(measure, worker) for worker in workers}
    alternately(1, subjects)
    for values in processor.values():
        values.clear()
    rounds = alternately(options.rounds, subjects)
    return rounds, processor


def _row(name: str, length: int, rounds: Rounds) -> list[str]:
    plain, reported, instrumented = (rounds[key] for key in _KEYS)
    ratios = [str(over(one, plain)) for one in (reported, instrumented)]
    return [name, f"{length:,}", short(Figure.of(plain).median), *ratios]


@contextmanager
def confirming() -> Iterator[str]:
    """Run a process that confirms every report, and yield its URL."""
    pipe, end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_confirm, args=(end,), daemon=True
    )
    process.start()
    try:
        yield pipe.recv()
    finally:
        process.terminate()
        process.join()


def _confirm(pipe: Connection) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send(f"http://127.0.0.1:{server.getsockname()[1]}")
    while True:
        opened, _ = server.accept()
        threading.Thread(target=_confirm_each, args=(opened,), daemon=True).start()


def _confirm_each(opened: socket.socket) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    left = b""
    while received := opened.recv(65_536):
        left += received
        while (end := left.find(b"\r\n\r\n")) >= 0:
            head = left[:end].lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
            if len(left) < end + 4 + size:
                break
            left = left[end + 4 + size :]
            opened.sendall(_CONFIRMED)


if __name__ == "__main__":
    run(main)
