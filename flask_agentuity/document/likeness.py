"""How similar two items of a list are, if they are not equal and have no ids. Pure functions."""

from __future__ import annotations

from itertools import islice
from typing import Any

from . import codec

#: Two items count as versions of one item if their similarity is more than this.
ALIKE = 0.5
#: If the similarity is more than this, no other item is compared.
NEARLY_EQUAL = 0.95

#: The fields that say what an item is. A message with another role is another message.
KIND_FIELDS = ("role", "type", "kind")

_FILLED = 0.6
_CONTINUED = 0.75
#: How much of an item is compared: levels, fields of an object or items of a list, and characters
#: at each end of a text.
_LEVELS = 3
_PARTS = 32
_CHARACTERS = 512


def is_filled(old: Any, new: Any) -> bool:
    """Return whether *new* is *old*, a placeholder, with its empty parts filled."""
    return _filled(old, new, _LEVELS) is True


def may_replace(old: Any, new: Any) -> bool:
    """Return whether *new*, which replaces *old*, may be its next version.

    If a question replaces an answer, it is another item: the answer was removed.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return True
    for name in KIND_FIELDS:
        if name in old and name in new and not _equal(old[name], new[name]):
            return likeness(old, new) >= ALIKE
    return True


def likeness(old: Any, new: Any, levels: int = _LEVELS) -> float:
    """Return the similarity of *new* to *old*, of which it may be a later version: from 0 to 1,
    equal.

    What is empty in both does not count: every message may have the same empty fields.
    """
    if isinstance(old, str) and isinstance(new, str):
        return _likeness_of_texts(old, new)
    if _is_empty(old) and not _is_empty(new):
        return _FILLED
    if levels:
        if isinstance(old, dict) and isinstance(new, dict):
            return _likeness_of_objects(old, new, levels - 1)
        if isinstance(old, list | tuple) and isinstance(new, list | tuple):
            length = max(len(old), len(new))
            pairs = islice(zip(old, new, strict=False), _PARTS)
            total = sum(likeness(first, second, levels - 1) for first, second in pairs)
            return total / min(length, _PARTS) if length else 1.0
    return float(_equal(old, new))


def _likeness_of_objects(old: dict[str, Any], new: dict[str, Any], levels: int) -> float:
    # Fields that were only added, or only removed, do not make them less similar.
    if old.keys() <= new.keys():
        names = list(old)
    elif new.keys() <= old.keys():
        names = list(new)
    else:
        names = list(old.keys() | new.keys())
    total, count = 0.0, 0
    for name in names[:_PARTS]:
        first, second = old.get(name), new.get(name)
        if not (_is_empty(first) and _is_empty(second)):
            count += 1
            if name in old and name in new:
                total += likeness(first, second, levels)
    return total / count if count else float(old.keys() == new.keys())


def _likeness_of_texts(old: str, new: str) -> float:
    if old == new:
        return 1.0
    if not old or not new:
        return 0.0 if old else _FILLED
    length = min(max(len(old), len(new)), 2 * _CHARACTERS)
    head = _common_prefix(old[:_CHARACTERS], new[:_CHARACTERS])
    room = min(len(old), len(new)) - head
    if not room or (head == _CHARACTERS and (new.startswith(old) or old.startswith(new))):
        return max(_CONTINUED, head / length)
    reach = min(room, _CHARACTERS)
    tail = _common_prefix(old[-reach:][::-1], new[-reach:][::-1])
    common = (head + tail) / length
    return common if common >= ALIKE else 0.0


def _common_prefix(first: str, second: str) -> int:
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _filled(old: Any, new: Any, levels: int) -> bool | None:
    """Return True if empty parts were filled, False if nothing changed, None otherwise."""
    if _is_empty(old):
        return not _is_empty(new)
    if levels and isinstance(old, dict) and isinstance(new, dict):
        if not old.keys() <= new.keys():
            return None
        pairs = [(part, new[name]) for name, part in old.items()]
    elif levels and isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) > len(new):
            return None
        pairs = list(zip(old, new, strict=False))
    else:
        return False if _equal(old, new) else None
    filled = False
    for first, second in pairs:
        part = _filled(first, second, levels - 1)
        if part is None:
            return None
        filled = filled or part
    return filled


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict | list | tuple) or isinstance(second, dict | list | tuple):
        return codec.is_same(first, second)
    return type(first) is type(second) and bool(first == second)
