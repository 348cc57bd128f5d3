"""How fast keys can be guessed from one address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Wrong keys that an address may send without waiting.
FREE_ATTEMPTS = 10

#: Seconds after which an address may send one more.
SECONDS_PER_ATTEMPT = 6.0

#: How many addresses are remembered. The one whose last wrong key is oldest is forgotten first.
_REMEMBERED = 10_000


class WrongKeys:
    """Counts wrong keys by address. Times are in seconds.

    While an address has to wait, its keys are refused unchecked, right or wrong. Otherwise the time
    of the answer would reveal which one is right.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # For each address, when it will have all its free attempts again.
        self._recovered: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._recovered)

    def wait(self, source: str) -> float:
        """Return how long *source* must wait before it may send another key."""
        recovered = self._recovered.get(source)
        if recovered is None:
            return 0.0
        used = recovered - self._clock()
        return max(0.0, used - (FREE_ATTEMPTS - 1) * SECONDS_PER_ATTEMPT)

    def count(self, source: str) -> None:
        """Count a wrong key."""
        now = self._clock()
        recovered = max(self._recovered.get(source, now), now)
        self._recovered[source] = recovered + SECONDS_PER_ATTEMPT
        self._recovered.move_to_end(source)
        if len(self._recovered) > _REMEMBERED:
            self._recovered.popitem(last=False)
