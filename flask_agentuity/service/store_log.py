"""The lines that clients cause a store to log: a limited number of each kind, and then a count.

An app's own store logs without a limit: it is the app that causes those lines.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..log_context import LOGGERS
from ..per_process import PerProcess
from .limited_log import INTERVAL, LEFT_OUT, Limit

#: Lines of each kind in an interval.
_BURST = 20

_threads = PerProcess(lambda: threading.local())


class StoreLog:
    """Limits the lines that a store logs in the threads of one service."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By their messages, of which there are few: values are not part of them.
        self._limits: dict[str, Limit] = {}

    def limit_this_thread(self) -> None:
        """Limit the lines that the current thread logs from now on."""
        _threads.get().log = self

    def admits(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is logged. It then tells how many others were not."""
        limit = self._limits.get(record.msg)
        if limit is None:
            limit = self._limits.setdefault(record.msg, Limit(_BURST, INTERVAL, self._clock))
        left_out = limit.admit()
        if left_out and isinstance(record.args, tuple):
            record.msg += LEFT_OUT
            record.args = (*record.args, left_out)
        return left_out is not None


def _limit(record: logging.LogRecord) -> bool:
    log: StoreLog | None = getattr(_threads.made(), "log", None)
    return log is None or record.levelno < logging.INFO or log.admits(record)


# A filter of a logger does not apply to the loggers below it, so each has its own.
for _name in LOGGERS:
    if _name.startswith("flask_agentuity.stores"):
        logging.getLogger(_name).addFilter(_limit)
