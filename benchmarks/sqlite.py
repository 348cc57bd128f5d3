"""What the SQLite store's layout costs, over one row that holds the whole JSON.

    python benchmarks/sqlite.py

Both are measured in turn within one run; read the ratios. Times are medians in µs.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web.provider import make_thread_id

LENGTHS = (10, 100, 1_000, 4_000)


def message(number: int) -> dict[str, str]:
    role = "assistant" if number % 2 else "user"
    return {"role": role, "content": f"{number:06d} ".ljust(165, "x")}


class OneRow:
    """The peer: one row for each thread, with the whole JSON."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("CREATE TABLE threads (id TEXT PRIMARY KEY, document BLOB)")

    def write(self, thread_id: str, document: bytes) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO threads VALUES (?, ?)", (thread_id, document)
        )

    def read(self, thread_id: str) -> bytes:
        row = self.connection.execute(
            "SELECT document FROM threads WHERE id = ?", (thread_id,)
        ).fetchone()
        return bytes(row[0])


def in_turn(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median time of each function in µs, measured A B A B."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            taken.append((time.perf_counter() - began) * 1e6)
    return [statistics.median(taken) for taken in times]


def measure(folder: Path, length: int, rounds: int) -> str:
    thread_id = make_thread_id()
    ours = SQLiteStore(folder / f"ours-{length}.db")
    ours.merge(thread_id, [Set("title", b'"A title"')])
    for number in range(length):
        ours.merge(thread_id, [Push("messages", codec.encode(message(number)))])
    peer = OneRow(folder / f"peer-{length}.db")
    document = {"title": "A title", "messages": [message(number) for number in range(length)]}
    peer.write(thread_id, orjson.dumps(document))
    added = codec.encode(message(length))

    def read_ours() -> object:
        snapshot = ours.read(thread_id, ("messages",))
        assert snapshot is not None and snapshot.encoded["messages"] is not None
        return codec.decode(snapshot.encoded["messages"])

    def read_small() -> object:
        return ours.read(thread_id, ("title",))

    def push_ours() -> None:
        ours.merge(thread_id, [Push("messages", added)])

    def read_peer() -> object:
        return orjson.loads(peer.read(thread_id))

    def push_peer() -> None:
        whole = orjson.loads(peer.read(thread_id))
        whole["messages"].append(message(length))
        peer.write(thread_id, orjson.dumps(whole))

    assert read_ours() == document["messages"]
    reads = in_turn(rounds, read_ours, read_peer, read_small)
    pushes = in_turn(rounds // 4, push_ours, push_peer)
    log = folder / f"ours-{length}.db-wal"
    ours.close()
    ours = SQLiteStore(folder / f"ours-{length}.db")
    ours.read(thread_id, ())
    before = log.stat().st_size
    for _ in range(64):
        push_ours()
    written = (log.stat().st_size - before) / 64
    ours.close()
    return (
        f"{length:>8} {reads[0]:>9.0f} {reads[1]:>9.0f} {reads[0] / reads[1]:>7.2f}"
        f" {reads[2]:>9.0f} {pushes[0]:>9.0f} {pushes[1]:>9.0f} {written:>11.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print(
        f"{'messages':>8} {'read':>9} {'one row':>9} {'ratio':>7} {'small key':>9}"
        f" {'push':>9} {'one row':>9} {'bytes/push':>11}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for length in LENGTHS:
            print(measure(Path(folder), length, rounds), flush=True)


if __name__ == "__main__":
    main()
