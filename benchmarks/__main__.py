"""Measure, write the JSON and the plot, and print: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import report, scenarios, serving, starting
from .command import progress, run
from .load import generator
from .machine import first_core, machine
from .peers import ADAPTERS, Place, find_peer
from .redis_server import received_bytes, redis_server
from .worker import Setting, Worker


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that all works")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=ADAPTERS, metavar="SYSTEM", default=[])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis_url:
        results = measure(Path(folder), redis_url, arguments.quick, arguments.only)
    report.write_json(results, arguments.output / "benchmarks.json")
    report.write_plot(results, arguments.output / "turn.svg")
    report.print_report(results)
    print(f"\nIn {arguments.output}: benchmarks.json, turn.svg")


def measure(folder: Path, redis_url: str | None, quick: bool, only: list[str]) -> dict[str, Any]:
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
    }
    measure_warmed(results, places, redis_url, quick, rounds)
    results["fresh"] = {}
    for length in scenarios.FRESH_LENGTHS:
        scenario = scenarios.Scenario(scenarios.TURN, length, 6 if quick else 16)
        progress(f"{scenario.label} in new processes")
        with running(places) as workers:
            results["fresh"][scenario.label] = scenarios.measure(workers, scenario, rounds)
    progress("starting")
    results["started"] = starting.measure(rounds)
    serve(results, places, quick)
    return results


def measure_warmed(
    results: dict[str, Any],
    places: Mapping[str, Place],
    redis_url: str | None,
    quick: bool,
    rounds: int,
) -> None:
    """Measure all scenarios in processes that have handled a long history before."""
    results |= {"rounds": {}, "written": {}, "wal": {}}
    with running(places) as workers:
        scenarios.warm(workers)
        for scenario in scenarios.scenarios(quick):
            progress(scenario.label)
            results["rounds"][scenario.label] = scenarios.measure(workers, scenario, rounds)
            note_left_out(results["left_out"], workers, scenario)
        for kind in (scenarios.TURN, scenarios.PUSH, scenarios.GROW, scenarios.EDIT):
            for length in scenarios.WRITTEN_LENGTHS:
                label = f"{kind.name} {length}"
                progress(f"bytes of {label}")
                results["written"][label] = scenarios.written(
                    workers, kind, length, received_bytes(redis_url)
                )
                results["wal"][label] = scenarios.written_to_wal(workers, kind, length)
        results["streamed"] = scenarios.streamed(workers)


@contextmanager
def running(places: Mapping[str, Place]) -> Iterator[list[Worker]]:
    """Run a new process for each system."""
    setting = Setting(first_core())
    with ExitStack() as stack:
        workers = []
        for key, place in places.items():
            workers.append(Worker(key, place, setting))
            stack.callback(workers[-1].close)
        yield workers


def note_left_out(
    left_out: dict[str, str], workers: Iterable[Worker], scenario: scenarios.Scenario
) -> None:
    """Add why a scenario was not measured for a system, once for each reason."""
    for worker in workers:
        why = scenario.why_not(worker)
        if why is None:
            continue
        by_length = worker.peer.most_messages is not None
        left_out[f"{worker.key}, {'longer histories' if by_length else scenario.kind.name}"] = why


def serve(results: dict[str, Any], places: Mapping[str, Place], quick: bool) -> None:
    """Measure what needs a server, if gunicorn is installed."""
    if find_spec("gunicorn") is None:
        results["left_out"]["turns a second, concurrent appends"] = "gunicorn is not installed"
        return
    with ExitStack() as stack:
        servers = []
        for key, place in places.items():
            servers.append(serving.Server(key, place, first_core()))
            stack.callback(servers[-1].close)
        for server in servers:
            server.call("GET", "/untouched")
        memory = {server.key: server.memory() for server in servers}
        for server in servers:
            server.warm()
        progress("turns a second")
        served: dict[str, Any] = dict(
            serving.throughput(servers, 1 if quick else 5, 1 if quick else 3)
        )
        results["served"] = served | {"load": generator(), "memory": memory}
        results["survived"] = {}
        for pause in ("0", "0.02"):
            progress(f"concurrent appends, {pause} s between read and write")
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


if __name__ == "__main__":
    run(main)
