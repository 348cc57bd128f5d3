"""Which functions one request calls: how often, and how long they take.

    python -m benchmarks.calls ours-sqlite
    python -m benchmarks.calls ours-redis --scenario push --length 1000

The number of calls is the same in every run, so it shows small changes that times do not show.
The profiler makes each call slower: the times only show where to look.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .command import run
from .peers import ADAPTERS, Place
from .redis_server import redis_server
from .report import table
from .scenarios import EDIT, GROW, PUSH, TITLE, TURN, UNTOUCHED
from .worker import Setting, Work

_KINDS = {kind.name: kind for kind in (UNTOUCHED, TITLE, TURN, PUSH, GROW, EDIT)}
_CALLS = 400
_CONVERSATIONS = 100


@dataclass(frozen=True)
class Function:
    """One function: calls and µs in a mean request, the µs without what it calls."""

    name: str
    calls: float
    own: float
    total: float


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("system", choices=ADAPTERS)
    parser.add_argument("--scenario", choices=_KINDS, default=TURN.name)
    parser.add_argument("--length", type=int, default=10, help="messages in the history")
    parser.add_argument("--rows", type=int, default=40, help="how many functions to print")
    parser.add_argument("--package", type=Path, metavar="FOLDER", help="a checkout to measure")
    options = parser.parse_args()
    Setting(package=options.package).prepare()
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        place = Place(Path(folder), url)
        found = profile(options.system, place, options.scenario, options.length)
    print(f"Python calls in one request: {sum(function.calls for function in found):.1f}")
    print(f"µs in one request, with the profiler: {sum(function.own for function in found):.0f}")
    rows = [
        [function.name, f"{function.calls:.2f}", f"{function.own:.1f}", f"{function.total:.1f}"]
        for function in sorted(found, key=lambda function: -function.own)[: options.rows]
    ]
    print(table("By own time", ["function", "calls", "own µs", "total µs"], rows))


def profile(key: str, place: Place, scenario: str, length: int) -> list[Function]:
    """Return what a mean request calls."""
    kind = _KINDS[scenario]
    work = Work.of(key, place)
    work.start(length, _CONVERSATIONS)
    work.block(kind.method, f"/{kind.name}", _CONVERSATIONS)
    profiler = cProfile.Profile()
    profiler.enable()
    work.block(kind.method, f"/{kind.name}", _CALLS)
    profiler.disable()
    return list(_functions(pstats.Stats(profiler)))


def _functions(found: pstats.Stats) -> Iterator[Function]:
    for (path, line, name), (_, calls, own, total, _) in found.stats.items():  # type: ignore[attr-defined]
        place = name if line == 0 else f"{_short(path)}:{line} {name}"
        yield Function(place, calls / _CALLS, own / _CALLS * 1_000_000, total / _CALLS * 1_000_000)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:])


if __name__ == "__main__":
    run(main)
