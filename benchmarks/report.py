"""The tables, the JSON file and the plot of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from .harness import Figure, Rounds, as_json, beyond, over, short
from .peers import ADAPTERS, find_peer
from .scenarios import LENGTHS, TITLES
from .targets import verdicts

Results = Mapping[str, Any]
Names = Mapping[str, str]


def table(title: str, columns: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table as text: names to the left, figures to the right."""
    cells = [columns, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in cells
    ]
    return "\n".join(["", title, "-" * len(title), *lines])


def print_report(results: Results) -> None:
    """Print everything that was measured."""
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    for what, why in results["left_out"].items():
        print(f"Left out: {what} ({why})")
    names = {key: find_peer(key).name for key in results["measured"]}
    rows = [[name, find_peer(key).durability] for key, name in names.items()]
    print(table("What an acknowledged write survives", ["system", "durability"], rows))
    for label, rounds in results["rounds"].items():
        print(_times(label, rounds, names))
    for label, rounds in results["fresh"].items():
        print(_times(label, rounds, names, "in processes that have handled nothing longer"))
    for label in results["written"]:
        print(_written(label, results, names))
    for name, tabulate in _OTHERS.items():
        if name in results:
            print(tabulate(results, names))
    print("\nTargets\n-------")
    for verdict in verdicts(results):
        print(verdict)


def _times(label: str, rounds: Rounds, names: Names, where: str = "") -> str:
    bare = rounds["bare"]
    rows = [
        [
            names[key],
            str(Figure.of(taken)),
            str(over(taken, bare)),
            short(Figure.of(beyond(taken, bare)).median),
        ]
        for key, taken in rounds.items()
    ]
    columns = ["system", "µs", "over bare Flask", "µs beyond it"]
    return table(" ".join([_title(label), where]).rstrip(), columns, rows)


def _title(label: str) -> str:
    name, length = label.split()
    return f"{TITLES[name]} ({name}), {int(length):,} messages"


def _written(label: str, results: Results, names: Names) -> str:
    logged: Rounds = results["wal"].get(label, {})
    rows = [
        [names[key], short(value), str(Figure.of(logged[key])) if key in logged else ""]
        for key, value in results["written"][label].items()
        if key != "bare"
    ]
    columns = ["system", "bytes", "to the write-ahead log"]
    return table(f"Bytes written. {_title(label)}", columns, rows)


def _served(results: Results, names: Names) -> str:
    served = results["served"]
    rows = [
        [
            names[key],
            str(Figure.of(served["rate"][key])),
            short(over(served["rate"][key], served["rate"]["bare"]).median),
            *(short(Figure.of(served[name][key]).median) for name in ("p50", "p99")),
            "" if served["memory"][key] is None else short(served["memory"][key]),
        ]
        for key in served["rate"]
    ]
    columns = ["system", "turns/s", "of bare", "p50 ms", "p99 ms", "MB of an idle worker"]
    return table(f"gunicorn gthread, 100 messages, load by {served['load']}", columns, rows)


def _survived(results: Results, names: Names) -> str:
    at_once, slowly = results["survived"]["0"], results["survived"]["0.02"]
    rows = [[names[key], str(at_once[key]), str(slowly[key])] for key in at_once]
    columns = ["system", "at once", "20 ms between read and write"]
    return table("Stored of 200 appends by 8 clients to one conversation", columns, rows)


def _streamed(results: Results, names: Names) -> str:
    rows = [
        [names[key], *("yes" if found[name] else "no" for name in ("kept", "before_end"))]
        for key, found in results["streamed"].items()
    ]
    return table("Changes made while streaming", ["system", "stored", "before the end"], rows)


def _started(results: Results, names: Names) -> str:
    rows = [[name, str(Figure.of(values))] for name, values in results["started"].items()]
    return table("Starting, in a new process", ["what", "ms"], rows)


_OTHERS: Mapping[str, Callable[[Results, Names], str]] = {
    "served": _served,
    "survived": _survived,
    "streamed": _streamed,
    "started": _started,
}


def write_json(results: Results, path: Path) -> None:
    """Write every round of every scenario, and the targets."""
    whole = {**results, "targets": [vars(verdict) for verdict in verdicts(results)]}
    path.write_bytes(orjson.dumps(as_json(whole), option=orjson.OPT_INDENT_2))


def write_plot(results: Results, path: Path) -> None:
    """Draw the cost of a turn over the length of the history, a line for each system."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, 6), layout="constrained")
    axes = drawing.subplots()
    for number, key in enumerate(key for key in ADAPTERS if key in results["measured"]):
        points = _points(results, key)
        if points:
            ours = key.startswith("ours")
            axes.plot(
                *zip(*points, strict=True),
                label=find_peer(key).name,
                linewidth=2.5 if ours else 1.2,
                linestyle="-" if ours else ("--", "-.", ":")[number % 3],
                marker="o",
                markersize=4,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="messages in the history",
        ylabel="µs beyond bare Flask",
        title="A turn: read the history, append two messages",
    )
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
    drawing.savefig(path, format="svg")


def _points(results: Results, key: str) -> list[tuple[int, float]]:
    points = []
    for length in LENGTHS:
        rounds = results["rounds"].get(f"turn {length}", {})
        if key != "bare" and key in rounds:
            cost = Figure.of(beyond(rounds[key], rounds["bare"])).median
            points.append((length, cost))
    return points
