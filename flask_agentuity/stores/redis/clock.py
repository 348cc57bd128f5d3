"""Estimate times on the clock of a Redis server."""

from __future__ import annotations

import time

#: Seconds for which a reply is taken into account, because clocks are adjusted sometimes.
_WINDOW = 5.0


class ServerClock:
    """The clock of one server, estimated from its replies.

    The time in a reply is later than the moment at which the call was sent, by an unknown part of
    the call's duration. So the fastest call gives the best estimate.
    """

    __slots__ = ("_ahead", "_ahead_before", "_ends")

    def __init__(self) -> None:
        # The most that the server's clock is ahead of time.monotonic(), in microseconds.
        self._ahead: int | None = None
        self._ahead_before: int | None = None
        self._ends = 0.0

    def note(self, sent: float, micros: int) -> None:
        """Note the time in a reply.

        :param sent: when the call was sent or earlier, by :func:`time.monotonic`.
        :param micros: the server's time in microseconds when it ran the call, or later.
        """
        if sent > self._ends:
            fresh = sent <= self._ends + _WINDOW
            self._ahead_before = self._ahead if fresh else None
            self._ahead, self._ends = None, sent + _WINDOW
        ahead = micros - int(sent * 1_000_000)
        if self._ahead is None or ahead < self._ahead:
            self._ahead = ahead

    def latest(self, moment: float) -> int | None:
        """Return an upper bound of the server's time at *moment*, in microseconds.

        :param moment: by :func:`time.monotonic`.
        :returns: None if there was no reply in the last seconds.
        """
        if time.monotonic() > self._ends + _WINDOW:
            return None
        ahead, before = self._ahead, self._ahead_before
        if ahead is None or (before is not None and before < ahead):
            ahead = before
        return None if ahead is None else ahead + int(moment * 1_000_000)
