"""Detects a connection whose other end no longer responds. Deterministic given its arguments."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable


class Beat(enum.Enum):
    """What to do now."""

    REST = "rest"
    PING = "ping"
    LOST = "lost"


class Heartbeat:
    """Sends a ping after a silence. Any received byte counts as a response.

    An idle connection is pinged after *interval* seconds, plus or minus a tenth, so that many
    processes do not ping at the same moment. It has *timeout* seconds to respond. A connection
    with unanswered requests is pinged after *probe_after* seconds and has half of *timeout*, so
    that callers learn the cause before their own timeout expires.
    """

    def __init__(
        self,
        interval: float,
        timeout: float,
        probe_after: float,
        now: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """All times are in seconds. *uniform* returns a random number between its arguments."""
        self._interval = interval * uniform(0.9, 1.1)
        self._timeout = timeout
        self._probe_after = min(probe_after, self._interval)
        #: When the last byte arrived.
        self.heard = now
        self._pinged: float | None = None
        self._silent_since = now

    def hear(self, now: float) -> None:
        """Record that something arrived."""
        self.heard = now
        self._silent_since = now
        self._pinged = None

    def expect(self, now: float) -> None:
        """Record that a request is sent while no other awaits its reply."""
        self._silent_since = max(self._silent_since, now)

    def due(self, *, pending: bool) -> float:
        """Return when :meth:`beat` next has something to do.

        *pending*: whether requests await their replies.
        """
        if self._pinged is not None:
            return self._pinged + (self._timeout / 2 if pending else self._timeout)
        if pending:
            return min(self._silent_since + self._probe_after, self.heard + self._interval)
        return self.heard + self._interval

    def beat(self, now: float, *, pending: bool) -> Beat:
        """Return what to do. A ping must be sent at once."""
        if now < self.due(pending=pending):
            return Beat.REST
        if self._pinged is not None:
            return Beat.LOST
        self._pinged = now
        return Beat.PING
