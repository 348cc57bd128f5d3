"""What it costs to list 20 threads in a small store and among 100,000, also on page 100.

    python -m benchmarks.listing
    python -m benchmarks.listing --redis redis://localhost:6379/0

Both are measured alternately within one run; read the ratios. Times are medians in µs. Redis is
used only if a URL is given; the keys made there have a random prefix and are removed at the end.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Operation, Push, SetMetadata
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write
from flask_agentuity.web.thread_ids import make_thread_id

from .command import run

OWN = 20
# Half of the threads of the small store are Ada's.
_SMALL = 2 * OWN
MESSAGE = b'{"role":"user","content":"%b"}' % (b"x" * 165)

QUESTIONS: dict[str, Mapping[str, Any]] = {
    "a person with 20 threads": {"owner": "ada"},
    "a person with most threads": {"owner": "grace"},
    "an unknown person": {"owner": "unknown"},
    "a rare value and a common one": {"metadata": {"app": "chat", "user": "ada"}},
    "a common value": {"metadata": {"app": "chat"}},
    "everything": {},
}


def alternately(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median time of each function in µs, measured alternately."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            taken.append((time.perf_counter() - began) * 1e6)
    return [statistics.median(taken) for taken in times]


def fill(store: ThreadStore, count: int) -> float:
    """Store *count* threads, 20 of them Ada's, and return the mean time in µs."""
    began = time.perf_counter()
    for number in range(count):
        user = "ada" if number % (count // OWN) == 0 else f"user {number // OWN}"
        owner = user if user == "ada" or number % 4 == 0 else "grace"
        metadata = {"user": user, "app": "chat", "title": f"Conversation {number}"}
        operations: list[Operation] = [Push("messages", MESSAGE)]
        operations.append(SetMetadata(codec.encode(metadata)))
        store.write(make_thread_id(), Write(operations, owner=owner))
    return (time.perf_counter() - began) * 1e6 / count


def page_100(store: ThreadStore, wanted: Mapping[str, Any]) -> Callable[[], object]:
    """Return what lists the hundredth page, or the last one if there are fewer."""
    cursor = None
    for _ in range(99):
        following = store.list(**wanted, limit=OWN, cursor=cursor).cursor
        if following is None:
            break
        cursor = following
    return partial(store.list, **wanted, limit=OWN, cursor=cursor)


def measure(name: str, small: ThreadStore, large: ThreadStore, count: int, rounds: int) -> None:
    """Fill two stores, ask both the same questions, and print a line for each question."""
    few, many = fill(small, _SMALL), fill(large, count)
    print(f"{name}, begin a thread: {few:.0f} the first {_SMALL}, {many:.0f} the mean of {count:,}")
    for question, wanted in QUESTIONS.items():
        first, later = partial(large.list, **wanted, limit=OWN), page_100(large, wanted)
        few, many, far = alternately(rounds, partial(small.list, **wanted, limit=OWN), first, later)
        print(
            f"  {question:<32} {few:>9.0f} {many:>9.0f} {many / few:>8.2f} {far:>9.0f}", flush=True
        )
    thread_id = large.list(owner="ada", limit=1).threads[0].id
    (push,) = alternately(rounds, partial(large.merge, thread_id, [Push("messages", MESSAGE)]))
    print(f"  {'a push, for comparison':<32} {'':>9} {push:>9.0f}", flush=True)


def measure_redis(url: str, count: int, rounds: int) -> None:
    """Measure a Redis, and remove what was stored there."""
    from redis import Redis

    from flask_agentuity.stores.redis.store import RedisStore

    prefix = f"benchmark:{secrets.token_hex(4)}:"
    client = Redis.from_url(url)
    small, large = (RedisStore(client, prefix=f"{prefix}{size}:") for size in ("small", "large"))
    try:
        measure("Redis", small, large, count, rounds)
    finally:
        for key in client.scan_iter(f"{prefix}*", count=1_000):
            client.delete(key)
        client.close()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--redis", metavar="URL", help="measure this Redis too")
    options = parser.parse_args()
    columns = f"{f'of {_SMALL}':>9} {f'of {options.threads:,}':>9} {'ratio':>8} {'page 100':>9}"
    print(f"{'':<34} {columns}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        small, large = (SQLiteStore(Path(folder) / f"{size}.db") for size in ("small", "large"))
        with closing(small), closing(large):
            measure("SQLite", small, large, options.threads, options.rounds)
    if options.redis:
        measure_redis(options.redis, options.threads, options.rounds)


if __name__ == "__main__":
    run(main)
