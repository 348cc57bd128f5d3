"""Fail fast while a service is connected and mute. Pure but for its dice."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable

#: How many requests must go unanswered in a row, with no answer to any other between them.
THRESHOLD = 3

#: Seconds until the first trial at most, and until any later one.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Admission(enum.Enum):
    """What the circuit says to a request."""

    YES = "yes"
    TRIAL = "trial"
    NO = "no"


class Circuit:
    """Opens when requests go unanswered; then lets one through now and then, as a trial."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._unanswered = 0
        self._trials = 0
        self._trial_under_way = False
        self._next_trial: float | None = None

    @property
    def is_open(self) -> bool:
        return self._next_trial is not None

    def admit(self, now: float) -> Admission:
        """Say whether a request may go; a trial must be ended by one of the other methods."""
        if self._next_trial is None:
            return Admission.YES
        if self._trial_under_way or now < self._next_trial:
            return Admission.NO
        self._trial_under_way = True
        return Admission.TRIAL

    def answered(self) -> None:
        """Any answer at all closes the circuit."""
        self._unanswered = 0
        self._trials = 0
        self._trial_under_way = False
        self._next_trial = None

    def timed_out(self, now: float) -> None:
        """Count a request that was sent and not answered in its time."""
        self._unanswered += 1
        if self._next_trial is None and self._unanswered < THRESHOLD:
            return
        if self._next_trial is not None and not self._trial_under_way:
            return
        high = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._trials, 60))
        self._trials += 1
        self._trial_under_way = False
        self._next_trial = now + self._uniform(high / 2, high)

    def trial_lost(self) -> None:
        """The trial ended without a verdict, for the connection was lost under it."""
        self._trial_under_way = False
