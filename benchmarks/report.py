"""The tables, the JSON file and the plot of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from .harness import Figure, Rounds, as_json, over, short
from .peers import ADAPTERS, find_peer
from .scenarios import LENGTHS
from .targets import verdicts

Results = Mapping[str, Any]


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
    machine = results["machine"]
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for key, why in results["left_out"].items():
        print(f"Left out: {key} ({why})")
    names = {key: find_peer(key).name for key in results["measured"]}
    print(
        table(
            "What an acknowledged write survives",
            ["system", "durability"],
            [[name, find_peer(key).durability] for key, name in names.items()],
        )
    )
    for scenario, rounds in results["rounds"].items():
        print(_times(scenario, rounds, names))
    for scenario, found in results["written"].items():
        rows = [[names[key], short(value)] for key, value in found.items() if key != "bare"]
        print(table(f"Bytes written by a {scenario}", ["system", "bytes"], rows))
    if "served" in results:
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
        print(table(f"gunicorn gthread, 100 messages, load by {served['load']}", columns, rows))
    if "survived" in results:
        at_once, slowly = results["survived"]["0"], results["survived"]["0.02"]
        rows = [[names[key], str(at_once[key]), str(slowly[key])] for key in at_once]
        columns = ["system", "at once", "20 ms between"]
        print(table("Of 200 appends by 8 clients to one thread, there are", columns, rows))
    rows = [
        [names[key], "yes" if found["kept"] else "no", "yes" if found["before_end"] else "no"]
        for key, found in results["streamed"].items()
    ]
    print(table("Changes made while streaming", ["system", "kept", "before the end"], rows))
    if "started" in results:
        rows = [[name, str(Figure.of(values))] for name, values in results["started"].items()]
        print(table("Starting, ms in a new process", ["what", "ms"], rows))
    print("\nTargets\n-------")
    for verdict in verdicts(results):
        print(verdict)


def _times(scenario: str, rounds: Rounds, names: Mapping[str, str]) -> str:
    bare = rounds["bare"]
    rows = []
    for key, taken in rounds.items():
        cost = [one - base for one, base in zip(taken, bare, strict=True)]
        rows.append(
            [
                names[key],
                str(Figure.of(taken)),
                str(over(taken, bare)),
                short(Figure.of(cost).median),
            ]
        )
    name, length = scenario.split()
    columns = ["system", "µs", "over bare Flask", "µs beyond it"]
    return table(f"{name}, {length} messages", columns, rows)


def write_json(results: Results, path: Path) -> None:
    """Write every round of every scenario, and the targets."""
    whole = {**results, "targets": [vars(verdict) for verdict in verdicts(results)]}
    path.write_bytes(orjson.dumps(as_json(whole), option=orjson.OPT_INDENT_2))


def write_plot(results: Results, path: Path) -> None:
    """Draw the cost of a turn over the history's length, a line for each system."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, 6), layout="constrained")
    axes = drawing.subplots()
    for number, key in enumerate(key for key in ADAPTERS if key in results["measured"]):
        points = []
        for length in LENGTHS:
            rounds = results["rounds"].get(f"turn {length}", {})
            if key != "bare" and key in rounds:
                pairs = zip(rounds[key], rounds["bare"], strict=True)
                points.append((length, Figure.of([one - bare for one, bare in pairs]).median))
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
