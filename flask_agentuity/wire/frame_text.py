"""JSON that the fast parser refuses although it is JSON. Pure functions.

JavaScript writes half a surrogate pair as an escape, and nests without a limit. A frame with
such a value is still a request, and its client waits for an answer.
"""

from __future__ import annotations

import re
from itertools import islice

from ..document.messages import parse_message

# Escapes one by one, so that an escaped backslash is not taken for the beginning of another.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\ufffd"

# A text is one token, so brackets in it do not count.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_MOST_TOKENS = 100_000
_VALUE = re.compile(rb'\s*:\s*("(?:[^"\\]|\\.)*"|-?[\d.eE+-]+)', re.DOTALL)

#: Levels that every parser takes.
_TOO_DEEP = 1000


def make_well_formed(text: bytes) -> bytes:
    """Return JSON *text* with each half of a surrogate pair as U+FFFD.

    JavaScript's ``toWellFormed()`` does the same.
    """
    if not _SURROGATE.search(text):
        return text
    return _ESCAPE.sub(_replace_half, text)


def _replace_half(escape: re.Match[bytes]) -> bytes:
    found = escape[0]
    return _REPLACEMENT if len(found) == 6 and _SURROGATE.match(found) else found


def find_id(text: bytes) -> str | int | float | None:
    """Return the id of a request that nests too deep to be parsed.

    None if it has no id, or does not nest too deep. The rest of the request is not checked, and
    only the first part of a long one is searched.
    """
    found: str | int | float | None = None
    depth = deepest = 0
    for token in islice(_TOKEN.finditer(text), _MOST_TOKENS):
        match token[0]:
            case b"{" | b"[":
                depth += 1
                deepest = max(deepest, depth)
            case b"}" | b"]":
                depth -= 1
            case b'"id"' if depth == 1 and (value := _VALUE.match(text, token.end())):
                found = _read_id(value[1])
            case _:
                pass
    return found if deepest > _TOO_DEEP else None


def _read_id(text: bytes) -> str | int | float | None:
    try:
        id = parse_message(text)
    except ValueError:
        return None
    return id if isinstance(id, str | int | float) else None
