"""A circuit breaker for a service that accepts requests but does not answer them.

Deterministic given its random source.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable

#: The number of consecutive unanswered requests that opens the circuit.
THRESHOLD = 3

#: The longest pause in seconds before the first trial, and before any later one.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Admission(enum.Enum):
    """Whether a request may be sent."""

    YES = "yes"
    TRIAL = "trial"
    NO = "no"


class Circuit:
    """Opens when requests go unanswered. Then one request at a time is let through as a trial."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """*uniform* returns a random number between its arguments."""
        self._uniform = uniform
        self._unanswered = 0
        self._trials = 0
        self._trial_pending = False
        self._next_trial: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are refused."""
        return self._next_trial is not None

    @property
    def is_settled(self) -> bool:
        """Whether :meth:`answered` would change nothing."""
        return self._next_trial is None and not self._unanswered

    def admit(self, now: float) -> Admission:
        """Decide about a request. A trial must be ended by one of the other methods."""
        if self._next_trial is None:
            return Admission.YES
        if self._trial_pending or now < self._next_trial:
            return Admission.NO
        self._trial_pending = True
        return Admission.TRIAL

    def answered(self) -> None:
        """Close the circuit: the service answered a request."""
        self._unanswered = 0
        self._trials = 0
        self._trial_pending = False
        self._next_trial = None

    def timed_out(self, now: float) -> None:
        """Count a request that was sent and not answered in time."""
        self._unanswered += 1
        if self._next_trial is None and self._unanswered < THRESHOLD:
            return
        if self._next_trial is not None and not self._trial_pending:
            return
        high = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._trials, 60))
        self._trials += 1
        self._trial_pending = False
        self._next_trial = now + self._uniform(high / 2, high)

    def trial_lost(self) -> None:
        """End the trial without a verdict: its connection was lost or it was not sent."""
        self._trial_pending = False
