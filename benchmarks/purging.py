"""What removing expired threads costs those who read and write meanwhile, in an SQLite file.

    python -m benchmarks.purging --processes 2 6 --pause 0.002 0

Processes take turns in a Flask app: each reads a conversation and appends two messages. Their times
are measured before the removal, during all of it, and after it. The ratio is the time during it
over the mean of the others. ``purge`` is what ``flask threads purge`` does, beside the app;
``requests`` is what the app does without it, in the background; ``delete`` is what ``flask threads
delete --where`` does with as many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Set
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web.thread_ids import make_thread_id

from .command import progress, run

#: Seconds after which a thread expires, and when nothing is to expire.
TTL, NEVER = 3_600, 1_000_000_000
#: Conversations of each process, and the length at which one begins again.
CONVERSATIONS, LONGEST = 20, 40
#: Seconds after which the processes have taken some turns.
_WARM_UP = 0.3


@dataclass(frozen=True)
class Turns:
    """When turns began, and how long they took, in seconds."""

    taken: Sequence[tuple[float, float]]

    def between(self, began: float, ended: float) -> Turns:
        return Turns([each for each in self.taken if began <= each[0] <= ended])

    def part(self, part: float) -> float:
        """Return the time, in ms, that *part* of the turns did not exceed."""
        times = sorted(took for _, took in self.taken)
        return times[min(len(times) - 1, int(len(times) * part))] * 1e3


def fill(path: Path, threads: int, sizes: Sequence[int]) -> None:
    """Make a file with *threads* expired threads of these sizes in bytes."""
    with closing(SQLiteStore(path, ttl=None)) as store:
        for number in range(threads):
            size = sizes[0] + (sizes[-1] - sizes[0]) * (number % 8) // 7
            messages = ["x" * 500] * max(1, size // 500)
            operations = [Set("messages", codec.encode(messages))]
            store.merge(make_thread_id(), operations, {"expired": True})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        long_ago = time.time() - 3 * TTL
        connection.execute("UPDATE threads SET used = ?, updated = ?", (long_ago, long_ago))
        connection.execute("UPDATE threads SET listed = updated, stale = 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def work(path: Path, ttl: int, pause: float) -> None:
    """Take turns until standard input ends, and print their times."""
    from flask import Flask, g, request

    from flask_agentuity import ThreadManager

    app = Flask(__name__)
    app.secret_key = "x" * 32
    app.config["AGENTUITY_THREAD_STORE"] = f"sqlite:///{path}"
    app.config["AGENTUITY_THREAD_TTL"] = app.config["AGENTUITY_THREAD_COOKIE_MAX_AGE"] = ttl
    ThreadManager(app)

    @app.post("/")
    def turn() -> str:
        messages = g.thread.state.setdefault("messages", [])
        messages.append({"role": "user", "content": request.get_data(as_text=True)})
        messages.append({"role": "assistant", "content": "y" * 300})
        if len(messages) > LONGEST:
            del g.thread.state["messages"]
        return ""

    clients = [app.test_client() for _ in range(CONVERSATIONS)]
    ended, taken = threading.Event(), []
    print("ready", flush=True)
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        client = clients[len(taken) % CONVERSATIONS]
        began = time.monotonic()
        response = client.post("/", data="x" * 100)
        taken.append((began, time.monotonic() - began))
        assert response.status_code == 200, response.text
        if pause:
            time.sleep(pause)
    print(json.dumps(taken))


@contextmanager
def working(path: Path, processes: int, ttl: int, pause: float) -> Iterator[list[Any]]:
    """Run processes that take turns; what they have measured is in the list after the block."""
    command = [sys.executable, "-m", __spec__.name, "--work", str(path), str(ttl), str(pause)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    found: list[Any] = []
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdin is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield found
        for worker in workers:
            found += json.loads(worker.communicate()[0])
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def quiet(path: Path, arguments: tuple[int, float], seconds: float) -> Turns:
    """Measure turns while nothing is removed."""
    processes, pause = arguments
    began = time.monotonic() + _WARM_UP
    with working(path, processes, NEVER, pause) as found:
        time.sleep(seconds + _WARM_UP)
        ended = time.monotonic()
    return Turns(found).between(began, ended)


def removing(path: Path, arguments: tuple[int, float], way: str) -> tuple[Turns, float, float]:
    """Measure turns during the removal. Also return its seconds, and the largest log in MiB."""
    processes, pause = arguments
    largest, log = 0, Path(f"{path}-wal")
    command = [sys.executable, "-m", __spec__.name, "--remove", way, str(path)]
    with working(path, processes, NEVER if way == "delete" else TTL, pause) as found:
        time.sleep(_WARM_UP)
        began = time.monotonic()
        purge = None
        if way != "requests":
            purge = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while purge.poll() is None if purge else _is_unfinished(connection):
                largest = max(largest, log.stat().st_size)
                time.sleep(0.02)
        ended = time.monotonic()
        if purge:
            began, ended = json.loads(purge.communicate()[0])
    return Turns(found).between(began, ended), ended - began, largest / (1 << 20)


def remove(way: str, path: str) -> None:
    """Remove what has expired, and print when that began and ended."""
    with closing(SQLiteStore(path, ttl=TTL if way == "purge" else NEVER)) as store:
        began = time.monotonic()
        if way == "purge":
            store.purge()
        else:
            for thread in list(store.find_all({"expired": True})):
                store.delete(thread.id)
            store.wipe_deleted()
        print(json.dumps([began, time.monotonic()]))


def _is_unfinished(connection: sqlite3.Connection) -> bool:
    expired = "SELECT 1 FROM threads WHERE used < ? LIMIT 1"
    if connection.execute(expired, (time.time() - TTL,)).fetchone() is not None:
        return True
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    # The part that the app leaves free for new threads.
    return bool(free > pages * 0.11)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.purging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, nargs="+", default=[2_500, 20_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 6])
    parser.add_argument("--pause", type=float, nargs="+", default=[0.002, 0.0], help="seconds")
    parser.add_argument("--way", nargs="+", default=["purge", "requests", "delete"])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each quiet time")
    parser.add_argument("--folder", help="where the files are made")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--remove", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        path, ttl, pause = options.work
        return work(Path(path), int(ttl), float(pause))
    if options.remove:
        return remove(*options.remove)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Print the figures."""
    progress("making the file")
    filled, path = folder / "filled.db", folder / "threads.db"
    fill(filled, options.threads, options.bytes)
    columns = (
        "p50 quiet",
        "ratio",
        "p99 quiet",
        "ratio",
        "longest",
        "ratio",
        "seconds",
        "a second",
    )
    print(f"{'':<26}" + "".join(f"{each:>10}" for each in (*columns, "log, MiB", "left, MiB")))
    for way in options.way:
        for processes in options.processes:
            for pause in options.pause:
                shutil.copy(filled, path)
                arguments = processes, pause
                before = quiet(path, arguments, options.seconds)
                during, seconds, log = removing(path, arguments, way)
                after = quiet(path, arguments, options.seconds)
                label = f"{way}, {processes} × {pause * 1e3:g} ms"
                figures: list[float] = []
                for part in (0.5, 0.99, 1.0):
                    usual = (before.part(part) + after.part(part)) / 2
                    figures += [usual, during.part(part) / usual]
                figures += [seconds, options.threads / seconds, log]
                figures.append(path.stat().st_size / (1 << 20))
                print(f"{label:<26}" + "".join(f"{each:>10.2f}" for each in figures), flush=True)
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)


if __name__ == "__main__":
    # For the processes that it starts.
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    run(main)
