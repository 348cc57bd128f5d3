"""When something happened by the clock of a Redis server."""

from __future__ import annotations

import time

#: Seconds for which an answer of the server counts; clocks are set now and then.
_WINDOW = 5.0


class ServerClock:
    """What the answers of one server say about its clock.

    A server's time in an answer is later than the moment at which the call was sent, by an unknown
    part of the time that the call took. The call that was fastest tells most.
    """

    __slots__ = ("_ahead", "_ahead_before", "_ends")

    def __init__(self) -> None:
        # How much the server's clock is ahead of time.monotonic() at most, in microseconds.
        self._ahead: int | None = None
        self._ahead_before: int | None = None
        self._ends = 0.0

    def note(self, sent: float, micros: int) -> None:
        """Note an answer.

        :param sent: when the call was sent, by :func:`time.monotonic`, or earlier.
        :param micros: the server's time in the answer, or later, in microseconds.
        """
        if sent > self._ends:
            fresh = sent <= self._ends + _WINDOW
            self._ahead_before = self._ahead if fresh else None
            self._ahead, self._ends = None, sent + _WINDOW
        ahead = micros - int(sent * 1_000_000)
        if self._ahead is None or ahead < self._ahead:
            self._ahead = ahead

    def latest(self, moment: float) -> int | None:
        """Return the server's time at *moment* at the latest, in microseconds, if it is known.

        :param moment: by :func:`time.monotonic`.
        """
        if time.monotonic() > self._ends + _WINDOW:
            return None
        known = [ahead for ahead in (self._ahead, self._ahead_before) if ahead is not None]
        return min(known) + int(moment * 1_000_000) if known else None
