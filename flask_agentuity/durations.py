"""The longest time that can be configured, of which every part must be able to make use."""

from __future__ import annotations

#: Seconds: a hundred years. Locks, sockets and dates take no times that are much longer.
LONGEST = 36_525 * 86_400


def is_duration(seconds: object, *, or_zero: bool = False) -> bool:
    """Return whether *seconds* is a number above 0 (or 0), and not too large."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 < seconds <= LONGEST or (or_zero and seconds == 0)
