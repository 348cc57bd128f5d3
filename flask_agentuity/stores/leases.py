"""Leases: which request has the turn on a thread, without comparing the clocks of two processes.

The holder of a turn repeatedly increases the number of its renewals. A request that waits for the
turn reads that number, and takes the turn over when the number has not changed for
:data:`LEASE_SECONDS` by the waiting request's own monotonic clock. The token of the next turn is
higher, and stores refuse writes that carry the token of an earlier one.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

#: Seconds after which a turn can be taken over if its holder no longer renews it.
LEASE_SECONDS = 5.0
#: How often a turn is renewed within that time.
RENEWALS = 5
#: Seconds after which a store may forget a turn that is not renewed. Clocks jump by hours or a day.
FORGOTTEN_SECONDS = 604_800.0


def renewal_seconds() -> float:
    """Return the seconds between two renewals."""
    return LEASE_SECONDS / RENEWALS


@dataclass(frozen=True, slots=True)
class Lease:
    """The turn of a thread, as it is stored.

    ``token`` is the fencing token, for :attr:`.Write.turn`. It is higher for each turn that is
    taken; 0 means that the store does not fence. ``age`` is the number of seconds since the turn
    was renewed, by clocks that may be wrong: it is a hint that decides nothing.
    """

    thread_id: str
    holder: str
    token: int = 0
    renewals: int = 0
    age: float = field(default=0.0, compare=False)

    @property
    def may_be_abandoned(self) -> bool:
        """Whether the holder seems to have stopped renewing the turn."""
        return not 0 <= self.age <= LEASE_SECONDS


class Watch:
    """What a waiting request has seen of a turn, by its own monotonic clock."""

    __slots__ = ("_lease", "_looked", "_still")

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._looked = 0.0
        self._still = 0.0

    def look(self, lease: Lease, now: float) -> None:
        """Record what was seen at *now*."""
        if lease == self._lease:
            # While the store was blocked, or this process was stopped, the holder may have been
            # unable to renew its turn as well.
            self._still += min(now - self._looked, renewal_seconds())
        else:
            self._lease, self._still = lease, 0.0
        self._looked = now

    def stood_still(self, seconds: float) -> Lease | None:
        """Return the lease as it was seen last, if it has not changed for *seconds*."""
        return self._lease if self._still >= seconds else None


@dataclass(slots=True)
class _Taken:
    lease: Lease
    waiting: int = 0


class LocalLeases:
    """The turns of threads, within one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = itertools.count(1)
        self._taken: dict[str, _Taken] = {}
        self._waiting: dict[str, int] = {}

    def take(self, thread_id: str, holder: str, still: Lease | None) -> Lease:
        """See :meth:`.TurnStore.lease_turn`."""
        with self._lock:
            taken = self._taken.get(thread_id)
            if taken is not None and taken.lease.holder != holder and taken.lease != still:
                return taken.lease
            if taken is None or taken.lease.holder != holder:
                taken = _Taken(Lease(thread_id, holder, next(self._tokens)))
                self._taken[thread_id] = taken
            return taken.lease

    def look(self, thread_ids: Iterable[str]) -> Mapping[str, Lease]:
        """See :meth:`.TurnStore.look_at_turns`."""
        with self._lock:
            taken = {each: self._taken.get(each) for each in thread_ids}
        return {thread_id: each.lease for thread_id, each in taken.items() if each is not None}

    def renew(self, leases: Iterable[Lease]) -> Sequence[Lease]:
        """See :meth:`.TurnStore.renew_turns`."""
        lost = []
        with self._lock:
            for lease in leases:
                taken = self._taken.get(lease.thread_id)
                if taken is None or taken.lease.token != lease.token:
                    lost.append(lease)
                else:
                    taken.lease = replace(taken.lease, renewals=taken.lease.renewals + 1)
        return lost

    def end(self, thread_id: str, holder: str) -> None:
        """See :meth:`.TurnStore.end_turn`."""
        with self._lock:
            taken = self._taken.get(thread_id)
            if taken is not None and taken.lease.holder == holder:
                del self._taken[thread_id]

    def count_waiting(self, lease: Lease, change: int) -> int:
        """See :meth:`.TurnStore.count_waiting`."""
        with self._lock:
            if not lease.token:
                waiting = self._waiting.get(lease.thread_id, 0) + change
                self._waiting[lease.thread_id] = waiting
                if waiting <= 0:
                    del self._waiting[lease.thread_id]
                return waiting
            taken = self._taken.get(lease.thread_id)
            if taken is None or taken.lease.token != lease.token:
                return 0
            taken.waiting += change
            return taken.waiting

    def is_held(self, thread_id: str, token: int) -> bool:
        """Return whether the turn on a thread is the one with *token*."""
        with self._lock:
            taken = self._taken.get(thread_id)
            return taken is not None and taken.lease.token == token
