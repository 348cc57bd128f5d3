"""JSON that the fast parser refuses although it is JSON. Pure functions.

JavaScript writes half a surrogate pair as an escape, and nests without a limit. A frame with
such a value is still a request, and its client waits for an answer.
"""

from __future__ import annotations

import re
from itertools import islice

from ..document.messages import parse_message
from .limits import MAX_CONTAINERS, MAX_VALUES

# Escapes one by one, so that an escaped backslash is not taken for the beginning of another.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\ufffd"

# A text is one token, so brackets in it do not count. One without an end reaches to the end of
# the frame: the pattern would otherwise be tried again at each of its quotes.
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_TOKEN = re.compile(_TEXT + rb"|[\[\]{}]", re.DOTALL)
_ANY_TEXT = re.compile(_TEXT, re.DOTALL)
_MOST_TOKENS = 100_000
_VALUE = re.compile(rb"\s*+:\s*+(" + _TEXT + rb"|-?[\d.eE+-]++)", re.DOTALL)

# The last brace of a request is that of the request.
_LAST_FIELD = re.compile(rb'"id"\s*+:\s*+(' + _TEXT + rb"|-?[\d.eE+-]++)\s*+}\s*+\Z", re.DOTALL)
_LONGEST_FIELD = 1024

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


def has_too_many_values(text: bytes) -> bool:
    """Return whether JSON *text* has more values than a request can have.

    A list of a million empty lists is short, but it takes seconds to parse.
    """
    if len(text) < 2 * MAX_CONTAINERS or not _exceeds(text):
        return False
    # What is within texts does not count.
    return _exceeds(_ANY_TEXT.sub(b"", text))


def _exceeds(text: bytes) -> bool:
    containers = text.count(b"[") + text.count(b"{")
    return containers > MAX_CONTAINERS or containers + text.count(b",") > MAX_VALUES


def find_id(text: bytes, *, only_if_deep: bool = True) -> str | int | float | None:
    """Return the id of a request that cannot be parsed; None if it has none.

    The rest of the request is not checked. Of a long one only the first part and the last field
    are searched.

    :param only_if_deep: return None also if it does not nest too deep to be parsed.
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
    if found is None and (last := _LAST_FIELD.search(text[-_LONGEST_FIELD:])):
        found = _read_id(last[1])
    return found if deepest > _TOO_DEEP or not only_if_deep else None


def _read_id(text: bytes) -> str | int | float | None:
    try:
        id = parse_message(text)
    except ValueError:
        return None
    return id if isinstance(id, str | int | float) else None
