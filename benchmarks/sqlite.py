"""What the layout of the SQLite store costs, compared with one row that holds the whole JSON.

    python benchmarks/sqlite.py

Both are measured alternately in one run; read the ratios. Times are medians in microseconds,
and the bytes are those that one write adds to the write-ahead log.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Change, Operation, Push, Set, Splice
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write, Written
from flask_agentuity.web.thread_ids import make_thread_id

LENGTHS = (10, 100, 1_000, 4_000)

Messages = list[dict[str, str]]


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

    def close(self) -> None:
        self.connection.close()


def append(messages: Messages) -> None:
    messages += [message(len(messages)), message(len(messages) + 1)]


def grow(messages: Messages) -> None:
    messages[-1]["content"] = messages[-1]["content"][:150] + f" {time.perf_counter_ns()}"


def edit(messages: Messages) -> None:
    messages[len(messages) // 2]["content"] = str(time.perf_counter_ns()).ljust(172)


CHANGES: Mapping[str, Callable[[Messages], None]] = {
    "append two": append,
    "grow the last": grow,
    "edit in the middle": edit,
}


@dataclass
class Systems:
    """The store and its peer, with the same thread in both."""

    folder: Path
    length: int

    def __post_init__(self) -> None:
        self.thread_id = make_thread_id()
        self.ours = SQLiteStore(self.folder / "ours.db")
        self.peer = OneRow(self.folder / "peer.db")
        self.fill()

    def close(self) -> None:
        self.ours.close()
        self.peer.close()

    def fill(self) -> None:
        """Give both the thread as it was in the beginning."""
        messages = [message(number) for number in range(self.length)]
        document = orjson.dumps({"title": "A title", "messages": messages})
        self.peer.write(self.thread_id, document)
        self.ours.merge(
            self.thread_id,
            [Set("title", b'"A title"'), Set("messages", codec.encode(messages))],
        )

    def read(self) -> tuple[Snapshot, Messages]:
        snapshot = self.ours.read(self.thread_id, ("messages",))
        assert snapshot is not None and snapshot.encoded["messages"] is not None
        return snapshot, codec.decode(snapshot.encoded["messages"])

    def read_small(self) -> object:
        return self.ours.read(self.thread_id, ("title",))

    def read_peer(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self.peer.read(self.thread_id))
        return document

    def turn(self, change: Callable[[Messages], None]) -> None:
        """Read, change and write, without the work of finding what has changed."""
        snapshot, messages = self.read()
        length, place = len(messages), len(messages) // 2 if change is edit else -1
        before = messages[place]["content"]
        change(messages)
        operations: list[Operation]
        if len(messages) > length:
            operations = [Push("messages", codec.encode(item)) for item in messages[length:]]
        else:
            old = codec.encode({**messages[place], "content": before})
            new = codec.encode(messages[place])
            splice = Change(place % length, (old,), (new,))
            operations = [Splice("messages", (splice,), since=snapshot.version)]
        write = Write(operations, snapshot.version, snapshot.seen, counted=("messages",))
        assert isinstance(self.ours.write(self.thread_id, write), Written)

    def turn_peer(self, change: Callable[[Messages], None]) -> None:
        document = self.read_peer()
        change(document["messages"])
        self.peer.write(self.thread_id, orjson.dumps(document))

    def logged(self, change: Callable[[Messages], None]) -> int:
        """Return how many bytes a turn adds to the write-ahead log."""
        with closing(sqlite3.connect(self.folder / "ours.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.turn(change)
            return (self.folder / "ours.db-wal").stat().st_size


@contextmanager
def systems(length: int) -> Iterator[Systems]:
    with tempfile.TemporaryDirectory() as folder, closing(Systems(Path(folder), length)) as both:
        yield both


def alternately(rounds: int, both: Systems, *functions: Callable[[], object]) -> list[float]:
    """Return the median time of each function in microseconds, measured A B A B."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds):
        if number % 20 == 0:
            # Appending makes the thread longer.
            both.fill()
            for function in functions:
                function()
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            taken.append((time.perf_counter() - began) * 1e6)
    return [statistics.median(taken) for taken in times]


def measure(both: Systems, rounds: int) -> Iterator[tuple[str, float, float | None, int | None]]:
    """Measure each request: its name, our time, that of the peer, bytes of the log."""
    ours, peer, small = alternately(rounds, both, both.read, both.read_peer, both.read_small)
    yield "read all", ours, peer, None
    yield "read a small key", small, None, None
    for name, change in CHANGES.items():
        ours, peer = alternately(
            rounds,
            both,
            lambda change=change: both.turn(change),
            lambda change=change: both.turn_peer(change),
        )
        both.fill()
        both.turn(change)
        yield name, ours, peer, both.logged(change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print(f"{'messages':>8}  {'request':<20} {'ours':>9} {'one row':>9} {'ratio':>7} {'log':>9}")
    for length in LENGTHS:
        with systems(length) as both:
            for name, ours, peer, logged in measure(both, rounds):
                compared = f"{peer:>9.0f} {ours / peer:>7.2f}" if peer else " " * 17
                print(
                    f"{length:>8}  {name:<20} {ours:>9.0f} {compared}"
                    + (f" {logged:>9,}" if logged else ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()
