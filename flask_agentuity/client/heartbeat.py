"""Whether the other end is still there. Pure: it is told the time and what came."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable


class Beat(enum.Enum):
    """What to do now."""

    REST = "rest"
    PING = "ping"
    LOST = "lost"


class Heartbeat:
    """Asks for a sign of life after a silence; any byte is one.

    A connection with nothing under way is asked after *interval* seconds (give or take a
    tenth, so that many processes do not ask at once) and may take *timeout* to answer. One
    that owes an answer is asked after *probe_after* and may take half of *timeout*, so that
    callers learn the cause before their own time is up.
    """

    def __init__(
        self,
        interval: float,
        timeout: float,
        probe_after: float,
        now: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._interval = interval * uniform(0.9, 1.1)
        self._timeout = timeout
        self._probe_after = min(probe_after, self._interval)
        #: When the last byte came.
        self.heard = now
        self._asked: float | None = None
        self._silent_since = now

    def hear(self, now: float) -> None:
        """Something came."""
        self.heard = now
        self._silent_since = now
        self._asked = None

    def owe(self, now: float) -> None:
        """The first of the answers that the other end owes was asked for just now."""
        self._silent_since = max(self._silent_since, now)

    def due(self, *, owed: bool) -> float:
        """Return when :meth:`beat` next has something to say."""
        if self._asked is not None:
            return self._asked + (self._timeout / 2 if owed else self._timeout)
        if owed:
            return min(self._silent_since + self._probe_after, self.heard + self._interval)
        return self.heard + self._interval

    def beat(self, now: float, *, owed: bool) -> Beat:
        """Say what to do; a ping is taken to be sent at once."""
        due = self.due(owed=owed)
        if now < due or math.isinf(due):
            return Beat.REST
        if self._asked is not None:
            return Beat.LOST
        self._asked = now
        return Beat.PING
