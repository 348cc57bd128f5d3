"""Which thread a command is about: an id, or the beginning of one."""

from __future__ import annotations

from ...errors import InvalidThreadId
from ...stores import ThreadStore
from ..thread_ids import is_thread_id, require_thread_id
from .group import Failure

_PREFIX = "thrd_"
#: How many ids an error names.
_MOST_SHOWN = 5


def find_id(store: ThreadStore, given: str) -> str:
    """Return the thread id that *given* is, or is the unambiguous beginning of.

    :raises InvalidThreadId: if it cannot be the beginning of an id, or if no id begins with it.
    :raises Failure: if several ids begin with it.
    """
    if is_thread_id(given):
        return given
    prefix = given if given.startswith(_PREFIX) else _PREFIX + given
    if given == _PREFIX:
        raise InvalidThreadId(f"Every thread id begins with {_PREFIX}. Give more characters.")
    # It is the beginning of an id if adding characters can make it one.
    if not given or not is_thread_id(prefix.ljust(32, "0")):
        return require_thread_id(given)
    found = list(store.find_ids(prefix, _MOST_SHOWN + 1))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidThreadId(f"No thread has an id that begins with {prefix}.")
    shown = "\n".join(f"  {thread_id}" for thread_id in sorted(found)[:_MOST_SHOWN])
    more = "\n  ..." if len(found) > _MOST_SHOWN else ""
    raise Failure(f"Several threads have an id that begins with {prefix}:\n{shown}{more}")
