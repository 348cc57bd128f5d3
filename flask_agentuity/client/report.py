"""What happened in a client so far: counts, and log lines about an outage."""

from __future__ import annotations

import enum
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import StoreError

logger = logging.getLogger("flask_agentuity.client")

#: Seconds between two log lines about a long outage.
LOG_INTERVAL = 300.0


class LossReason(enum.Enum):
    """Why a connection or an attempt ended; the keys of ``lost`` in the statistics."""

    ATTEMPT_FAILED = "dial"
    ATTEMPT_EXPIRED = "connect_timeout"
    DENIED = "denied"
    CLOSED = "closed"
    BROKEN = "lost"
    SILENT = "silent"
    PROTOCOL_ERROR = "frame"
    CRASH = "crash"


class Count(enum.Enum):
    """What is counted one by one; the keys of the statistics."""

    DIALS = "dials"
    FAIL_FAST = "fail_fast"
    OVERLOADED = "overloaded"
    TIMEOUTS = "timeouts"
    REPEATED = "repeated"
    OUTCOME_UNKNOWN = "outcome_unknown"
    MALFORMED = "malformed"
    PINGS = "pings"
    PONGS = "pongs"
    IO_CRASHES = "io_crashes"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a connection, or over several: bytes, and replies without a request.

    ``unknown``: replies with an id that was never sent. ``duplicate``: second replies to one
    request. ``late``: replies to requests that had timed out.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    unknown: int = 0
    duplicate: int = 0
    late: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.unknown + other.unknown,
            self.duplicate + other.duplicate,
            self.late + other.late,
        )


class Report:
    """Counts since the client was first used in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Count] = Counter()
        self._past_traffic = Traffic()
        self._current_traffic: Callable[[], Traffic] = Traffic
        # The I/O thread alone writes what follows, so it needs no lock.
        self._requests: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        #: How often the service accepted the key.
        self.connections = 0
        #: The seconds between the last ping and its pong.
        self.round_trip: float | None = None

    def count(self, what: Count) -> None:
        """Count one event. Any thread may call this."""
        with self._lock:
            self._counts[what] += 1

    def finished(self, action: str, error: StoreError | None) -> None:
        """Count the result of a request."""
        if error is None:
            self._requests[action + " ok"] += 1
            return
        outcome = type(error).__name__
        self._requests[f"{action} {outcome}"] += 1
        if outcome == "OutcomeUnknown":
            self.count(Count.OUTCOME_UNKNOWN)

    def lost(self, reason: LossReason) -> None:
        """Count the end of a connection or of an attempt."""
        self._losses[reason.value] += 1

    def connected(self, traffic: Callable[[], Traffic]) -> None:
        """Record a new connection. *traffic* returns what went over it so far."""
        with self._lock:
            self._current_traffic = traffic

    def disconnected(self) -> None:
        """Record that there is no connection any more."""
        with self._lock:
            self._past_traffic += self._current_traffic()
            self._current_traffic = Traffic

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        with self._lock:
            counts = {each.value: self._counts[each] for each in Count}
            traffic = self._past_traffic + self._current_traffic()
        return {
            "connections": self.connections,
            "round_trip": self.round_trip,
            "requests": dict(self._requests),
            "lost": dict(self._losses),
            "unknown_id": traffic.unknown,
            "duplicate": traffic.duplicate,
            "late": traffic.late,
            "bytes_in": traffic.bytes_in,
            "bytes_out": traffic.bytes_out,
            **counts,
        }


class OutageLog:
    """Logs losses and failed attempts: the first ones, then at growing intervals."""

    def __init__(self) -> None:
        self._logged_at = 0.0

    def log(
        self,
        error: StoreError,
        *,
        was_ready: bool,
        refused: bool,
        failures: int,
        delay: float,
        now: float,
    ) -> None:
        """Log that the connection was lost, or that attempt number *failures* failed.

        The next attempt is in *delay* seconds.
        """
        is_power_of_two = not failures & (failures - 1)
        if not is_power_of_two and now - self._logged_at < LOG_INTERVAL:
            return
        self._logged_at = now
        level = logging.ERROR if refused else logging.WARNING
        if was_ready and failures <= 1:
            level = logging.INFO
        logger.log(level, "%s Reconnecting in %.1f s (failure %d).", error, delay, failures)
