"""Frames that the fast parser refuses, or must not read. Pure functions.

JavaScript writes an unpaired surrogate as an escape, and has no limit for nesting. A frame with
such a value is still a request, whose client waits for a reply.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import islice

from ..document.messages import parse_message
from .limits import MAX_CONTAINERS, MAX_VALUES
from .requests import RequestId

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
_COLON = re.compile(rb"\s*+:")
_VALUE = re.compile(rb"\s*+:\s*+(" + _TEXT + rb"|-?[\d.eE+-]++)", re.DOTALL)

# The last brace of a request is that of the request.
_LAST_FIELD = re.compile(rb'"id"\s*+:\s*+(' + _TEXT + rb"|-?[\d.eE+-]++)\s*+}\s*+\Z", re.DOTALL)
_LONGEST_FIELD = 1024

# The shortest infinite integers have this many digits; a fraction can have as many.
_DIGITS_TO_ZEROS = bytes(ord("0" if 48 <= code < 58 else " ") for code in range(256))
_INFINITE = b"0" * 309
_NUMBER = re.compile(rb"(?<![\d.eE+-])-?[1-9]\d{308,}+(?![\d.eE+-])")

#: The levels of nesting that every parser accepts.
_TOO_DEEP = 1000


def make_well_formed(text: bytes) -> bytes:
    """Return JSON *text* with each unpaired surrogate as U+FFFD.

    JavaScript's ``toWellFormed()`` does the same.
    """
    if not _SURROGATE.search(text):
        return text
    return _ESCAPE.sub(_replace_half, text)


def _replace_half(escape: re.Match[bytes]) -> bytes:
    found = escape[0]
    return _REPLACEMENT if len(found) == 6 and _SURROGATE.match(found) else found


def find_too_many(text: bytes) -> str | None:
    """Return the kind and number of the values that JSON *text* has too many of; None: of none.

    A list of a million empty lists is short, but it takes seconds to parse.
    """
    if len(text) < 2 * MAX_CONTAINERS or _count(text) is None:
        return None
    # Values within texts do not count.
    return _count(_ANY_TEXT.sub(b"", text))


def _count(text: bytes) -> str | None:
    containers = text.count(b"[") + text.count(b"{")
    if containers > MAX_CONTAINERS:
        return f"{containers:,} lists and objects; the limit is {MAX_CONTAINERS:,}"
    if (values := containers + text.count(b",")) > MAX_VALUES:
        return f"{values:,} values; the limit is {MAX_VALUES:,}"
    return None


def has_infinite_integer(text: bytes) -> bool:
    """Return whether JSON *text* has an integer that JavaScript reads as infinite.

    The parser refuses other numbers that are out of range.
    """
    if _INFINITE not in text.translate(_DIGITS_TO_ZEROS):
        return False
    numbers = _NUMBER.findall(_ANY_TEXT.sub(b"", text))
    return any(math.isinf(float(number)) for number in numbers)


@dataclass(frozen=True, slots=True)
class FoundId:
    """The id of a request that cannot be parsed, as far as it was found.

    ``id`` is None if there is none, or one that cannot be repeated.
    """

    id: RequestId | None = None
    has_id: bool = False
    is_too_deep: bool = False


def find_id(text: bytes) -> FoundId:
    """Find the id of a request that cannot be parsed.

    The rest of the request is not checked. Of a long one only the first part and the last field
    are searched.
    """
    value: re.Match[bytes] | None = None
    has_id = False
    depth = deepest = count = 0
    for token in islice(_TOKEN.finditer(text), _MOST_TOKENS):
        count += 1
        match token[0]:
            case b"{" | b"[":
                depth += 1
                deepest = max(deepest, depth)
            case b"}" | b"]":
                depth -= 1
            case b'"id"' if depth == 1 and _COLON.match(text, token.end()):
                has_id, value = True, _VALUE.match(text, token.end())
            case _:
                pass
        if depth <= 0:
            # Text after the request does not belong to it.
            break
    if not has_id and count == _MOST_TOKENS:
        value = _LAST_FIELD.search(text[-_LONGEST_FIELD:])
        has_id = value is not None
    id = None if value is None else _read_id(value[1])
    return FoundId(id, has_id, deepest > _TOO_DEEP)


def _read_id(text: bytes) -> RequestId | None:
    try:
        id = parse_message(text)
    except ValueError:
        return None
    return id if isinstance(id, str | int | float) else None
