"""How long to wait before the next connection attempt. Deterministic given its random source."""

from __future__ import annotations

import random
from collections.abc import Callable

#: The shortest delay in seconds.
SHORTEST = 0.05

#: The longest delay in seconds that a service can request with Retry-After.
LONGEST_RETRY_AFTER = 300.0


class Backoff:
    """Exponential backoff with full jitter, bounded by the length of the outage.

    A delay is a random part of a time that doubles with each failure. That time never exceeds
    *maximum*, nor twice *base* plus a tenth of the outage so far: once the service is back, a
    client is connected again within 2 s plus a tenth of the outage for a *base* of 1 s.

    Attempts never stop. A failure that an immediate retry cannot fix (a refused key, an invalid
    certificate) has its own, longer delays.
    """

    def __init__(
        self,
        base: float,
        maximum: float,
        refused_base: float,
        refused_maximum: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """All times are in seconds. *uniform* returns a random number between its arguments."""
        self._base = base
        self._maximum = maximum
        self._refused_base = refused_base
        self._refused_maximum = refused_maximum
        self._uniform = uniform
        #: The number of consecutive failures.
        self.failures = 0
        self._doublings = 0
        self._refusals = 0

    def delay(self, outage: float, retry_after: float | None = None) -> float:
        """Return the delay after one more failure, *outage* seconds after the first."""
        high = min(
            self._maximum, _doubled(self._base, self._doublings), 2 * self._base + outage / 10
        )
        self._doublings += 1
        return self._jittered(high, retry_after)

    def short_delay(self, limit: float, retry_after: float | None = None) -> float:
        """Return a delay of at most *limit* seconds, for as long as callers wait.

        Short delays do not count towards the doubling.
        """
        high = min(self._maximum, _doubled(self._base, self._doublings), limit)
        return self._jittered(high, retry_after)

    def refused_delay(self, retry_after: float | None = None) -> float:
        """Return the delay after a failure that an immediate retry cannot fix."""
        high = min(self._refused_maximum, _doubled(2 * self._refused_base, self._refusals))
        self._refusals += 1
        self.failures += 1
        return _respecting(retry_after, self._uniform(high / 2, high))

    def reset(self) -> None:
        """Start again with short delays, because a connection has proved stable."""
        self.failures = 0
        self._doublings = 0
        self._refusals = 0

    def _jittered(self, high: float, retry_after: float | None) -> float:
        self._refusals = 0
        self.failures += 1
        return _respecting(retry_after, self._uniform(SHORTEST, max(SHORTEST, high)))


def _doubled(seconds: float, times: int) -> float:
    return seconds * 2.0 ** min(times, 60)


def _respecting(retry_after: float | None, seconds: float) -> float:
    return max(seconds, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
