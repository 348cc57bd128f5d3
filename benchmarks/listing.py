"""What it costs to list one owner's 20 threads in a small store and among 100,000.

    python benchmarks/listing.py [--redis redis://localhost:6379/0]

Both are measured in turn within one run; read the ratios. Times are medians in µs. In a Redis,
which is only used when it is named, keys under a name of their own are made and removed.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flask_agentuity.document.operations import Push
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web.provider import make_thread_id

OWN = 20
MESSAGE = b'{"role":"user","content":"%b"}' % (b"x" * 165)

QUESTIONS: dict[str, Mapping[str, str] | None] = {
    "one owner": {"owner": "ada"},
    "one owner, a common value too": {"app": "chat", "owner": "ada"},
    "nobody": {"owner": "nobody"},
    "everything, first page": None,
}


def in_turn(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median time of each function in µs, measured A B A B."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            taken.append((time.perf_counter() - began) * 1e6)
    return [statistics.median(taken) for taken in times]


def fill(store: ThreadStore, count: int) -> float:
    """Store *count* threads, of which 20 are Ada's, and return the mean time in µs."""
    began = time.perf_counter()
    for number in range(count):
        owner = "ada" if number % (count // OWN) == 0 else f"user {number // OWN}"
        metadata = {"owner": owner, "app": "chat", "title": f"Conversation {number}"}
        store.merge(make_thread_id(), [Push("messages", MESSAGE)], metadata)
    return (time.perf_counter() - began) * 1e6 / count


def measure(name: str, small: ThreadStore, large: ThreadStore, count: int, rounds: int) -> None:
    few, many = fill(small, OWN), fill(large, count)
    print(f"{name}, begin a thread: {few:.0f} the first {OWN}, {many:.0f} the mean of {count:,}")
    for question, wanted in QUESTIONS.items():
        expected = 0 if question == "nobody" else OWN
        for store in (small, large):
            assert len(store.list(wanted, limit=OWN).threads) == expected
        times = in_turn(
            rounds,
            lambda wanted=wanted: small.list(wanted, limit=OWN),
            lambda wanted=wanted: large.list(wanted, limit=OWN),
        )
        print(f"  {question:<32} {times[0]:>9.0f} {times[1]:>9.0f} {times[1] / times[0]:>8.2f}")
    thread_id = large.list({"owner": "ada"}, limit=1).threads[0].id
    (push,) = in_turn(rounds, lambda: large.merge(thread_id, [Push("messages", MESSAGE)]))
    print(f"  {'a push, for comparison':<32} {'':>9} {push:>9.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--redis", metavar="URL", help="measure Redis too")
    options = parser.parse_args()
    print(f"{'':<34} {f'of {OWN}':>9} {f'of {options.threads:,}':>9} {'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        files = [SQLiteStore(Path(folder) / f"{size}.db") for size in ("small", "large")]
        measure("SQLite", *files, options.threads, options.rounds)
        for store in files:
            store.close()
    if options.redis:
        from redis import Redis

        from flask_agentuity.stores.redis.store import RedisStore

        prefix = f"benchmark:{secrets.token_hex(4)}:"
        client = Redis.from_url(options.redis)
        small, large = (
            RedisStore(client, prefix=f"{prefix}{size}:") for size in ("small", "large")
        )
        try:
            measure("Redis", small, large, options.threads, options.rounds)
        finally:
            for key in client.scan_iter(f"{prefix}*", count=1_000):
                client.delete(key)
            client.close()


if __name__ == "__main__":
    main()
