"""JSON that orjson does not read or write: deep nesting, large integers, unpaired surrogates.

Other software may store it, so a document with it does not count as damaged. Reading and writing it
takes longer. Pure functions.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from .well_formed import make_well_formed, well_formed

# What is left between the texts: one token after another, with white space before it.
_TOKEN = re.compile(
    r"[ \t\n\r]*(?:(?P<mark>[\[\]{},:])"
    r"|(?P<scalar>\"(?:[^\"\\]|\\.)*\"|-?[0-9][0-9.eE+-]*|true|false|null))",
    re.DOTALL,
)
_SURROGATE = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_DIGITS_TO_ZEROS = bytes(ord("0" if 48 <= code < 58 else " ") for code in range(256))
# The shortest integers beyond 64 bits have this many digits.
_LARGE = b"0" * 19

# Each level takes memory. Only an attack would nest deeper.
_MOST_LEVELS = 10_000


class Unusual(bytes):
    """An encoded value that orjson does not write. It is read by :func:`parse`."""


def parse(encoded: bytes | str) -> Any:
    """Decode JSON text. Unpaired surrogates become U+FFFD.

    :raises ValueError: if it is not JSON.
    """
    text = encoded if isinstance(encoded, str) else encoded.decode("utf-8", "surrogatepass")
    try:
        value = _parse(text)
    except RecursionError:
        value = _DeepParser(text).parse()
    return make_well_formed(value) if _SURROGATE.search(text) else value


def write(value: Any) -> Unusual:
    """Return *value*, which may be deeply nested and have large integers, as compact JSON in UTF-8.

    :raises TypeError: if it is not JSON.
    """
    try:
        try:
            text = _dumps(value)
        except RecursionError:
            text = "".join(_write_deep(value))
    except ValueError as error:
        raise TypeError(str(error)) from None
    return Unusual(well_formed(text).encode())


def may_hold_large_integer(encoded: bytes | str) -> bool:
    """Return False if JSON text has no integer beyond 64 bits."""
    text = encoded.encode(errors="replace") if isinstance(encoded, str) else encoded
    # A regular expression takes ten times as long.
    return _LARGE in text.translate(_DIGITS_TO_ZEROS)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


_parse = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class _Expected(enum.Enum):
    """What may come next in the text."""

    VALUE = "a value"
    FIRST_VALUE = "a value or ]"
    KEY = "a key"
    FIRST_KEY = "a key or }"
    MARK = "a comma or the end of the container"
    END = "the end of the text"


class _DeepParser:
    """Parses without recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._result: list[Any] = []
        self._open: list[list[Any] | dict[str, Any]] = [self._result]
        # The keys whose values have begun, one for each open object at most.
        self._keys: list[str] = []
        self._expected = _Expected.VALUE

    def parse(self) -> Any:
        while self._expected is not _Expected.END:
            self._take_token()
            if len(self._open) == 1 and self._expected is _Expected.MARK:
                self._expected = _Expected.END
        if self._text[self._end :].strip(" \t\n\r"):
            raise ValueError(f"more than one value at character {self._end}")
        return self._result[0]

    def _take_token(self) -> None:
        found = self._next_token()
        container = self._open[-1]
        match found["mark"], self._expected:
            case "[", (_Expected.VALUE | _Expected.FIRST_VALUE):
                self._begin([], _Expected.FIRST_VALUE)
            case "{", (_Expected.VALUE | _Expected.FIRST_VALUE):
                self._begin({}, _Expected.FIRST_KEY)
            case "]", (_Expected.FIRST_VALUE | _Expected.MARK) if isinstance(container, list):
                self._open.pop()
                self._expected = _Expected.MARK
            case "}", (_Expected.FIRST_KEY | _Expected.MARK) if isinstance(container, dict):
                self._open.pop()
                self._expected = _Expected.MARK
            case ",", _Expected.MARK:
                is_object = isinstance(container, dict)
                self._expected = _Expected.KEY if is_object else _Expected.VALUE
            case None, (_Expected.KEY | _Expected.FIRST_KEY):
                self._take_key(found)
            case None, (_Expected.VALUE | _Expected.FIRST_VALUE):
                self._add(_parse(found["scalar"]))
                self._expected = _Expected.MARK
            case _:
                raise ValueError(f"not {self._expected.value} at character {found.start()}")

    def _next_token(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._end)
        if found is None:
            raise ValueError(f"not {self._expected.value} at character {self._end}")
        self._end = found.end()
        return found

    def _begin(self, container: list[Any] | dict[str, Any], expected: _Expected) -> None:
        self._add(container)
        self._open.append(container)
        if len(self._open) > _MOST_LEVELS:
            raise ValueError(f"it nests deeper than {_MOST_LEVELS:,} levels")
        self._expected = expected

    def _take_key(self, found: re.Match[str]) -> None:
        key = _parse(found["scalar"])
        if not isinstance(key, str) or self._next_token()["mark"] != ":":
            raise ValueError(f"not a key and a colon at character {found.start()}")
        self._keys.append(key)
        self._expected = _Expected.VALUE

    def _add(self, value: Any) -> None:
        container = self._open[-1]
        if isinstance(container, dict):
            container[self._keys.pop()] = value
        else:
            container.append(value)


def _write_deep(value: Any) -> Iterator[str]:
    """Yield the parts of the text. Parts that are still to be written are on a stack."""
    # Text, or a value, or the container that ends here.
    waiting: list[tuple[str | None, Any]] = [(None, value)]
    open_containers: set[int] = set()
    while waiting:
        text, part = waiting.pop()
        if text is not None:
            open_containers.discard(id(part))
            yield text
            continue
        if isinstance(part, dict | list | tuple):
            if id(part) in open_containers:
                raise ValueError("the value contains itself")
            open_containers.add(id(part))
        if isinstance(part, dict):
            waiting.append(("}", part))
            for index, key in reversed(list(enumerate(part))):
                waiting.append((None, part[key]))
                waiting.append((("," if index else "") + _dumps(key) + ":", None))
            yield "{"
        elif isinstance(part, list | tuple):
            waiting.append(("]", part))
            for index in range(len(part) - 1, -1, -1):
                waiting.append((None, part[index]))
                if index:
                    waiting.append((",", None))
            yield "["
        else:
            yield _dumps(part)
