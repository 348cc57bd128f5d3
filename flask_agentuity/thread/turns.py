"""One request at a time on a thread: taking the turn, keeping it, and giving it back.

A turn is a lease in the store, which its holder renews. If a worker is killed, its turn is no
longer renewed, and is taken over; see :mod:`flask_agentuity.stores.leases`.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from ..errors import StoreError
from ..stores import leases
from ..stores.base import ThreadStore
from ..stores.leases import Lease, Watch
from .renewing import hold

logger = logging.getLogger("flask_agentuity.turns")

#: How many requests may wait for one turn, in all processes together.
MOST_WAITING = 4
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.2


class Turn:
    """The exclusive right to work on a thread. It ends with :meth:`end`, or with the object."""

    def __init__(self, store: ThreadStore, lease: Lease) -> None:
        self._store = store
        try:
            self._held = hold(store, lease)
        except BaseException:
            # The process has too many threads, or is ending.
            with suppress(StoreError):
                store.end_turn(lease.thread_id, lease.holder)
            raise
        # The renewer must not keep this object alive.
        self._finalizer = weakref.finalize(self, self._held.let_go)

    @property
    def token(self) -> int | None:
        """The fencing token for writes under the turn; None if the store does not fence."""
        return self._held.lease.token or None

    @property
    def is_lost(self) -> bool:
        """Whether another request has taken the turn over, as far as known."""
        return self._held.is_lost

    @property
    def lease(self) -> Lease:
        """The turn as it was taken."""
        return self._held.lease

    def is_taken_over(self) -> bool:
        """Ask the store whether another request has taken the turn over.

        :raises StoreError: if the store cannot be asked.
        """
        return self.is_lost or bool(self._store.renew_turns([self.lease]))

    def end(self) -> None:
        """Give the turn back. A second call does nothing."""
        held = self._held
        if held.is_let_go:
            return
        held.is_let_go = held.is_given_back = True
        try:
            self._store.end_turn(held.lease.thread_id, held.lease.holder)
        except StoreError as error:
            logger.error(  # noqa: TRY400 - the lease ends, and the error says enough
                "The turn on thread %s could not be given back, so it ends in %d s: %s",
                held.lease.thread_id,
                leases.LEASE_SECONDS,
                error,
                extra={"thread_id": held.lease.thread_id},
            )


def take_turn(
    store: ThreadStore,
    thread_id: str,
    timeout: float,
    *,
    most_waiting: int = MOST_WAITING,
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Turn | None:
    """Wait up to *timeout* seconds (0: do not wait) for the turn; return None on timeout.

    If the holder was killed, it can take as long as a lease to be sure of that.

    :param most_waiting: return None at once if this number of other requests is waiting.
    :param clock: instead of :func:`time.monotonic`.
    :param sleep: instead of :func:`time.sleep`.
    :raises StoreError: if the store cannot be asked.
    """
    holder = secrets.token_hex(8)
    lease: Lease | None = store.lease_turn(thread_id, holder)
    assert lease is not None
    if lease.holder != holder:
        # As default arguments, they would be bound before gevent replaces them.
        waiter = _Waiter(store, holder, clock or time.monotonic, sleep or time.sleep)
        lease = waiter.wait(lease, timeout, most_waiting)
    return None if lease is None else Turn(store, lease)


class _Waiter:
    """A request that waits for the turn of another request."""

    def __init__(
        self,
        store: ThreadStore,
        holder: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._store, self._holder = store, holder
        self._clock, self._sleep = clock, sleep
        # The turn for which this request is counted as waiting.
        self._waits_for: Lease | None = None

    def wait(self, lease: Lease, timeout: float, most_waiting: int) -> Lease | None:
        """Return the turn when it was taken; None on timeout, or if too many others are waiting."""
        if timeout <= 0 and not lease.may_be_abandoned:
            return None
        taken = None
        try:
            if self._enter(lease) <= most_waiting:
                taken = self._look_again(lease, timeout)
        finally:
            self._leave(taken)
        return taken

    def _look_again(self, lease: Lease, timeout: float) -> Lease | None:
        now = self._clock()
        deadline = now + timeout
        doubtful = lease if lease.may_be_abandoned else None
        watch, pause = Watch(), _FIRST_LOOK
        while True:
            watch.look(lease, now)
            if now >= deadline and lease != doubtful:
                return None
            # Jitter spreads the attempts of waiting requests.
            seconds = random.uniform(pause / 2, pause)
            self._sleep(seconds if now >= deadline else min(deadline - now, seconds))
            pause = min(_LAST_LOOK, pause * 1.5)
            still = watch.stood_still(leases.LEASE_SECONDS)
            lease = self._store.lease_turn(lease.thread_id, self._holder, still)
            if lease.holder == self._holder:
                return lease
            now = self._clock()
            if self._waits_for is None or self._waits_for.token != lease.token:
                self._enter(lease)

    def _enter(self, lease: Lease) -> int:
        """Count this request as waiting; return how many are waiting."""
        waiting = self._store.count_waiting(lease, 1)
        # If the turn has ended, the next attempt may take it.
        self._waits_for = lease if waiting else None
        return waiting

    def _leave(self, taken: Lease | None) -> None:
        if self._waits_for is None or (taken is not None and taken.token):
            # The count was removed with the turn.
            return
        with suppress(StoreError):
            self._store.count_waiting(self._waits_for, -1)
