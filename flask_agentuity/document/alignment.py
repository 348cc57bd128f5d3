"""Finding which items of two versions of a list are the same item. Pure functions.

Items with an id are matched by it, others if they are equal and that is unambiguous, then by their
neighbours, then by similarity. A wrong match would apply the change of one item to another, so
unique items are matched first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import codec
from .likeness import ALIKE, NEARLY_EQUAL, is_filled, likeness, may_replace
from .subsequences import (
    NONE,
    Block,
    Pairs,
    common_subsequence,
    has_common,
    longest_ascending,
    pairs_of_equal_number,
    pairs_of_unique,
    runs,
)

#: The fields that identify an item, the first one first.
ID_FIELDS = ("id", "message_id")
Identity = tuple[str, str | int]

# How many items of one list times items of the other are compared pair by pair: for equal
# items in one block and in all blocks, and for likeness, which costs more.
_LARGEST_BLOCK = 10_000
_PAIRS = 100_000
_LARGEST_ALIKE_BLOCK = 100
_LIKENESSES = 4_000
# How many neighbours are compared to distinguish equal items.
_RUNS = (2, 4, 8, 16)
# How often a block is divided at items that are unique within it.
_LEVELS = 8
# How far versions of items may have shifted in a larger block, and how many items in front
# may be unlike all others before the search is given up.
_SHIFT = 4
_UNLIKE = 16
# How many equal items at the beginning show that nothing has shifted.
_ALIKE_IN_PLACE = 64


class Items:
    """The items of a list: their values, their encodings and their identities."""

    __slots__ = ("encoded", "identities", "values")

    def __init__(self, values: Sequence[Any], encoded: list[bytes] | None = None) -> None:
        self.values = values
        self.encoded = codec.encode_each(values) if encoded is None else encoded
        # Most items have no id; searching the encoding finds that at a fraction of the cost.
        self.identities = [
            identity(value) if b'id":' in item else None
            for value, item in zip(values, self.encoded, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.encoded)


def identity(value: Any) -> Identity | None:
    """Return the identity of an item; None if it has no id."""
    if isinstance(value, dict):
        for name in ID_FIELDS:
            found = value.get(name)
            if (isinstance(found, str) and found) or type(found) is int:
                return name, found
    return None


def forget_ambiguous(*lists: Items) -> set[Identity]:
    """Remove the identities that several items of one list share, and return them."""
    ambiguous: set[Identity] = set()
    for items in lists:
        seen: set[Identity] = set()
        for each in items.identities:
            if each is not None:
                (ambiguous if each in seen else seen).add(each)
    if ambiguous:
        for items in lists:
            items.identities = [None if each in ambiguous else each for each in items.identities]
    return ambiguous


def align(old: Items, new: Items, *, same_only: bool = False) -> list[int]:
    """Return for each item of *old* its index in *new*, or NONE.

    The indexes ascend: an item that was moved is matched only if most others moved with it.
    Call :func:`forget_ambiguous` first, with all lists that belong together.

    :param same_only: match only items that are equal or have the same id.
    """
    alignment = _Alignment(old, new)
    alignment.match_same()
    if not same_only:
        alignment.match_alike()
    alignment.slide(same_only=same_only)
    return alignment.partners


class _Alignment:
    def __init__(self, old: Items, new: Items) -> None:
        self.partners = [NONE] * len(old)
        self._old = old
        self._new = new
        self._pairs_left = _PAIRS
        self._likenesses_left = _LIKENESSES
        self._old_ids = {each for each in old.identities if each is not None}
        self._new_ids = {each for each in new.identities if each is not None}

    def match_same(self) -> None:
        """Match items that have the same id or are equal."""
        waiting = [(Block(0, len(self._old), 0, len(self._new)), 0)]
        while waiting:
            block, level = waiting.pop()
            block = self._match_ends(block)
            if not block.height or not block.width:
                continue
            pairs = self._pairs(block, level)
            for index, partner in pairs:
                self.partners[index] = partner
            if pairs and level < _LEVELS:
                between = _blocks_between([*pairs, (block.stop, block.new_stop)], block)
                waiting.extend((each, level + 1) for each in between)

    def match_alike(self) -> None:
        """Match items between the matched ones: versions of one item, or replacements."""
        for block in self._gaps():
            if block.height == block.width == 1:
                # Without ids it is paired below, also if it is not alike.
                if not self._both_without_id(block.start, block.new_start):
                    self._match_if_alike(block.start, block.new_start)
            elif block.height * block.width <= _LARGEST_ALIKE_BLOCK:
                self._match_best(block)
            else:
                self._match_shifted(block)
        for block in self._gaps():
            if block.height == block.width:
                shift = block.new_start - block.start
                for index in range(block.start, block.stop):
                    if self._may_replace(index, index + shift):
                        self.partners[index] = index + shift

    def slide(self, *, same_only: bool) -> None:
        """Move matches forward to the item with the same neighbour in front.

        In ``[q, "", r, ""]`` and ``[q, "x", r, "", s, ""]`` the last items are equal, but the item
        after ``r`` is the same.
        """
        previous = NONE
        for index, partner in enumerate(self.partners):
            expected = previous + 1
            known = index == 0 or previous != NONE
            if known and partner > expected and self._belongs(index, expected, same_only):
                self.partners[index] = partner = expected
            previous = partner

    def _both_without_id(self, index: int, partner: int) -> bool:
        return self._old.identities[index] is self._new.identities[partner] is None

    def _belongs(self, index: int, partner: int, same_only: bool) -> bool:
        if not self._both_without_id(index, partner):
            return False
        old, new = self._old, self._new
        if old.encoded[index] == new.encoded[partner]:
            return True
        return not same_only and is_filled(old.values[index], new.values[partner])

    def _may_replace(self, index: int, partner: int) -> bool:
        return self._both_without_id(index, partner) and may_replace(
            self._old.values[index], self._new.values[partner]
        )

    def _match_ends(self, block: Block) -> Block:
        """Match equal items at both ends of a block, and return what is between."""
        old, new = self._old.encoded, self._new.encoded
        start, stop, new_start, new_stop = block
        while start < stop and new_start < new_stop and old[start] == new[new_start]:
            self.partners[start] = new_start
            start, new_start = start + 1, new_start + 1
        while start < stop and new_start < new_stop and old[stop - 1] == new[new_stop - 1]:
            stop, new_stop = stop - 1, new_stop - 1
            self.partners[stop] = new_stop
        return Block(start, stop, new_start, new_stop)

    def _pairs(self, block: Block, level: int) -> Pairs:
        """Return ascending pairs of items of a block that are the same."""
        if level == 0 and (
            pairs := pairs_of_unique(self._old.identities, self._new.identities, block)
        ):
            return longest_ascending(pairs)
        if block.height == block.width == 1:
            return []
        old, new = self._old.encoded, self._new.encoded
        if level < _LEVELS and (pairs := pairs_of_unique(old, new, block)):
            return longest_ascending(pairs)
        size = block.height * block.width
        if size <= min(_LARGEST_BLOCK, self._pairs_left):
            self._pairs_left -= size
            return common_subsequence(old, new, block)
        if not has_common(old, new, block):
            return []
        if level < _LEVELS and (pairs := self._pairs_of_runs(block)):
            return pairs
        return longest_ascending(pairs_of_equal_number(old, new, block))

    def _pairs_of_runs(self, block: Block) -> Pairs:
        """Return pairs of equal items that the items after them distinguish."""
        start, stop, new_start, new_stop = block
        for length in _RUNS:
            old = runs(self._old.encoded[start : stop + length], length)
            new = runs(self._new.encoded[new_start : new_stop + length], length)
            inside = Block(0, min(len(old), block.height), 0, min(len(new), block.width))
            if pairs := pairs_of_unique(old, new, inside):
                pairs = longest_ascending(pairs)
                return [(start + index, new_start + partner) for index, partner in pairs]
        return []

    def _gaps(self) -> Iterator[Block]:
        """Yield the blocks between matched items in which both lists have items."""
        matched = [pair for pair in enumerate(self.partners) if pair[1] != NONE]
        whole = Block(0, len(self._old), 0, len(self._new))
        yield from _blocks_between([*matched, (whole.stop, whole.new_stop)], whole)

    def _match_shifted(self, block: Block) -> None:
        """Match similar items from the beginning of a large block, then from its end."""
        start, stop, new_start, new_stop = block
        partner, unlike = new_start, 0
        for index in range(start, stop):
            in_place = index - start == partner - new_start == _ALIKE_IN_PLACE
            if in_place and block.height == block.width:
                # Nothing has shifted: the rest is paired by position.
                return
            if (best := self._best_of(index, partner, min(partner + _SHIFT, new_stop))) != NONE:
                self.partners[index] = best
                partner, unlike = best + 1, NONE
            elif unlike != NONE and (unlike := unlike + 1) == _UNLIKE:
                break
        while new_stop > partner and stop > start and self.partners[stop - 1] == NONE:
            if not self._match_if_alike(stop - 1, new_stop - 1):
                break
            stop, new_stop = stop - 1, new_stop - 1

    def _best_of(self, index: int, start: int, stop: int) -> int:
        """Return which of a few new items is the most similar one, or NONE."""
        best, highest = NONE, ALIKE
        for partner in range(start, stop):
            if (found := self._likeness(index, partner)) > highest:
                best, highest = partner, found
                if found > NEARLY_EQUAL:
                    break
        return best

    def _match_if_alike(self, index: int, partner: int) -> bool:
        alike = self._likeness(index, partner) > ALIKE
        if alike:
            self.partners[index] = partner
        return alike

    def _likeness(self, index: int, partner: int) -> float:
        mine, other = self._old.identities[index], self._new.identities[partner]
        if mine is not None and (other is not None or mine in self._new_ids):
            return 0.0
        if other is not None and other in self._old_ids:
            return 0.0
        if self._likenesses_left <= 0:
            return 0.0
        self._likenesses_left -= 1
        return likeness(self._old.values[index], self._new.values[partner])

    def _match_best(self, block: Block) -> None:
        """Match the ascending pairs of a small block with the highest total similarity."""
        start, new_start, height, width = block.start, block.new_start, block.height, block.width
        found = [
            [self._likeness(start + row, new_start + column) for column in range(width)]
            for row in range(height)
        ]
        best = [[0.0] * (width + 1) for _ in range(height + 1)]
        for row in reversed(range(height)):
            for column in reversed(range(width)):
                score = found[row][column]
                skipped = max(best[row + 1][column], best[row][column + 1])
                matched = best[row + 1][column + 1] + score if score > ALIKE else 0.0
                best[row][column] = max(skipped, matched)
        row = column = 0
        while row < height and column < width:
            score = found[row][column]
            if score > ALIKE and best[row][column] == best[row + 1][column + 1] + score:
                self.partners[start + row] = new_start + column
                row, column = row + 1, column + 1
            elif best[row][column] == best[row][column + 1]:
                column += 1
            else:
                row += 1


def _blocks_between(pairs: Pairs, block: Block) -> Iterator[Block]:
    """Yield the parts of *block* in front of each pair that have entries on both sides."""
    start, new_start = block.start, block.new_start
    for index, partner in pairs:
        if start < index and new_start < partner:
            yield Block(start, index, new_start, partner)
        start, new_start = index + 1, partner + 1
