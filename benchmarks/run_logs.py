"""What a store costs that keeps the output of streamed answers.

    python -m benchmarks.run_logs

One call appends to the logs of 50 runs, as a process does every 20 ms, or to one. Another process
waits for a run and reads what is new; its delay is that from the call of append() to the end of
read(). The CPU time is that of a process that waits for 100 runs which do not change. Redis is
measured if redis-server is installed.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from flask_agentuity.stores import open_store
from flask_agentuity.stores.runs import Addition, NewRun, RunKey, RunStore
from flask_agentuity.web.thread_ids import make_thread_id

from .command import run
from .redis_server import redis_server

RUNS = 50
WAITING = 100
CHUNK = b"x" * 80
#: Seconds between two appends of a process.
FLUSH = 0.02
#: Seconds for which the CPU time of waiting is measured.
QUIET = 3.0
_TIME = struct.Struct("d")


def begin(runs: RunStore, count: int) -> list[RunKey]:
    """Begin runs in as many threads."""
    keys = [RunKey(make_thread_id(), "run") for _ in range(count)]
    for key in keys:
        runs.begin(NewRun(key, "sse", "holder", time.time(), 300.0))
    return keys


def append_time(runs: RunStore, count: int, rounds: int) -> float:
    """Return the median time of a call that appends to *count* runs, in µs."""
    keys, times = begin(runs, count), []
    for number in range(rounds):
        additions = [Addition(key, number * len(CHUNK), CHUNK) for key in keys]
        began = time.perf_counter()
        refused = runs.append(additions)
        times.append((time.perf_counter() - began) * 1e6)
        assert not refused
    return statistics.median(times)


def waiting_cpu(runs: RunStore) -> float:
    """Return the part of a core that waiting for quiet runs takes, in percent."""
    keys = begin(runs, WAITING)
    with runs.watch() as watch:
        watch.wait(keys, 0.0)
        began, used = time.monotonic(), time.process_time()
        while time.monotonic() - began < QUIET:
            watch.wait(keys, 1.0)
        return (time.process_time() - used) / QUIET * 100


def delays(runs: RunStore, url: str, rounds: int) -> list[float]:
    """Return how long after another process had begun to append chunks were read, in ms."""
    (key,) = begin(runs, 1)
    command = [sys.executable, "-m", __spec__.name, "--append", key.thread_id, url]
    found: list[float] = []
    at = 0
    with subprocess.Popen([*command, "--rounds", str(rounds)]), runs.watch() as watch:
        while True:
            is_running = runs.look([key])[key].is_running
            data, now = runs.read(key, at), time.time()
            found += [(now - sent) * 1e3 for (sent,) in _TIME.iter_unpack(data)]
            at += len(data)
            if not is_running:
                return sorted(found)
            watch.wait([key], 5.0)


def append(runs: RunStore, thread_id: str, rounds: int) -> None:
    """Append the time again and again, in another process than that of :func:`delays`."""
    key = RunKey(thread_id, "run")
    for number in range(rounds):
        time.sleep(FLUSH)
        runs.append([Addition(key, number * _TIME.size, _TIME.pack(time.time()))])
    runs.append([Addition(key, rounds * _TIME.size, b"", "done")])


def measure(name: str, url: str, rounds: int) -> None:
    """Print the figures of a store."""
    with closing(open_store(url)) as store:
        assert store.runs is not None
        runs = store.runs
        many, one = append_time(runs, RUNS, rounds), append_time(runs, 1, rounds)
        found = delays(runs, url, rounds)
        cpu = waiting_cpu(runs)
    p50, p99 = (found[int(len(found) * part)] for part in (0.5, 0.99))
    print(f"{name:<8}{many:>12.0f}{one:>12.0f}{p50:>12.1f}{p99:>12.1f}{cpu:>12.2f}", flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run_logs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--append", nargs=2, metavar=("THREAD", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.append:
        thread_id, url = options.append
        with closing(open_store(url)) as store:
            assert store.runs is not None
            append(store.runs, thread_id, options.rounds)
        return
    columns = (f"{RUNS} runs, µs", "one, µs", "p50, ms", "p99, ms", f"{WAITING} wait, %")
    print(f"{'':<8}{''.join(f'{column:>12}' for column in columns)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        measure("SQLite", f"sqlite:///{Path(name) / 'threads.db'}", options.rounds)
        with redis_server(Path(name)) as url:
            if url:
                measure("Redis", url, options.rounds)


if __name__ == "__main__":
    run(main)
