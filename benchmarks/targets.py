"""What this package has to reach, each a ratio within one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .harness import Figure, Rounds, over

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """One target, what was found, and whether that reaches it."""

    what: str
    target: str
    found: str
    #: None: it could not be looked at in this run.
    met: bool | None

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        return f"{word:<13}{self.what:<68}{self.target:<18}{self.found}"


class _Measured:
    """The rounds of a run, as ratios."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._times: Mapping[str, Rounds] = results["rounds"]

    def cost(self, scenario: str, key: str) -> list[float]:
        """Return what a request costs beyond bare Flask, round by round."""
        rounds = self._times[scenario]
        return [one - bare for one, bare in zip(rounds[key], rounds["bare"], strict=True)]

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> Figure:
        """Return what one request costs over another, both beyond bare Flask."""
        return over(self.cost(*one), self.cost(*other))

    def of_bare(self, scenario: str, key: str) -> Figure:
        """Return a request's time over bare Flask's."""
        return over(self._times[scenario][key], self._times[scenario]["bare"])

    def written(self, name: str, key: str) -> Figure:
        """Return the bytes at 4,000 messages over those at 10."""
        found = self._results["written"]
        return Figure.of([found[f"{name} 4000"][key] / found[f"{name} 10"][key]])

    def served(self, one: str, other: str) -> tuple[Figure, Figure]:
        """Return the turns a second and the p99 of one system over another's."""
        served = self._results["served"]
        return (
            over(served["rate"][one], served["rate"][other]),
            over(served["p99"][one], served["p99"][other]),
        )

    def survived(self, pause: str, key: str) -> Figure:
        """Return how many of 200 concurrent appends were there in the end."""
        return Figure.of([float(self._results["survived"][pause][key])])

    def streamed(self, key: str) -> Figure:
        """Return how much of a streamed turn was kept before the end of the body."""
        return Figure.of([float(self._results["streamed"][key]["before_end"])])

    def imported(self) -> Figure:
        """Return the time to import the package over that to import Flask."""
        return over(self._results["started"]["import"], self._results["started"]["import flask"])


def verdicts(results: Results) -> list[Verdict]:
    """Look at every target."""
    measured = _Measured(results)
    found: list[Verdict] = []

    def look(what: str, sign: str, limit: float, take: Callable[[], Figure]) -> None:
        try:
            figure = take()
        except (KeyError, ZeroDivisionError):
            found.append(Verdict(what, f"{sign} {limit:g}", "", None))
            return
        met = figure.median <= limit if sign == "at most" else figure.median >= limit
        found.append(Verdict(what, f"{sign} {limit:g}", str(figure), met))

    for key, store in (("ours-sqlite", "SQLite"), ("ours-redis", "Redis")):
        look(
            f"untouched request over bare Flask, {store}",
            "at most",
            1.05,
            lambda key=key: measured.of_bare("untouched 10", key),  # type: ignore[misc]
        )
        look(
            f"one small key, 4,000 messages over 10, {store}",
            "at most",
            1.5,
            lambda key=key: measured.ratio(("title 4000", key), ("title 10", key)),  # type: ignore[misc]
        )
        look(
            f"a push, 4,000 messages over 10, {store}",
            "at most",
            1.2,
            lambda key=key: measured.ratio(("push 4000", key), ("push 10", key)),  # type: ignore[misc]
        )
        look(
            f"bytes of a push, 4,000 messages over 10, {store}",
            "at most",
            1.2,
            lambda key=key: measured.written("push", key),  # type: ignore[misc]
        )
        look(
            f"bytes of a turn, 4,000 messages over 10, {store}",
            "at most",
            1.5,
            lambda key=key: measured.written("turn", key),  # type: ignore[misc]
        )
    for what, limit, one, other in (
        ("SQLite over Flask-Session on Redis", 0.6, "ours-sqlite", "session-redis"),
        ("SQLite over fragments by hand", 1.15, "ours-sqlite", "hand-fragments"),
        ("Redis over Flask-Session on Redis", 0.85, "ours-redis", "session-redis"),
    ):
        look(
            f"a turn at 1,000, {what}",
            "at most",
            limit,
            lambda one=one, other=other: measured.ratio(  # type: ignore[misc]
                ("turn 1000", one), ("turn 1000", other)
            ),
        )
    look(
        "a turn, 4,000 messages over 100, SQLite",
        "at most",
        13,
        lambda: measured.ratio(("turn 4000", "ours-sqlite"), ("turn 100", "ours-sqlite")),
    )
    for what, one, other in (
        ("SQLite over rows by hand", "ours-sqlite", "hand-rows"),
        ("Redis over Flask-Session on Redis", "ours-redis", "session-redis"),
    ):
        look(
            f"turns a second, {what}",
            "at least",
            1.1,
            lambda one=one, other=other: measured.served(one, other)[0],  # type: ignore[misc]
        )
        look(
            f"p99, {what}",
            "at most",
            1,
            lambda one=one, other=other: measured.served(one, other)[1],  # type: ignore[misc]
        )
    for key, store in (("ours-sqlite", "SQLite"), ("ours-redis", "Redis")):
        for pause, words in (("0", "at once"), ("0.02", "20 ms between read and write")):
            look(
                f"of 200 appends by 8 clients, {words}, {store}",
                "at least",
                200,
                lambda key=key, pause=pause: measured.survived(pause, key),  # type: ignore[misc]
            )
        look(
            f"streamed changes kept before the body's end, {store}",
            "at least",
            1,
            lambda key=key: measured.streamed(key),  # type: ignore[misc]
        )
    look("importing the package over importing Flask", "at most", 1.5, measured.imported)
    return found
