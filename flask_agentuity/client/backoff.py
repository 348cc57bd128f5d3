"""How long to wait before connecting again. Pure but for its dice."""

from __future__ import annotations

import random
from collections.abc import Callable

#: The shortest wait in seconds, so that no dice make a loop of it.
SHORTEST = 0.05

#: The longest wait in seconds that a service can ask for with Retry-After.
LONGEST_ASKED = 300.0


class Backoff:
    """Full jitter: a random part of a time that doubles with every failure, up to a limit.

    Without an end: a service may be away for a night. What waiting does not mend (a refused
    key, a certificate that does not fit) is tried again only slowly.
    """

    def __init__(
        self,
        base: float,
        maximum: float,
        refused_base: float,
        refused_maximum: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """All times are in seconds."""
        self._base = base
        self._maximum = maximum
        self._refused_base = refused_base
        self._refused_maximum = refused_maximum
        self._uniform = uniform
        #: How many attempts have failed in a row.
        self.failures = 0
        self._refusals = 0

    def delay(
        self,
        *,
        refused: bool = False,
        retry_after: float | None = None,
        limit: float | None = None,
    ) -> float:
        """Return the seconds to wait after one more failure.

        *limit* shortens the jitter while callers wait for the outcome.
        """
        if refused:
            high = min(self._refused_maximum, _doubled(2 * self._refused_base, self._refusals))
            self._refusals += 1
            seconds = self._uniform(high / 2, high)
        else:
            high = min(self._maximum, _doubled(self._base, self.failures))
            high = high if limit is None else min(high, limit)
            self._refusals = 0
            seconds = max(SHORTEST, self._uniform(0.0, high))
        self.failures += 1
        return max(seconds, min(retry_after or 0.0, LONGEST_ASKED))

    def reset(self) -> None:
        """Begin anew, because a connection has proved good."""
        self.failures = 0
        self._refusals = 0


def _doubled(seconds: float, times: int) -> float:
    return seconds * 2.0 ** min(times, 60)
