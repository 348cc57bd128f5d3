"""The log lines that clients can cause, each kind with its own limit."""

from __future__ import annotations

import logging

from .limited_log import LimitedLog

logger = logging.getLogger("flask_agentuity.service")

#: Lines in each interval about things that many clients do normally.
_BURST = 20


class Logs:
    """The kinds of lines that clients can cause."""

    def __init__(self) -> None:
        self.denied = LimitedLog(logger)
        self.refused = LimitedLog(logger)
        self.failed = LimitedLog(logger, burst=_BURST)
        self.crashed = LimitedLog(logger, burst=_BURST)
        self.full = LimitedLog(logger)
        self.slow = LimitedLog(logger)
        self.came = LimitedLog(logger, burst=_BURST)
        self.left = LimitedLog(logger, burst=_BURST)
