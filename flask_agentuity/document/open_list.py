"""A list to which many operations are applied in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from . import codec
from .operations import Change

#: Items in a block. Removing items changes one block, and passes over the others.
BLOCK = 1024
#: Searches for a field in the encoded list, which cost its length, before it is indexed.
SEARCHES = 8


class OpenList:
    """An encoded list that is cut into items at most once, and only if an operation needs it.

    The items are kept in blocks, so that removing one from a long list does not move the
    others. Appending never cuts.
    """

    __slots__ = ("_blocks", "_indexes", "_length", "_searches", "_uncut")

    def __init__(self, encoded: bytes) -> None:
        # The items that the list began with, joined by commas, until they are cut.
        self._uncut = encoded[1:-1]
        self._blocks: list[list[bytes]] = []
        self._length = 0
        # For each field that was searched often, how many items have each value.
        self._indexes: dict[str, Counter[bytes]] = {}
        self._searches = 0

    def __len__(self) -> int:
        self._cut()
        return self._length

    def encode(self) -> bytes:
        """Return the encoded list."""
        runs = [self._uncut] if self._uncut else []
        for block in self._blocks:
            runs.extend(block)
        return codec.join_list(runs)

    def append(self, item: bytes) -> None:
        """Add one item behind the last."""
        if not self._blocks or len(self._blocks[-1]) >= BLOCK:
            self._blocks.append([])
        self._blocks[-1].append(item)
        self._length += 1
        self._count([item], 1)

    def pop(self) -> None:
        """Remove the last item, if there is one."""
        if not self._blocks:
            self._cut()
        if self._length:
            self._count([self._blocks[-1].pop()], -1)
            self._length -= 1
            if not self._blocks[-1]:
                self._blocks.pop()

    def keep(self, max_records: int, keep_first: int = 0) -> None:
        """Keep the first *keep_first* items and the last ones, *max_records* together."""
        limit = max(0, max_records)
        excess = len(self) - limit
        if excess > 0:
            first = min(max(0, keep_first), limit)
            self.replace(first, first + excess, ())

    def truncate(self, keep: int) -> None:
        """Keep the first *keep* items."""
        self.replace(max(0, keep), len(self), ())

    def splice(self, changes: Sequence[Change]) -> bool:
        """Make *changes*; False, and nothing changed, if not all the items to go are there."""
        for change in changes:
            stop = change.place + len(change.gone)
            if change.place < 0 or self._slice(change.place, stop) != list(change.gone):
                return False
        for change in reversed(changes):
            self.replace(change.place, change.place + len(change.gone), change.new)
        return True

    def replace(self, start: int, stop: int, new: Sequence[bytes]) -> None:
        """Replace the items from *start* to before *stop* by *new*."""
        removed = self._slice(start, stop)
        first, before = self._find(start)
        last, after = self._find(start + len(removed))
        touched = [*self._blocks[first][:before]] if before else []
        touched += new
        if after:
            touched += self._blocks[last][after:]
            last += 1
        self._blocks[first:last] = [touched] if 0 < len(touched) <= 2 * BLOCK else _blocks(touched)
        self._length += len(new) - len(removed)
        self._count(removed, -1)
        self._count(new, 1)

    def has(self, field: str, item: bytes) -> bool:
        """Return whether an item is an object whose *field* has the same value as in *item*.

        An *item* without the field equals no other.
        """
        value = _field(item, field)
        if value is None:
            return False
        if field not in self._indexes:
            if self._searches < SEARCHES and not self._may_have(field, value):
                self._searches += 1
                return False
            self._cut()
            counts = Counter(_field(each, field) for block in self._blocks for each in block)
            self._indexes[field] = Counter({key: n for key, n in counts.items() if key is not None})
        return self._indexes[field][value] > 0

    def _may_have(self, field: str, value: bytes) -> bool:
        # The text may also stand deeper inside an item, or within a string.
        searched = b"%b:%b" % (codec.encode_key(field), value)
        return searched in self._uncut or any(
            searched in item for block in self._blocks for item in block
        )

    def _count(self, items: Sequence[bytes], by: int) -> None:
        for field, counts in self._indexes.items():
            for item in items:
                if (value := _field(item, field)) is not None:
                    counts[value] += by

    def _cut(self) -> None:
        if self._uncut:
            items = codec.items_of(b"[%b]" % self._uncut)
            self._uncut = b""
            self._blocks[:0] = _blocks(items)
            self._length += len(items)

    def _find(self, place: int) -> tuple[int, int]:
        """Return the block of the item at *place*, and the place within the block."""
        for index, block in enumerate(self._blocks):
            if place < len(block):
                return index, place
            place -= len(block)
        return len(self._blocks), 0

    def _slice(self, start: int, stop: int) -> list[bytes]:
        self._cut()
        index, offset = self._find(start)
        found: list[bytes] = []
        while index < len(self._blocks) and len(found) < stop - start:
            found += self._blocks[index][offset : offset + stop - start - len(found)]
            index, offset = index + 1, 0
        return found


def _blocks(items: list[bytes]) -> list[list[bytes]]:
    return [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]


def _field(item: bytes, field: str) -> bytes | None:
    if not item.startswith(b"{"):
        return None
    value: dict[str, Any] = codec.decode(item)
    return codec.encode_unchecked(value[field]) if field in value else None
