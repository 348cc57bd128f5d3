"""Which functions one request calls: how often, and how long they take.

    python -m benchmarks.calls ours-sqlite
    python -m benchmarks.calls ours-redis --scenario push --length 1000

The number of calls is the same in every run, so it shows small changes that times do not show.
Times are medians over the requests. The profiler makes each call slower: they only show where
to look.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median

from .command import run
from .peers import ADAPTERS, Place
from .redis_server import redis_server
from .report import table
from .scenarios import EDIT, GROW, PUSH, TITLE, TURN, UNTOUCHED
from .worker import Setting, Work

_KINDS = {kind.name: kind for kind in (UNTOUCHED, TITLE, TURN, PUSH, GROW, EDIT)}
_REQUESTS = 400
_CONVERSATIONS = 100


@dataclass(frozen=True)
class Function:
    """One function: calls and µs in one request; *own* is without what it calls."""

    name: str
    built_in: bool
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
    parser.add_argument("--sort", choices=("own", "total", "calls"), default="own")
    parser.add_argument("--only", default="", metavar="TEXT", help="functions with this text")
    parser.add_argument("--package", type=Path, metavar="FOLDER", help="a checkout to measure")
    options = parser.parse_args()
    Setting(package=options.package).prepare()
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        place = Place(Path(folder), url)
        found = profile(options.system, place, options.scenario, options.length)
    for built_in, what in ((False, "Python functions"), (True, "built-in functions")):
        calls = sum(function.calls for function in found if function.built_in is built_in)
        print(f"Calls of {what} in one request: {calls:.1f}")
    print(f"µs in one request, with the profiler: {sum(function.own for function in found):.0f}")
    key = attrgetter(options.sort)
    rows = [
        [function.name, f"{function.calls:.2f}", f"{function.own:.1f}", f"{function.total:.1f}"]
        for function in sorted(found, key=key, reverse=True)
        if options.only in function.name
    ][: options.rows]
    print(table(f"By {options.sort}", ["function", "calls", "own µs", "total µs"], rows))


def profile(key: str, place: Place, scenario: str, length: int) -> list[Function]:
    """Return what one request calls."""
    kind = _KINDS[scenario]
    work = Work.of(key, place)
    work.start(length, _CONVERSATIONS)
    work.block(kind.method, f"/{kind.name}", _CONVERSATIONS)
    found: dict[tuple[str, int, str], list[tuple[int, float, float]]] = {}
    for _ in range(_REQUESTS):
        profiler = cProfile.Profile()
        profiler.enable()
        work.block(kind.method, f"/{kind.name}", 1)
        profiler.disable()
        statistics = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
        for function, (_, calls, own, total, _) in statistics.items():
            found.setdefault(function, []).append((calls, own, total))
    return [_function(name, requests) for name, requests in found.items()]


def _function(function: tuple[str, int, str], requests: list[tuple[int, float, float]]) -> Function:
    path, line, name = function
    calls, own, total = zip(*requests, strict=True)
    built_in = line == 0
    return Function(
        name if built_in else f"{_short(path)}:{line} {name}",
        built_in,
        sum(calls) / _REQUESTS,
        median(own) * 1_000_000,
        median(total) * 1_000_000,
    )


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:])


if __name__ == "__main__":
    run(main)
