"""How JavaScript changes JSON that it reads and writes again. Pure functions.

It has only one type of numbers: 1.0 becomes 1, and integers beyond 2**53 lose digits. It moves keys
that look like integers to the front.
"""

from __future__ import annotations

from typing import Any

from ..document import codec


def align(before: Any, after: Any) -> Any:
    """Return *after*, but with the values of *before* where JavaScript has only changed their form.

    The result is *before* itself, not a copy, if nothing has changed at all. Both are decoded
    JSON.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        aligned = {
            key: align(before[key], value) if key in before else value
            for key, value in after.items()
        }
        same = len(aligned) == len(before) and all(
            key in before and value is before[key] for key, value in aligned.items()
        )
        return before if same else aligned
    if isinstance(before, list) and isinstance(after, list):
        return _align_lists(before, after)
    return before if _is_same(before, after) else after


def _align_lists(before: list[Any], after: list[Any]) -> list[Any]:
    first = 0
    for old, new in zip(before, after, strict=False):
        if align(old, new) is not old:
            break
        first += 1
    if first == len(before) == len(after):
        return before
    originals = {_canonical(item): item for item in before[first:]}
    rest = [originals.get(_canonical(item), item) for item in after[first:]]
    return [*before[:first], *rest]


def _canonical(item: Any) -> bytes:
    """Encode *item* so that values which JavaScript cannot tell apart are equal."""
    return codec.encode_unchecked(_normalize(item))


def _normalize(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalize(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_normalize(item) for item in value]
    return float(value) if _is_number(value) else value


def _is_same(before: Any, after: Any) -> bool:
    if _is_number(before) and _is_number(after):
        return float(before) == float(after)
    return type(before) is type(after) and bool(before == after)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
