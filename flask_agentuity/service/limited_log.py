"""Log lines that clients can cause: a limited number of each kind, and then a count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

#: The interval in seconds for which the number of lines is limited.
INTERVAL = 10.0


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
        self._interval = interval
        self._clock = clock
        self._burst = burst
        self._began = float("-inf")
        self._logged = 0
        self._left_out = 0
        self._lock = threading.Lock()

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
        with self._lock:
            now = self._clock()
            if now >= self._began + self._interval:
                self._began, self._logged = now, 0
            if self._logged >= self._burst:
                self._left_out += 1
                return
            self._logged += 1
            left_out, self._left_out = self._left_out, 0
        if left_out:
            message += " (%d more since the last such line)"
            arguments = (*arguments, left_out)
        self._logger.log(level, message, *arguments, exc_info=error, extra=extra)
