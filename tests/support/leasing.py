"""A store that notes who asks for turns, for the tests of turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from flask_agentuity.stores import ThreadStore, leases
from flask_agentuity.stores.leases import Lease
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.thread import renewing
from flask_agentuity.thread.turns import Turn, take_turn

ID = "thrd_0123456789abcdef0123456789abcdef"


class Leasing(MemoryStore):
    """Notes the renewals, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.renewed: list[Sequence[Lease]] = []
        #: How long ago turns seem to have been renewed.
        self.age = 0.0
        #: What happens in the next calls of these methods, before they do their work.
        self.at_taking: list[Exception | Callable[[], object]] = []
        self.at_renewing: list[Exception | Callable[[], object]] = []

    def lease_turn(self, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
        self.taken.append(holder)
        _next(self.at_taking)
        return replace(super().lease_turn(thread_id, holder, still), age=self.age)

    def renew_turns(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        self.renewed.append(leases)
        _next(self.at_renewing)
        return super().renew_turns(leases)

    @property
    def lease(self) -> Lease | None:
        """The turn as it is now."""
        found = super().lease_turn(ID, "looking")
        if found.holder != "looking":
            return found
        super().end_turn(ID, "looking")
        return None

    @property
    def is_free(self) -> bool:
        return self.lease is None

    def take_over(self, holder: str = "another") -> Lease:
        """Take the turn although it is renewed, as if its holder had been suspended."""
        lease = super().lease_turn(ID, holder, self.lease)
        assert lease.holder == holder
        return lease


def _next(planned: list[Exception | Callable[[], object]]) -> None:
    step = planned.pop(0) if planned else None
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step()


def taken(store: ThreadStore) -> Turn:
    turn = take_turn(store, ID, 0)
    assert turn is not None
    return turn


def is_renewing(store: ThreadStore) -> bool:
    return id(store) in renewing._running.get().renewers


class Time:
    """A monotonic clock that moves when someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        #: Called after each pause.
        self.meanwhile: Callable[[], object] = lambda: None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.meanwhile()

    def take(self, store: ThreadStore, timeout: float, most_waiting: int = 4) -> Turn | None:
        return take_turn(
            store, ID, timeout, most_waiting=most_waiting, clock=self.clock, sleep=self.sleep
        )


def wait_for_renewals(store: Leasing, count: int) -> None:
    """Wait until the turns were renewed *count* times more."""
    deadline = time.monotonic() + 30
    expected = len(store.renewed) + count
    while len(store.renewed) < expected:
        assert time.monotonic() < deadline
        time.sleep(leases.LEASE_SECONDS / 100)
