"""Thread ids: how they are generated and checked."""

from __future__ import annotations

import re
import secrets

from ..errors import InvalidThreadId

_RULE = "thrd_ followed by only [a-zA-Z0-9-], 32 to 64 characters in total"
_THREAD_ID = re.compile(r"thrd_[a-zA-Z0-9-]{27,59}", re.ASCII)
_LONGEST_SHOWN = 100


def make_thread_id() -> str:
    """Return a new thread id: ``thrd_`` and 32 random hexadecimal digits."""
    return f"thrd_{secrets.token_hex(16)}"


def is_thread_id(value: object) -> bool:
    """Return whether *value* is a valid thread id."""
    return isinstance(value, str) and _THREAD_ID.fullmatch(value) is not None


def require_thread_id(value: object) -> str:
    """Return *value* if it is a valid thread id.

    :raises InvalidThreadId: otherwise; the message contains the value and the rule.
    """
    if not isinstance(value, str) or not is_thread_id(value):
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
        raise InvalidThreadId(f"{shown} is not a thread id. The rule: {_RULE}.")
    return value
