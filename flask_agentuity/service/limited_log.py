"""Log lines that clients can cause: a limited number of each kind, and then a count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

#: The interval in seconds for which the number of lines is limited.
INTERVAL = 10.0

#: Ends a message of which others were left out.
LEFT_OUT = " (%d more since the last such line)"


class Limit:
    """Admits at most *burst* lines in an interval, and counts the others. Any thread may use it."""

    def __init__(self, burst: int, interval: float, clock: Callable[[], float]) -> None:
        """*interval* is in seconds."""
        self._burst = burst
        self._interval = interval
        self._clock = clock
        self._began = float("-inf")
        self._admitted = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def admit(self) -> int | None:
        """Return how many were left out before this one, or None if this one is left out too."""
        with self._lock:
            now = self._clock()
            if now >= self._began + self._interval:
                self._began, self._admitted = now, 0
            if self._admitted >= self._burst:
                self._left_out += 1
                return None
            self._admitted += 1
            left_out, self._left_out = self._left_out, 0
            return left_out


class LimitedLog:
    """Logs lines of one kind, at most *burst* in an interval. Any thread may use it."""

    def __init__(
        self,
        logger: logging.Logger,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        *,
        burst: int = 1,
    ) -> None:
        """*interval* is in seconds."""
        self._logger = logger
        self._limit = Limit(burst, interval, clock)

    def info(self, message: str, *arguments: object) -> None:
        """Log at level INFO, or count it with the next line."""
        self.log(logging.INFO, message, *arguments)

    def warn(
        self, message: str, *arguments: object, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log a warning, or count it with the next line."""
        self.log(logging.WARNING, message, *arguments, extra=extra)

    def log(
        self,
        level: int,
        message: str,
        *arguments: object,
        error: BaseException | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Log a line with the traceback of *error*, or count it with the next line."""
        left_out = self._limit.admit()
        if left_out is None:
            return
        if left_out:
            message += LEFT_OUT
            arguments = (*arguments, left_out)
        self._logger.log(level, message, *arguments, exc_info=error, extra=extra)
