"""The turns of a store: the interface, and an implementation within one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import TurnLost
from ..per_process import PerProcess
from .leases import Lease, LocalLeases, Watch

# A store of version 1 ends the turn of a killed process by a clock, so it gets more time.
_VERSION_1_SECONDS = 15.0
# Threads whose turns callers of version 1 wait for at the same time.
_MOST_WATCHED = 1_000


@dataclass(slots=True)
class _InThisProcess:
    """The turns of one store in one process."""

    leases: LocalLeases = field(default_factory=LocalLeases)
    #: What callers of :meth:`TurnStore.take_turn` have seen of turns of others.
    watches: dict[str, Watch] = field(default_factory=dict)
    watching: threading.Lock = field(default_factory=lambda: threading.Lock())


class TurnStore:
    """The exclusive right to work on a thread, which one request has at a time.

    The methods of this class know the turns of this process only. A store that several
    processes can reach overrides :meth:`lease_turn`, :meth:`look_at_turns`, :meth:`renew_turns`,
    :meth:`end_turn` and :meth:`count_waiting`, and raises
    :exc:`~flask_agentuity.errors.TurnLost` from :meth:`.ThreadStore.write` for a write whose turn
    is over. Stores that override the methods of version 1, :meth:`take_turn` and
    :meth:`end_turn`, keep working, without fencing.
    """

    _turns_in_process: PerProcess[_InThisProcess]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        store = super().__new__(cls)
        # Here because a subclass need not call __init__.
        store._turns_in_process = PerProcess(_InThisProcess)
        return store

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if _place(cls, "take_turn") < _place(cls, "lease_turn"):
            for name, method in _BY_VERSION_1.items():
                setattr(cls, name, method)

    def lease_turn(self, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
        """Take the turn of a thread, unless another request has it.

        :param holder: a name that is used for one turn only.
        :param still: a turn that was not renewed for
            :data:`~flask_agentuity.stores.leases.LEASE_SECONDS`. It is taken over if it has not
            changed. If the store keeps runs, the run of the former holder becomes ``interrupted``
            in the same step.
        :returns: the turn. It was taken if its holder is *holder*.
        :raises StoreError: if the store cannot be reached.
        """
        return self._turns_in_process.get().leases.take(thread_id, holder, still)

    def look_at_turns(self, thread_ids: Sequence[str]) -> Mapping[str, Lease]:
        """Return those of the turns that are taken, by the ids of their threads.

        :raises StoreError: if the store cannot be reached.
        """
        return self._turns_in_process.get().leases.look(thread_ids)

    def renew_turns(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Renew these turns, and return those that were lost.

        :raises StoreError: if the store cannot be reached.
        """
        return self._turns_in_process.get().leases.renew(leases)

    def end_turn(self, thread_id: str, holder: str) -> None:
        """End a turn, if *holder* has it.

        :raises StoreError: if the store cannot be reached.
        """
        self._turns_in_process.get().leases.end(thread_id, holder)

    def count_waiting(self, lease: Lease, change: int) -> int:
        """Add *change* to the number of requests that wait for a turn, and return the sum.

        It is 0 if the turn has ended.

        :raises StoreError: if the store cannot be reached.
        """
        return self._turns_in_process.get().leases.count_waiting(lease, change)

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Take or renew a turn, as in version 1. Return False if another request has it.

        A waiting request has to call it repeatedly: the turn is taken over when it has not changed
        for *seconds*.

        :raises StoreError: if the store cannot be reached.
        """
        lease_turn, renew_turns = _own(self, "lease_turn"), _own(self, "renew_turns")
        here = self._turns_in_process.get()
        with here.watching:
            watch = here.watches.pop(thread_id, None) or Watch()
        lease: Lease = lease_turn(self, thread_id, holder, watch.stood_still(seconds))
        if lease.holder == holder:
            return not renew_turns(self, [lease])
        watch.look(lease, time.monotonic())
        with here.watching:
            here.watches[thread_id] = watch
            if len(here.watches) > _MOST_WATCHED:
                del here.watches[next(iter(here.watches))]
        return False

    def _require_turn(self, thread_id: str, token: int | None) -> None:
        """Refuse a write under a turn that another request has taken; for turns of this process.

        :raises TurnLost: if the turn with *token* is over.
        """
        if token is not None and not self._turns_in_process.get().leases.is_held(thread_id, token):
            raise TurnLost(thread_id)


def _lease_by_version_1(
    store: TurnStore, thread_id: str, holder: str, still: Lease | None = None
) -> Lease:
    taken = store.take_turn(thread_id, holder, _VERSION_1_SECONDS)
    return Lease(thread_id, holder if taken else "")


def _look_by_version_1(store: TurnStore, thread_ids: Sequence[str]) -> Mapping[str, Lease]:
    # To look is to take.
    return {}


def _renew_by_version_1(store: TurnStore, leases: Sequence[Lease]) -> Sequence[Lease]:
    return [
        lease
        for lease in leases
        if not store.take_turn(lease.thread_id, lease.holder, _VERSION_1_SECONDS)
    ]


def _count_by_version_1(store: TurnStore, lease: Lease, change: int) -> int:
    return store._turns_in_process.get().leases.count_waiting(lease, change)


_BY_VERSION_1: dict[str, Callable[..., Any]] = {
    "lease_turn": _lease_by_version_1,
    "look_at_turns": _look_by_version_1,
    "renew_turns": _renew_by_version_1,
    "count_waiting": _count_by_version_1,
}


def _place(cls: type, name: str) -> int:
    return next(place for place, each in enumerate(cls.__mro__) if name in vars(each))


def _own(store: TurnStore, name: str) -> Callable[..., Any]:
    """Return a method of the store itself, even if a subclass leads it through version 1."""
    methods = [vars(each)[name] for each in type(store).__mro__ if name in vars(each)]
    own: Callable[..., Any] = next(each for each in methods if each is not _BY_VERSION_1[name])
    return own
