"""Warnings that clients can cause: each kind is logged now and then, with a count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

#: Seconds between two warnings of one kind.
INTERVAL = 10.0


class LimitedLog:
    """Logs one kind of warning at most once in an interval. Not for several threads at once."""

    def __init__(
        self,
        logger: logging.Logger,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*interval* is in seconds."""
        self._logger = logger
        self._interval = interval
        self._clock = clock
        self._next = float("-inf")
        self._left_out = 0

    def warn(self, message: str, *arguments: object) -> None:
        """Log a warning, or count it with the next one."""
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            return
        if self._left_out:
            message += " (%d more since the last such line)"
            arguments = (*arguments, self._left_out)
        self._next, self._left_out = now + self._interval, 0
        self._logger.warning(message, *arguments)
