"""The scenarios without a server: what a request takes within one process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .harness import Rounds, in_turn
from .worker import Worker

LENGTHS = (10, 100, 1_000, 4_000)
_WRITING_CALLS = 128
# Another process had the core: the first calls only fill its caches again.
_WARMING_CALLS = 2


@dataclass(frozen=True)
class Scenario:
    """One kind of request, at one length of the history."""

    name: str
    method: str
    length: int
    #: Calls in each round; a round's value is the mean of what they took.
    calls: int
    growth: int = 0

    @property
    def path(self) -> str:
        """The view."""
        return f"/{self.name}"

    @property
    def label(self) -> str:
        """The key in the results."""
        return f"{self.name} {self.length}"

    def fits(self, worker: Worker) -> bool:
        """Return whether a system can do this at all."""
        peer = worker.peer
        if peer.most_messages is not None and self.length > peer.most_messages:
            return False
        return peer.has_small_keys or self.name != "title"

    def visitors(self, rounds: int) -> int:
        """Return how many conversations keep the histories' growth under a twentieth or so."""
        return math.ceil(
            self.growth * (self.calls + _WARMING_CALLS) * rounds / max(2, self.length // 10)
        )


def scenarios(quick: bool) -> list[Scenario]:
    """Return all of them, with fewer calls if *quick*."""
    calls = 6 if quick else 16
    return [
        Scenario("untouched", "GET", 10, 50),
        *(Scenario("title", "GET", length, calls) for length in (10, 4_000)),
        *(Scenario("turn", "POST", length, calls, 2) for length in LENGTHS),
        *(Scenario("push", "POST", length, calls, 1) for length in (10, 4_000)),
        Scenario("stream", "POST", 100, calls, 2),
    ]


def measure(workers: list[Worker], scenario: Scenario, rounds: int) -> Rounds:
    """Return the µs of a request for each system that can do it, round by round."""
    subjects = {}
    for worker in workers:
        if scenario.fits(worker):
            # One more for the first round, which only warms up.
            worker("start", scenario.length, max(1, scenario.visitors(rounds + 1)))
            subjects[worker.key] = partial(_mean, worker, scenario)
    in_turn(1, subjects)
    return in_turn(rounds, subjects)


def _mean(worker: Worker, scenario: Scenario) -> float:
    calls = scenario.calls + _WARMING_CALLS
    taken: list[float] = worker("block", scenario.method, scenario.path, calls)
    return sum(taken[_WARMING_CALLS:]) / scenario.calls


def written(
    workers: list[Worker], name: str, length: int, redis_received: Callable[[], int]
) -> dict[str, float]:
    """Return the bytes that one request writes: to files, or to Redis's socket."""
    scenario = Scenario(name, "POST", length, _WRITING_CALLS, 2)
    found = {}
    for worker in workers:
        if not scenario.fits(worker):
            continue
        worker("start", length, max(1, scenario.visitors(1)))
        before = redis_received()
        to_files = worker("written", "POST", scenario.path, _WRITING_CALLS)
        total = redis_received() - before if worker.peer.needs_redis else to_files
        if total is not None:
            found[worker.key] = total / _WRITING_CALLS
    return found


def streamed(workers: list[Worker]) -> dict[str, Any]:
    """Return whether what a generator changed was kept, and before the body's end."""
    found = {}
    for worker in workers:
        if worker.peer.has_history:
            worker("start", 10, 1)
            before, at_end, after = worker("streamed")
            found[worker.key] = {"kept": after == before + 2, "before_end": at_end == before + 2}
    return found
