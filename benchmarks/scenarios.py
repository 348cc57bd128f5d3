"""The scenarios without a server: what a request takes within one process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import wal
from .harness import Rounds, alternately
from .worker import Worker

LENGTHS = (10, 100, 1_000, 4_000)
#: The lengths at which the bytes are counted that a request writes.
WRITTEN_LENGTHS = (10, 1_000, 4_000)
#: The lengths that are also measured in processes that have handled nothing longer.
FRESH_LENGTHS = (10, 1_000)

_WRITING_CALLS = 128
_WAL_CALLS = 16
# Another process has used the core: the first calls only fill its caches again.
_WARMING_CALLS = 2
# A token, as a part of a message.
_TOKEN = 0.03
# So many that the message which grows is hardly longer at the end.
_EDITED = 32


@dataclass(frozen=True)
class Kind:
    """What a request does."""

    name: str
    method: str = "POST"
    #: How many messages a history grows by in one request.
    growth: float = 0.0
    #: The fewest conversations that take turns.
    conversations: int = 1
    #: The view that shows whether the request's change is stored.
    stored: str | None = None


UNTOUCHED = Kind("untouched", "GET")
TITLE = Kind("title", "GET")
TURN = Kind("turn", growth=2)
PUSH = Kind("push", growth=1)
GROW = Kind("grow", growth=_TOKEN, conversations=_EDITED, stored="/last")
EDIT = Kind("edit", conversations=_EDITED, stored="/middle")
STREAM = Kind("stream", growth=2)

#: What the names mean, for the titles of the tables.
TITLES = {
    "untouched": "A request that does not use the conversation",
    "title": "Read one small key",
    "turn": "Read the history, append two messages",
    "push": "Append one message without reading",
    "grow": "Read the history, append a token to its last message",
    "edit": "Read the history, replace the message in its middle",
    "stream": "Store a question, stream the answer, store the answer",
}


@dataclass(frozen=True)
class Scenario:
    """One kind of request, at one length of the history."""

    kind: Kind
    length: int
    #: Calls in each round.
    calls: int

    @property
    def path(self) -> str:
        """The view."""
        return f"/{self.kind.name}"

    @property
    def label(self) -> str:
        """The key in the results."""
        return f"{self.kind.name} {self.length}"

    def fits(self, worker: Worker) -> bool:
        """Return whether a system can do this."""
        return self.why_not(worker) is None

    def why_not(self, worker: Worker) -> str | None:
        """Return the reason why a system cannot do this; None if it can."""
        peer = worker.peer
        if peer.most_messages is not None and self.length > peer.most_messages:
            return f"it holds at most {peer.most_messages} messages"
        return peer.left_out.get(self.kind.name)

    def visitors(self, rounds: int) -> int:
        """Return how many conversations keep the growth of each below about a tenth."""
        messages = self.kind.growth * (self.calls + _WARMING_CALLS) * rounds
        return max(self.kind.conversations, math.ceil(messages / max(2, self.length // 10)))


def scenarios(quick: bool) -> list[Scenario]:
    """Return all of them, with fewer calls if *quick*."""
    calls = 6 if quick else 16
    return [
        Scenario(UNTOUCHED, 10, 50),
        *(Scenario(TITLE, length, calls) for length in (10, 4_000)),
        *(Scenario(TURN, length, calls) for length in LENGTHS),
        *(Scenario(PUSH, length, calls) for length in (10, 4_000)),
        *(Scenario(GROW, length, calls) for length in LENGTHS),
        *(Scenario(EDIT, length, calls) for length in LENGTHS),
        Scenario(STREAM, 100, calls),
    ]


def warm(workers: Iterable[Worker]) -> None:
    """Have each system handle a history that is longer than any that follows.

    The C library keeps the memory that this takes. A process that has handled only short
    histories returns it after each request, and gets it back page by page.
    """
    for worker in workers:
        worker("start", worker.peer.most_messages or max(LENGTHS), 1)
        worker("block", TURN.method, f"/{TURN.name}", 4)


def measure(
    workers: Iterable[Worker],
    scenario: Scenario,
    rounds: int,
    average: Callable[[list[float]], float] = statistics.median,
) -> Rounds:
    """Return the µs of a request for each system that can do it, round by round.

    :param average: what makes one value of the µs of the calls in one round.
    """
    subjects = {}
    for worker in workers:
        if scenario.fits(worker):
            # One more for the first round, which is not counted.
            worker("start", scenario.length, scenario.visitors(rounds + 1))
            if scenario.kind.stored is not None and worker.peer.has_history:
                worker("check", scenario.path, scenario.kind.stored)
            subjects[worker.label] = partial(_round, worker, scenario, average)
    alternately(1, subjects)
    return alternately(rounds, subjects)


def _round(worker: Worker, scenario: Scenario, average: Callable[[list[float]], float]) -> float:
    calls = scenario.calls + _WARMING_CALLS
    taken: list[float] = worker("block", scenario.kind.method, scenario.path, calls)
    return average(taken[_WARMING_CALLS:])


def written(
    workers: Iterable[Worker], kind: Kind, length: int, redis_received: Callable[[], int]
) -> dict[str, float]:
    """Return the bytes that one request writes: to files, or to Redis's socket."""
    scenario = Scenario(kind, length, _WRITING_CALLS)
    found = {}
    for worker in workers:
        if not scenario.fits(worker):
            continue
        worker("start", length, scenario.visitors(1))
        before = redis_received()
        to_files = worker("written", kind.method, scenario.path, _WRITING_CALLS)
        total = redis_received() - before if worker.peer.needs_redis else to_files
        if total is not None:
            found[worker.label] = total / _WRITING_CALLS
    return found


def written_to_wal(workers: Iterable[Worker], kind: Kind, length: int) -> Rounds:
    """Return the bytes that single requests write to SQLite's write-ahead log."""
    scenario = Scenario(kind, length, _WAL_CALLS)
    found: Rounds = {}
    for worker in workers:
        if not scenario.fits(worker) or worker.peer.needs_redis:
            continue
        worker("start", length, max(4, scenario.visitors(1)))
        call = partial(worker, "block", kind.method, scenario.path, 1)
        taken = [wal.bytes_written(worker.place.folder, call) for _ in range(_WAL_CALLS)]
        counted = [float(value) for value in taken if value is not None]
        if counted:
            found[worker.label] = counted
    return found


def streamed(workers: Iterable[Worker]) -> dict[str, Any]:
    """Return whether what a generator changed was stored, and before the end of the body."""
    found = {}
    for worker in workers:
        if worker.peer.has_history:
            worker("start", 10, 1)
            before, at_end, after = worker("streamed")
            found[worker.label] = {
                "kept": after == before + 2,
                "before_end": at_end == before + 2,
            }
    return found
