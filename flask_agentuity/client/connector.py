"""Makes connection attempts, one at a time, and passes their outcomes to the I/O thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from .attempt import AttemptFailure, ConnectAttempt
from .settings import ClientSettings

#: How many abandoned attempts may still be running when another one begins.
MAX_ABANDONED = 2


class Connector:
    """At most one attempt is current: it is running, or its outcome has not been taken yet.

    An attempt that is abandoned closes its socket itself. *wake* is called when an outcome has
    arrived.
    """

    def __init__(self, settings: ClientSettings, wake: Callable[[], None]) -> None:
        self._settings = settings
        self._wake = wake
        self._lock = threading.Lock()
        self._current: ConnectAttempt | None = None
        #: Whether :meth:`take` would return an outcome.
        self.has_outcome = False
        self._abandoned: list[ConnectAttempt] = []

    def may_begin(self) -> bool:
        """Return whether few enough abandoned attempts are still running."""
        self._abandoned = [each for each in self._abandoned if each.thread.is_alive()]
        return len(self._abandoned) < MAX_ABANDONED

    def begin(self) -> None:
        """Start an attempt.

        :raises RuntimeError: if no thread can be started.
        """
        attempt = ConnectAttempt(self._settings, self._deliver)
        with self._lock:
            self._current = attempt
        attempt.start()

    def take(self) -> socket.socket | AttemptFailure | None:
        """Return the outcome of the current attempt and end it. Return None while it runs."""
        with self._lock:
            if not self.has_outcome or self._current is None:
                return None
            outcome = self._current.outcome
            self._current, self.has_outcome = None, False
            return outcome

    def abandon(self) -> None:
        """Stop waiting for the current attempt, if there is one."""
        with self._lock:
            attempt, delivered = self._current, self.has_outcome
            self._current, self.has_outcome = None, False
        if attempt is None:
            return
        if delivered:
            attempt.discard()
        else:
            attempt.abandon()
            self._abandoned.append(attempt)

    def abandon_copies(self) -> None:
        """Close a forked child's copies of the sockets, without affecting the parent's."""
        if self._current is not None:
            self._current.abandon_copy()

    def _deliver(self, attempt: ConnectAttempt) -> None:
        with self._lock:
            wanted = attempt is self._current
            self.has_outcome = self.has_outcome or wanted
        if wanted:
            self._wake()
        else:
            attempt.discard()
