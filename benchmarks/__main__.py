"""Measure, print, and write the JSON and the plot: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from . import report, scenarios, serving, starting
from .load import generator
from .peers import ADAPTERS, Place, find_peer
from .redis_server import redis_server
from .worker import Worker


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a figure")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=ADAPTERS, metavar="SYSTEM", default=[])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis_url:
        results = run(Path(folder), redis_url, arguments.quick, arguments.only)
    report.print_report(results)
    report.write_json(results, arguments.output / "benchmarks.json")
    report.write_plot(results, arguments.output / "turn.svg")
    print(f"\nIn {arguments.output}: benchmarks.json, turn.svg")


def run(folder: Path, redis_url: str | None, quick: bool, only: list[str]) -> dict[str, Any]:
    """Measure everything, and return it."""
    keys, left_out = available(redis_url, only)
    places = {key: Place(folder / key, redis_url) for key in keys}
    for place in places.values():
        place.folder.mkdir()
    rounds = 4 if quick else 25
    results: dict[str, Any] = {
        "machine": machine(),
        "measured": keys,
        "left_out": left_out,
        "rounds": {},
        "written": {},
    }
    with ExitStack() as stack:
        workers = []
        for key in keys:
            workers.append(Worker(key, places[key], first_core()))
            stack.callback(workers[-1].close)
        for scenario in scenarios.scenarios(quick):
            progress(scenario.label)
            results["rounds"][scenario.label] = scenarios.measure(workers, scenario, rounds)
        for name in ("turn", "push"):
            for length in (10, 4_000):
                progress(f"bytes of {name} {length}")
                results["written"][f"{name} {length}"] = scenarios.written(
                    workers, name, length, redis_counter(redis_url)
                )
        results["streamed"] = scenarios.streamed(workers)
    progress("starting")
    results["started"] = starting.measure(rounds)
    serve(results, places, quick)
    return results


def serve(results: dict[str, Any], places: dict[str, Place], quick: bool) -> None:
    """Measure what needs a server, where gunicorn is installed."""
    if find_spec("gunicorn") is None:
        results["left_out"]["turns a second, appends at once"] = "gunicorn is not installed"
        return
    with ExitStack() as stack:
        servers = []
        for key, place in places.items():
            servers.append(serving.Server(key, place, first_core()))
            stack.callback(servers[-1].close)
        for server in servers:
            server.call("GET", "/untouched")
        memory = {server.key: server.memory() for server in servers}
        progress("turns a second")
        served: dict[str, Any] = dict(
            serving.throughput(servers, 1 if quick else 5, 1 if quick else 3)
        )
        served |= {"load": generator(), "memory": memory}
        results["served"] = served
        results["survived"] = {}
        for pause in ("0", "0.02"):
            progress(f"appends at once, {pause} s between")
            results["survived"][pause] = {
                server.key: server.survived(pause)
                for server in servers
                if server.peer.has_history and server.peer.most_messages is None
            }


def available(redis_url: str | None, only: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the systems that can be measured here, and why the others cannot."""
    keys, left_out = [], {}
    for key in ADAPTERS:
        try:
            peer = find_peer(key)
        except ImportError as error:
            left_out[key] = f"{error.name} is not installed"
            continue
        if peer.needs_redis and redis_url is None:
            left_out[key] = "there is no redis-server"
        elif key == "bare" or not only or key in only:
            keys.append(key)
    return keys, left_out


def redis_counter(url: str | None) -> Callable[[], int]:
    """Return a function that returns how many bytes Redis has received."""
    if url is None:
        return lambda: 0
    client = redis.Redis.from_url(url)
    return lambda: int(client.info("stats")["total_net_input_bytes"])


def first_core() -> int | None:
    """Return a core to stay on, where Linux lets one choose."""
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "Python": platform.python_version(),
        "Flask": version("flask"),
        "SQLite": sqlite3.sqlite_version,
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def progress(text: str) -> None:
    """Say on standard error what is being measured."""
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
