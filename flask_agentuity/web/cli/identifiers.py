"""Which thread a command is about: an id, or the beginning of one."""

from __future__ import annotations

from ...errors import InvalidThreadId
from ...stores import ThreadStore
from ..thread_ids import is_clients_id, is_thread_id, require_thread_id
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
    if given == _PREFIX:
        raise InvalidThreadId(f"Every thread id begins with {_PREFIX}. Give more characters.")
    beginnings = _beginnings(given)
    if not beginnings:
        return require_thread_id(given)
    found: list[str] = []
    for beginning in beginnings:
        found += store.find_ids(beginning, _MOST_SHOWN + 1)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidThreadId(f"No thread has an id that begins with {beginnings[0]}.")
    if store.restore_without_renewing(given) is not None:
        return given
    shown = "\n".join(f"  {thread_id}" for thread_id in sorted(found)[:_MOST_SHOWN])
    more = "\n  ..." if len(found) > _MOST_SHOWN else ""
    raise Failure(f"Several threads have an id that begins with {given}:\n{shown}{more}")


def _beginnings(given: str) -> list[str]:
    """Return the beginnings of ids that *given* can stand for."""
    with_prefix = given if given.startswith(_PREFIX) else _PREFIX + given
    # It is the beginning of an id if adding characters can make it one.
    is_one = given and (is_thread_id(with_prefix.ljust(32, "0")) or is_clients_id(with_prefix))
    beginnings = [with_prefix] if is_one else []
    if given != with_prefix and is_clients_id(given):
        # The ids of clients need not begin with the prefix.
        beginnings.append(given)
    return beginnings
