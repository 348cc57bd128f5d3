"""Measure several systems alternately, so that a change of the machine's speed affects all."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Figure:
    """The median of the rounds, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the figure of the rounds' values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


def short(value: float) -> str:
    """Return a number with about three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


Rounds = dict[str, list[float]]


def alternately(rounds: int, subjects: Mapping[str, Callable[[], float]]) -> Rounds:
    """Call every subject once in each round, and return the values of each, round by round."""
    taken: Rounds = {name: [] for name in subjects}
    for number in range(rounds):
        names = list(subjects)
        # Another order in each round: no subject always follows the same one.
        random.Random(number).shuffle(names)
        for name in names:
            taken[name].append(subjects[name]())
    return taken


def over(rounds: Sequence[float], base: Sequence[float]) -> Figure:
    """Return the ratio of two systems, taken round by round."""
    return Figure.of([one / other for one, other in zip(rounds, base, strict=True)])


def beyond(rounds: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return what is left of each round's value after that of *base* is taken off."""
    return [one - other for one, other in zip(rounds, base, strict=True)]


def as_json(value: Any) -> Any:
    """Return figures as plain mappings."""
    if isinstance(value, Figure):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    return value
