"""Why a value cannot be stored, which part is the reason, and what to store instead."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import math
import pathlib
import uuid
from typing import Any

from ..errors import StateNotSerializable

#: How deep a value may nest: what orjson encodes, from 3.12 on.
MAX_DEPTH = 254

_LONGEST_PATH = 200

# Methods that return something that can be stored, in the order in which they are named.
_CONVERSIONS = ("model_dump", "to_dict", "_asdict", "isoformat", "tolist", "total_seconds")

# The place of a part: its parent's place and its own key or index; None for the whole value.
_Place = tuple[Any, Any] | None


def find_refused(value: Any, path: str, *, unusual: bool = False) -> StateNotSerializable | None:
    """Find the first part of *value* that cannot be stored; None when there is none.

    :param path: the name of the value in errors.
    :param unusual: whether deep nesting and large integers may be stored, because they have
        been stored before. The value must not contain itself.
    """
    waiting: list[tuple[Any, _Place, int]] = [(value, None, 1)]
    while waiting:
        part, place, depth = waiting.pop()
        is_container = isinstance(part, dict | list) or type(part) is tuple
        if is_container and depth > MAX_DEPTH and not unusual:
            where = _path_of(path, place)
            return StateNotSerializable(
                where if len(where) < _LONGEST_PATH else where[:_LONGEST_PATH] + "...",
                f"it nests deeper than {MAX_DEPTH} levels, or contains itself",
            )
        if isinstance(part, dict):
            for key in part:
                if type(key) is not str:
                    return StateNotSerializable(
                        _path_of(path, (place, key)),
                        f"a key must be a string, not {type(key).__name__}",
                    )
            children = [(part[key], (place, key), depth + 1) for key in part]
            waiting.extend(reversed(children))
        elif is_container:
            waiting.extend(
                (part[index], (place, _Index(index)), depth + 1)
                for index in range(len(part) - 1, -1, -1)
            )
        elif reason := _refuse_scalar(part, unusual):
            return StateNotSerializable(_path_of(path, place), reason)
    return None


def child_path(path: str, key: object) -> str:
    """Return the name in errors for the part *key* of the value at *path*."""
    if path not in ("state", "metadata") and isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}"
    return f"{path}[{_quoted(key)}]"


class _Index(int):
    """The index of an item, which could otherwise be taken for a key that is an integer."""


def _path_of(path: str, place: _Place) -> str:
    keys = []
    while place is not None:
        place, key = place
        keys.append(key)
    for key in reversed(keys):
        path = f"{path}[{key:d}]" if type(key) is _Index else child_path(path, key)
    return path


def _quoted(key: object) -> str:
    return f'"{key}"' if type(key) is str and key.isprintable() else repr(key)


def _refuse_scalar(value: Any, unusual: bool) -> str | None:
    if value is None or isinstance(value, bool | str):
        return None
    if isinstance(value, int):
        is_small = -(2**63) <= value < 2**64
        return None if is_small or unusual else "the integer is beyond 64 bits"
    if type(value) is float:
        return None if math.isfinite(value) else f"JSON has no value for {value!r}"
    reason = f"JSON has no type for {type(value).__name__}"
    advice = _advise(value)
    return f"{reason}. Store {advice}" if advice else reason


def _advise(value: Any) -> str | None:
    """Return what to store instead of *value*, as Python code; None if nothing is known."""
    for name in _CONVERSIONS:
        # Looked up in the class, because some objects claim to have every attribute.
        if callable(getattr(type(value), name, None)):
            return f"value.{name}()"
    match value:
        case float():
            return "float(value)"
        case tuple() | set() | frozenset():
            return "list(value)"
        case bytes() | bytearray() | memoryview():
            return "text, for example in base64"
        case enum.Enum():
            return "value.value"
        case decimal.Decimal() | uuid.UUID() | pathlib.PurePath():
            return "str(value)"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return "dataclasses.asdict(value)"
        case _:
            return None
