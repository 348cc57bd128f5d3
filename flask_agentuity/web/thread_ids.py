"""Thread ids: how they are generated and checked."""

from __future__ import annotations

import re
import secrets

from ..errors import InvalidThreadId

_PREFIX = "thrd_"
_SHORTEST, _LONGEST = 32, 64
_RULE = f"{_PREFIX} followed by only [a-zA-Z0-9-], {_SHORTEST} to {_LONGEST} characters in total"
#: The form of a thread id, as a regular expression.
THREAD_ID_PATTERN = (
    rf"{_PREFIX}[a-zA-Z0-9-]{{{_SHORTEST - len(_PREFIX)},{_LONGEST - len(_PREFIX)}}}"
)
_THREAD_ID = re.compile(THREAD_ID_PATTERN, re.ASCII)
# How a thread service stores the ids of its clients, which may be any text of 256 characters.
_CLIENTS_ID = re.compile(rf"(?:{_PREFIX})?[0-9a-f]{{20}}-[a-zA-Z0-9_.~%-]{{1,3072}}", re.ASCII)
_LONGEST_SHOWN = 100


def make_thread_id() -> str:
    """Return a new thread id: ``thrd_`` and 32 random hexadecimal digits."""
    return f"{_PREFIX}{secrets.token_hex(16)}"


def is_thread_id(value: object) -> bool:
    """Return whether *value* is a valid thread id."""
    return isinstance(value, str) and _THREAD_ID.fullmatch(value) is not None


def is_clients_id(value: str) -> bool:
    """Return whether *value* may be the id of a thread that a thread service stores."""
    return _CLIENTS_ID.fullmatch(value) is not None


def require_stored_id(value: object) -> str:
    """Return *value* if it is the id of a thread of an app, or of a client of a thread service.

    :raises InvalidThreadId: otherwise, as :func:`require_thread_id`.
    """
    return value if isinstance(value, str) and is_clients_id(value) else require_thread_id(value)


def require_thread_id(value: object) -> str:
    """Return *value* if it is a valid thread id.

    :raises InvalidThreadId: otherwise; the message contains the value, the part of the rule that
        it breaks, and the rule.
    """
    if not isinstance(value, str) or not is_thread_id(value):
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
        raise InvalidThreadId(f"{shown} is not a thread id: {_fault(value)}. The rule: {_RULE}.")
    return value


def _fault(value: object) -> str:
    """Return what is wrong with *value*, in the order in which the JavaScript runtime checks."""
    if not isinstance(value, str):
        return f"it is a {type(value).__name__}, not a string"
    if not value:
        return "it is empty"
    if not value.startswith(_PREFIX):
        return f"it does not begin with {_PREFIX}"
    if len(value) > _LONGEST:
        return f"it is too long, with {len(value):,} characters"
    if len(value) < _SHORTEST:
        return f"it is too short, with {len(value)} characters"
    return "it contains characters that are not allowed"
