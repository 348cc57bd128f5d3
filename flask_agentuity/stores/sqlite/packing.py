"""How items are distributed over segments, and how segments are numbered. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..segments import pack
from . import schema

#: A segment to be stored: its number of items, and its body.
Packed = tuple[int, bytes]


def pack_last(items: Sequence[bytes]) -> list[Packed]:
    """Pack the items of a list's last segment: the rows before the last one are full."""
    return [_join(items)] if _fits(items) else pack(items, b",", schema.SEGMENT_BYTES)


def pack_first(items: Sequence[bytes]) -> list[Packed]:
    """Pack the items of a list's first segment: the rows behind the first one are full."""
    if _fits(items):
        return [_join(items)]
    counts = [count for count, _ in pack(items[::-1], b",", schema.SEGMENT_BYTES)]
    return _cut(items, reversed(counts))


def pack_inner(items: Sequence[bytes]) -> list[Packed]:
    """Pack the items of segments within a list into rows of about the same size."""
    if _fits(items):
        return [_join(items)]
    total = _size(items)
    target = total / -(-total // schema.SEGMENT_BYTES)
    counts: list[int] = []
    count = size = 0
    for item in items:
        if count and (size >= target or size + len(item) > schema.SEGMENT_BYTES):
            counts.append(count)
            count = size = 0
        count += 1
        size += len(item) + 1
    return _cut(items, [*counts, count])


def numbers_after(last: int, end: int, count: int) -> list[int] | None:
    """Return *count* numbers after *last* and up to *end*; None if they do not fit."""
    numbers = [last + schema.STRIDE * step for step in range(1, count + 1)]
    return numbers if not numbers or numbers[-1] <= end else None


def numbers_before(first: int, start: int, count: int) -> list[int] | None:
    """Return *count* numbers before *first* and from *start* on; None if they do not fit."""
    numbers = [first - schema.STRIDE * step for step in range(count, 0, -1)]
    return numbers if not numbers or numbers[0] >= start else None


def numbers_between(low: int, high: int, count: int) -> list[int] | None:
    """Return *count* numbers between two segments, evenly spaced; None if there is no room."""
    if high - low - 1 < count:
        return None
    return [low + (high - low) * step // (count + 1) for step in range(1, count + 1)]


def renumbered(start: int, end: int, count: int) -> list[int] | None:
    """Return the numbers of a whole list of *count* segments; None if there are too many."""
    first = start + schema.FIRST_SEGMENT
    if first + schema.STRIDE * count <= end:
        return list(range(first, first + schema.STRIDE * count, schema.STRIDE))
    distance = (end - start + 1) // max(1, count)
    return list(range(start, start + distance * count, distance)) if distance else None


def _size(items: Sequence[bytes]) -> int:
    return sum(map(len, items)) + len(items) - 1


def _fits(items: Sequence[bytes]) -> bool:
    return len(items) == 1 or _size(items) <= schema.FULL_BYTES


def _join(items: Sequence[bytes]) -> Packed:
    return len(items), b",".join(items)


def _cut(items: Sequence[bytes], counts: Iterable[int]) -> list[Packed]:
    packed, start = [], 0
    for count in counts:
        packed.append(_join(items[start : start + count]))
        start += count
    return packed
