"""What this package has to reach: ratios and byte counts, each within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from .harness import Figure, Rounds, beyond, over
from .scenarios import LENGTHS, WRITTEN_LENGTHS

Results = Mapping[str, Any]

_STORES = (("ours-sqlite", "SQLite"), ("ours-redis", "Redis"))


@dataclass(frozen=True)
class Verdict:
    """One target, what was found, and whether that reaches it."""

    what: str
    target: str
    found: str
    #: None: it could not be measured in this run.
    met: bool | None

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        return f"{word:<13}{self.what:<68}{self.target:<18}{self.found}"


@dataclass(frozen=True)
class Target:
    """One target: a limit, and how to find the figure in the results."""

    what: str
    sign: Literal["at most", "at least"]
    limit: float
    #: Raises KeyError if it was not measured.
    find: Callable[[Results], Figure]

    def verdict(self, results: Results) -> Verdict:
        """Compare the limit with the median of what was found."""
        target = f"{self.sign} {self.limit:g}"
        try:
            figure = self.find(results)
        except (KeyError, ZeroDivisionError):
            return Verdict(self.what, target, "", None)
        at_most = self.sign == "at most"
        met = figure.median <= self.limit if at_most else figure.median >= self.limit
        return Verdict(self.what, target, str(figure), met)


def verdicts(results: Results) -> list[Verdict]:
    """Compare the results of ``python -m benchmarks`` with every target."""
    groups = (_times(), _bytes(), _against_others(), _served(), _kept())
    return [target.verdict(results) for group in groups for target in group]


def version_verdicts(results: Results) -> list[Verdict]:
    """Compare the results of ``python -m benchmarks.versions`` with every target."""
    return [target.verdict(results) for target in _versions()]


def _times() -> Iterator[Target]:
    for key, store in _STORES:
        yield Target(
            f"untouched request over bare Flask, {store}",
            "at most",
            1.05,
            partial(_of_bare, "untouched 10", key),
        )
        for what, name, limit in (("one small key", "title", 1.5), ("a push", "push", 1.2)):
            yield Target(
                f"{what}, 4,000 messages over 10, {store}",
                "at most",
                limit,
                partial(_cost_ratio, (f"{name} 4000", key), (f"{name} 10", key)),
            )
    yield Target(
        "a turn, 4,000 messages over 100, SQLite",
        "at most",
        13,
        partial(_cost_ratio, ("turn 4000", "ours-sqlite"), ("turn 100", "ours-sqlite")),
    )
    yield Target("importing the package over importing Flask", "at most", 1.5, _imported)


def _bytes() -> Iterator[Target]:
    for key, store in _STORES:
        for name, limit in (("push", 1.2), ("turn", 1.5)):
            yield Target(
                f"bytes of a {name}, 4,000 messages over 10, {store}",
                "at most",
                limit,
                partial(_written_ratio, f"{name} 4000", f"{name} 10", key),
            )
    for length in WRITTEN_LENGTHS:
        what = f"growing the last of {length:,} messages, bytes"
        label = f"grow {length}"
        yield Target(f"{what} to the write-ahead log", "at most", 10_000, partial(_logged, label))
        yield Target(f"{what} to Redis", "at most", 1_000, partial(_sent, label))


def _against_others() -> Iterator[Target]:
    for length, limit in ((10, 1.6), (1_000, 1.25)):
        yield Target(
            f"a turn at {length:,}, SQLite over fragments by hand",
            "at most",
            limit,
            partial(_compared, f"turn {length}", "ours-sqlite", "hand-fragments"),
        )
    for length, limit in ((10, 1.1), (1_000, 1.0)):
        yield Target(
            f"a turn at {length:,}, Redis over Flask-Session on Redis",
            "at most",
            limit,
            partial(_compared, f"turn {length}", "ours-redis", "session-redis"),
        )


def _served() -> Iterator[Target]:
    for what, one, other in (
        ("SQLite over rows by hand", "ours-sqlite", "hand-rows"),
        ("Redis over Flask-Session on Redis", "ours-redis", "session-redis"),
    ):
        yield Target(
            f"turns a second, {what}", "at least", 1.1, partial(_served_ratio, "rate", one, other)
        )
        yield Target(f"p99, {what}", "at most", 1, partial(_served_ratio, "p99", one, other))


def _kept() -> Iterator[Target]:
    for key, store in _STORES:
        for pause, words in (("0", "at once"), ("0.02", "20 ms between read and write")):
            yield Target(
                f"of 200 appends by 8 clients, {words}, {store}",
                "at least",
                200,
                partial(_survived, pause, key),
            )
        yield Target(
            f"streamed changes stored before the body's end, {store}",
            "at least",
            1,
            partial(_streamed, key),
        )


def _versions() -> Iterator[Target]:
    for key, store in _STORES:
        for length in LENGTHS:
            yield Target(
                f"a turn at {length:,}, new version over old, {store}",
                "at most",
                0.9 if length <= 100 else 0.95,
                partial(_new_over_old, key, f"turn {length}"),
            )
    yield Target(
        "growing the last of 4,000 messages, new version over old, SQLite",
        "at most",
        0.3,
        partial(_new_over_old, "ours-sqlite", "grow 4000"),
    )


def _of_bare(label: str, key: str, results: Results) -> Figure:
    rounds: Rounds = results["rounds"][label]
    return over(rounds[key], rounds["bare"])


def _cost_ratio(one: tuple[str, str], other: tuple[str, str], results: Results) -> Figure:
    return over(_cost(results, *one), _cost(results, *other))


def _compared(label: str, one: str, other: str, results: Results) -> Figure:
    return _cost_ratio((label, one), (label, other), results)


def _cost(results: Results, label: str, key: str) -> list[float]:
    rounds: Rounds = results["rounds"][label]
    return beyond(rounds[key], rounds["bare"])


def _written_ratio(one: str, other: str, key: str, results: Results) -> Figure:
    written = results["written"]
    return Figure.of([written[one][key] / written[other][key]])


def _logged(label: str, results: Results) -> Figure:
    return Figure.of(results["wal"][label]["ours-sqlite"])


def _sent(label: str, results: Results) -> Figure:
    return Figure.of([results["written"][label]["ours-redis"]])


def _served_ratio(name: str, one: str, other: str, results: Results) -> Figure:
    rounds: Rounds = results["served"][name]
    return over(rounds[one], rounds[other])


def _survived(pause: str, key: str, results: Results) -> Figure:
    return Figure.of([float(results["survived"][pause][key])])


def _streamed(key: str, results: Results) -> Figure:
    return Figure.of([float(results["streamed"][key]["before_end"])])


def _imported(results: Results) -> Figure:
    rounds: Rounds = results["started"]
    return over(rounds["import"], rounds["import flask"])


def _new_over_old(key: str, label: str, results: Results) -> Figure:
    rounds: Rounds = results["rounds"][key][label]
    return over(rounds["new"], rounds["old"])
