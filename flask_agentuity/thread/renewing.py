"""Renewing the turns of this process: one thread for each store renews all of them."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from ..per_process import PerProcess
from ..stores import leases
from ..stores.base import ThreadStore
from ..stores.leases import Lease

logger = logging.getLogger("flask_agentuity.turns")

THREAD_NAME = "flask_agentuity-turns"


class Held:
    """A turn that is renewed until it is given up, or lost."""

    __slots__ = ("is_given_back", "is_let_go", "is_lost", "lease")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.is_lost = False
        #: Whether it is no longer renewed. A finalizer may set it, which must not wait for a lock.
        self.is_let_go = False
        #: Whether the store was told, or another request has the turn.
        self.is_given_back = False

    def let_go(self) -> None:
        """Stop renewing it, and give it back with the next renewal."""
        self.is_let_go = True


class _Renewer:
    """Renews the turns of one store."""

    def __init__(self, store: ThreadStore, running: _Running) -> None:
        self.held: list[Held] = []
        self._store = store
        self._running = running
        self._is_failing = False

    def run(self) -> None:
        while True:
            time.sleep(leases.renewal_seconds())
            with self._running.lock:
                let_go = [each for each in self.held if each.is_let_go]
                self.held = [each for each in self.held if not each.is_let_go]
                if not self.held:
                    # The store may be closed and freed now.
                    del self._running.renewers[id(self._store)]
                held = list(self.held)
            self._give_back(let_go)
            if not held:
                return
            self._renew(held)

    def _renew(self, held: list[Held]) -> None:
        try:
            lost = {each.holder for each in self._store.renew_turns([one.lease for one in held])}
        except Exception as error:  # noqa: BLE001 - the other turns need this thread
            if not self._is_failing:
                threads = ", ".join(each.lease.thread_id for each in held)
                logger.warning("The turns on threads %s could not be renewed: %s", threads, error)
            self._is_failing = True
            return
        self._is_failing = False
        for each in held:
            if each.is_let_go and not each.lease.token:
                # In a store of version 1, the renewal has taken the turn that was given back.
                each.is_given_back = False
                self._give_back([each])
            elif each.lease.holder in lost:
                self._lose(each)

    def _lose(self, held: Held) -> None:
        if held.is_let_go:
            return
        held.is_lost = held.is_let_go = held.is_given_back = True
        logger.error(
            "The turn on thread %s was lost: it was not renewed for %g s, and another request has"
            " taken it over. What this request changes is not saved.",
            held.lease.thread_id,
            leases.LEASE_SECONDS,
            extra={"thread_id": held.lease.thread_id},
        )

    def _give_back(self, let_go: list[Held]) -> None:
        for each in let_go:
            if not each.is_given_back:
                each.is_given_back = True
                # If it fails, the turn ends with its lease. The others are renewed in any case.
                with suppress(Exception):
                    self._store.end_turn(each.lease.thread_id, each.lease.holder)


class _Running:
    """The renewers of this process by the ids of their stores, which they keep alive."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.renewers: dict[int, _Renewer] = {}


_running = PerProcess(_Running)


def hold(store: ThreadStore, lease: Lease) -> Held:
    """Renew a turn from now on, in the background."""
    held = Held(lease)
    running = _running.get()
    with running.lock:
        renewer = running.renewers.get(id(store))
        if renewer is None:
            renewer = _Renewer(store, running)
            threading.Thread(target=renewer.run, name=THREAD_NAME, daemon=True).start()
            running.renewers[id(store)] = renewer
        renewer.held.append(held)
    return held
