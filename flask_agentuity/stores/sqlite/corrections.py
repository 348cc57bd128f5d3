"""Correcting the times of threads that were written before the clock was set back.

Such times are in the future. The threads would stay at the top of listings, and expire late, until
the clock has caught up. So they count as updated just before that is noticed: by the first write
after it, by a listing that shows them, or by a purge. Their order stays.
"""

from __future__ import annotations

import sqlite3

from ..listing import AHEAD
from .ordering import set_times

#: How many threads one transaction corrects.
MOST_CORRECTED = 50
#: By how many seconds they then come before the write that has noticed it.
_BEFORE = 0.1

# A damaged time is no number, comes after all numbers, and stays as it is.
_IS_AHEAD = "BETWEEN ? AND 1e300"
_IS_VALID = "updated BETWEEN 0 AND 1e300"
_FIND = (
    f"SELECT number FROM threads WHERE listed {_IS_AHEAD} AND {_IS_VALID}"
    " UNION SELECT number FROM threads INDEXED BY threads_stale"
    f" WHERE stale = 1 AND updated {_IS_AHEAD}"
    f" UNION SELECT number FROM threads WHERE used {_IS_AHEAD} AND {_IS_VALID}"
)
_EXISTS = f"SELECT EXISTS ({_FIND})"
_FIRST = (
    f"SELECT number, created, updated FROM threads WHERE number IN ({_FIND})"
    " ORDER BY updated, id LIMIT ?"
)
_SET_USED = f"UPDATE threads SET used = ? WHERE number = ? AND used {_IS_AHEAD}"


def has_times_ahead(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether any thread has a time in the future."""
    return bool(connection.execute(_EXISTS, [now + AHEAD] * 3).fetchone()[0])


def correct_times(connection: sqlite3.Connection, now: float, before: int) -> int:
    """Set the times of some threads from the future to now, the earliest first; return how many.

    :param before: how many have been corrected at the same time before.
    """
    rows = connection.execute(_FIRST, [*[now + AHEAD] * 3, MOST_CORRECTED]).fetchall()
    for place, (number, created, updated) in enumerate(rows, before):
        # A microsecond apart, so that their order stays.
        at = min(updated, now - _BEFORE + place / 1_000_000)
        is_created_later = isinstance(created, int | float) and created > at
        set_times(connection, number, at if is_created_later else created, at)
        connection.execute(_SET_USED, (now, number, now + AHEAD))
    return len(rows)
