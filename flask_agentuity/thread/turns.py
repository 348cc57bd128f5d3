"""One request at a time on a thread: take the turn, keep it while it is used, give it back.

A turn is a lease in the store. Its holder renews it while it works, so the turn of a killed
worker ends when the lease expires.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable

from ..errors import StoreError
from ..stores.base import ThreadStore

logger = logging.getLogger("flask_agentuity.turns")

#: Seconds until the turn of a killed worker ends.
LEASE_SECONDS = 15.0
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.2


class Turn:
    """The exclusive right to work on a thread. It ends with :meth:`end`, or with the object."""

    def __init__(self, store: ThreadStore, thread_id: str, holder: str) -> None:
        self._ended = threading.Event()
        # The thread that renews the turn must not keep the object alive.
        self._finalizer = weakref.finalize(self, self._ended.set)
        self._store, self._thread_id, self._holder = store, thread_id, holder
        threading.Thread(
            target=_renew,
            args=(store, thread_id, holder, self._ended),
            name="flask_agentuity-turn",
            daemon=True,
        ).start()

    def end(self) -> None:
        """Give the turn back. A second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        try:
            self._store.end_turn(self._thread_id, self._holder)
        except StoreError as error:
            logger.error(  # noqa: TRY400 - the lease expires, and the error says enough
                "The turn on thread %s ends only when its lease does, in %d s: %s",
                self._thread_id,
                LEASE_SECONDS,
                error,
                extra={"thread_id": self._thread_id},
            )


def take_turn(
    store: ThreadStore,
    thread_id: str,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Turn | None:
    """Wait up to *timeout* seconds (0: do not wait) for the turn; return None on timeout.

    :raises StoreError: if the store cannot be asked.
    """
    holder = secrets.token_hex(8)
    deadline = clock() + timeout
    pause = _FIRST_LOOK
    while not store.take_turn(thread_id, holder, LEASE_SECONDS):
        left = deadline - clock()
        if left <= 0:
            return None
        # Jitter spreads the attempts of those who wait.
        sleep(min(left, random.uniform(pause / 2, pause)))
        pause = min(_LAST_LOOK, pause * 1.5)
    return Turn(store, thread_id, holder)


def _renew(store: ThreadStore, thread_id: str, holder: str, ended: threading.Event) -> None:
    while not ended.wait(LEASE_SECONDS / 3):
        try:
            if store.take_turn(thread_id, holder, LEASE_SECONDS):
                if ended.is_set():
                    # It was given back while it was being renewed, which took it again.
                    store.end_turn(thread_id, holder)
            else:
                logger.error(
                    "The turn on thread %s was lost: its lease ran out before it was renewed.",
                    thread_id,
                    extra={"thread_id": thread_id},
                )
                return
        except StoreError as error:
            logger.warning(
                "The turn on thread %s could not be renewed: %s",
                thread_id,
                error,
                extra={"thread_id": thread_id},
            )
