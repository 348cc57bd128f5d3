"""Compare this package with an older version of it, alternately in one run.

    python -m benchmarks.versions --old FOLDER_OF_A_CHECKOUT

Both versions run in processes that import the package from different folders, on SQLite and
on Redis, which runs on their core. Processes are replaced several times in a run, because two
processes with the same code can differ by some percent for as long as they live. The value of a
round is the lowest decile of its calls: other programs on the machine disturb it least.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from . import scenarios
from .command import progress, run
from .harness import Figure, Rounds, beyond, over, short
from .machine import first_core, machine
from .peers import Place, find_peer
from .redis_server import redis_server
from .report import table
from .scenarios import Kind, Scenario
from .targets import version_verdicts
from .worker import Setting, Worker

_CALLS = 32
_STORES = {"sqlite": "ours-sqlite", "redis": "ours-redis"}
_KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        scenarios.UNTOUCHED,
        scenarios.TITLE,
        scenarios.TURN,
        scenarios.PUSH,
        scenarios.GROW,
        scenarios.EDIT,
    )
}


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    old: Path
    new: Path
    keys: Sequence[str]
    scenarios: Sequence[Scenario]
    rounds: int
    processes: int
    hidden_from_old: Sequence[str]


def main() -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    plan = Plan(
        old=options.old.resolve(),
        new=options.new.resolve(),
        keys=[_STORES[name] for name in options.stores],
        scenarios=_scenarios(options.scenarios, options.lengths),
        rounds=options.rounds,
        processes=options.processes,
        hidden_from_old=options.hide_from_old,
    )
    results = measure(plan)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "versions.json"
    path.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    print_report(results)
    print(f"\nIn {path}: every round")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = Path(__file__).parent.parent
    add = parser.add_argument
    add("--old", type=Path, required=True, metavar="FOLDER", help="a checkout")
    add("--new", type=Path, default=here, metavar="FOLDER", help="default: this checkout")
    add("--stores", nargs="+", choices=_STORES, default=list(_STORES))
    add("--scenarios", nargs="+", choices=_KINDS, default=list(_KINDS))
    add("--lengths", nargs="+", type=int, default=list(scenarios.LENGTHS))
    add("--rounds", type=int, default=20, help="with each pair of processes")
    add("--processes", type=int, default=8, help="pairs, one after another")
    add(
        "--hide-from-old",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that the old version did not require, such as hiredis",
    )
    add("--output", type=Path, default=Path("build/benchmarks"), metavar="FOLDER")
    return parser


def _scenarios(names: Sequence[str], lengths: Sequence[int]) -> list[Scenario]:
    found = []
    for name in names:
        kind = _KINDS[name]
        of_kind = lengths[:1] if kind is scenarios.UNTOUCHED else lengths
        found += [Scenario(kind, length, _CALLS) for length in of_kind]
    return found


def measure(plan: Plan) -> dict[str, Any]:
    """Measure both versions, and return every round."""
    results: dict[str, Any] = {
        "machine": machine(),
        "versions": {name: describe(getattr(plan, name)) for name in ("old", "new")},
        "left_out": {},
        "rounds": {},
    }
    for number in range(plan.processes):
        for key in plan.keys:
            with (
                tempfile.TemporaryDirectory() as folder,
                redis_server(Path(folder), first_core()) as url,
            ):
                if find_peer(key).needs_redis and url is None:
                    results["left_out"][key] = "there is no redis-server"
                    continue
                found = results["rounds"].setdefault(key, {})
                with running(plan, key, Path(folder), url) as workers:
                    for scenario in plan.scenarios:
                        progress(f"{number + 1} of {plan.processes}, {key}, {scenario.label}")
                        rounds = scenarios.measure(workers, scenario, plan.rounds, _lowest_decile)
                        _extend(found.setdefault(scenario.label, {}), rounds)
    return results


@contextmanager
def running(plan: Plan, key: str, folder: Path, url: str | None) -> Iterator[list[Worker]]:
    """Run one process for each version, and one for bare Flask.

    :raises RuntimeError: if a process has not imported the version that it is to measure.
    """
    core = first_core()
    settings = {
        "bare": Setting(core),
        "old": Setting(core, plan.old, plan.hidden_from_old),
        "new": Setting(core, plan.new),
    }
    with ExitStack() as stack:
        workers = []
        for number, (label, setting) in enumerate(settings.items()):
            # Each has its own database number: the versions may differ in what they store.
            place = Place(folder / label, url and url.removesuffix("0") + str(number))
            place.folder.mkdir()
            workers.append(Worker("bare" if label == "bare" else key, place, setting, label))
            stack.callback(workers[-1].close)
            if setting.package is not None:
                found = workers[-1]("package_folder")
                if found != str(setting.package):
                    raise RuntimeError(f"The package came from {found}, not {setting.package}.")
        scenarios.warm(workers)
        yield workers


def describe(folder: Path) -> str:
    """Return what Git calls the commit in *folder*, or the folder's name."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or folder.name


def _lowest_decile(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=10, method="inclusive")[0]


def _extend(found: Rounds, rounds: Rounds) -> None:
    for label, values in rounds.items():
        found.setdefault(label, []).extend(values)


def print_report(results: dict[str, Any]) -> None:
    """Print a table for each store, and the targets."""
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    print(", ".join(f"{name}: {value}" for name, value in results["versions"].items()))
    for key, why in results["left_out"].items():
        print(f"Left out: {key} ({why})")
    columns = ["request", "messages", "old µs", "new µs", "new over old", "beyond bare Flask"]
    for key, found in results["rounds"].items():
        rows = [_row(label, rounds) for label, rounds in found.items()]
        print(table(find_peer(key).name, columns, rows))
    print("\nTargets\n-------")
    for verdict in version_verdicts(results):
        print(verdict)


def _row(label: str, rounds: Rounds) -> list[str]:
    name, length = label.split()
    old, new, bare = (rounds[version] for version in ("old", "new", "bare"))
    cost = ""
    if name != scenarios.UNTOUCHED.name:
        cost = str(over(beyond(new, bare), beyond(old, bare)))
    medians = (short(Figure.of(taken).median) for taken in (old, new))
    return [name, f"{int(length):,}", *medians, str(over(new, old)), cost]


if __name__ == "__main__":
    run(main)
