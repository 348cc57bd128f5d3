"""How many files, and so connections, this process may open."""

from __future__ import annotations

import math

#: Files that are left for the store and for the rest of the process.
RESERVED = 64


def most_connections() -> float:
    """Return how many connections leave enough files for the store."""
    return max(1, _limit() - RESERVED)


def files_left(number: int) -> float:
    """Return how many files can be opened after the one with this *number*.

    A new file has the lowest number that is free.
    """
    return _limit() - number


def _limit() -> float:
    try:
        import resource
    except ModuleNotFoundError:
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit
