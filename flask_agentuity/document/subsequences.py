"""Finding common parts of two sequences. Pure functions.

A block is a part of an old and a part of a new sequence. The results are pairs of indexes of equal
entries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

#: No index: there is no such item.
NONE = -1

Pairs = list[tuple[int, int]]


class Block(NamedTuple):
    """The start and the stop of a part of the old sequence, and of one of the new sequence."""

    start: int
    stop: int
    new_start: int
    new_stop: int

    @property
    def height(self) -> int:
        """How many old entries there are."""
        return self.stop - self.start

    @property
    def width(self) -> int:
        """How many new entries there are."""
        return self.new_stop - self.new_start


def pairs_of_unique(old: Sequence[object], new: Sequence[object], block: Block) -> Pairs:
    """Return the pairs of equal entries that occur once in each sequence, by index in *old*."""
    places = _unique(new, block.new_start, block.new_stop)
    found = _unique(old, block.start, block.stop)
    return [(index, places[each]) for each, index in found.items() if each in places]


def _unique(entries: Sequence[object], start: int, stop: int) -> dict[object, int]:
    places: dict[object, int] = {}
    for index in range(start, stop):
        each = entries[index]
        places[each] = NONE if each in places else index
    return {each: index for each, index in places.items() if index != NONE and each is not None}


def runs(entries: Sequence[bytes], length: int) -> list[object]:
    """Return for each entry a value that identifies the *length* entries from there on."""
    return list(zip(*(entries[shift:] for shift in range(length)), strict=False))


def pairs_of_equal_number(old: Sequence[bytes], new: Sequence[bytes], block: Block) -> Pairs:
    """Return the pairs of equal entries that occur equally often in both sequences."""
    places: dict[bytes, list[int]] = {}
    others: dict[bytes, list[int]] = {}
    for index in range(block.start, block.stop):
        places.setdefault(old[index], []).append(index)
    for index in range(block.new_start, block.new_stop):
        others.setdefault(new[index], []).append(index)
    pairs: Pairs = []
    for each, indexes in places.items():
        if len(partners := others.get(each, ())) == len(indexes):
            pairs.extend(zip(indexes, partners, strict=True))
    return sorted(pairs)


def longest_ascending(pairs: Pairs) -> Pairs:
    """Return the longest subsequence of *pairs* whose second numbers ascend."""
    partners = [partner for _, partner in pairs]
    if partners == sorted(partners):
        return pairs
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, partner in enumerate(partners):
        length = bisect_left(ends, partner)
        before.append(last[length - 1] if length else NONE)
        if length == len(ends):
            ends.append(partner)
            last.append(number)
        else:
            ends[length], last[length] = partner, number
    found: Pairs = []
    number = last[-1] if last else NONE
    while number != NONE:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def has_common(old: Sequence[bytes], new: Sequence[bytes], block: Block) -> bool:
    """Return whether any entry is in both parts."""
    return not set(old[block.start : block.stop]).isdisjoint(new[block.new_start : block.new_stop])


def common_subsequence(old: Sequence[bytes], new: Sequence[bytes], block: Block) -> Pairs:
    """Return the longest common subsequence of a small block, as pairs."""
    rows, columns = old[block.start : block.stop], new[block.new_start : block.new_stop]
    if not has_common(old, new, block):
        return []
    # For each place the length of what both have in common from there on, from the end.
    lengths = [[0] * (len(columns) + 1)]
    for entry in reversed(rows):
        below, current = lengths[-1], [0] * (len(columns) + 1)
        for column in reversed(range(len(columns))):
            if entry == columns[column]:
                current[column] = below[column + 1] + 1
            else:
                current[column] = max(below[column], current[column + 1])
        lengths.append(current)
    lengths.reverse()
    found: Pairs = []
    row = column = 0
    while row < len(rows) and column < len(columns):
        if rows[row] == columns[column]:
            found.append((block.start + row, block.new_start + column))
            row, column = row + 1, column + 1
        elif lengths[row + 1][column] >= lengths[row][column + 1]:
            row += 1
        else:
            column += 1
    return found
