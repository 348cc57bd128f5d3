"""Combining two versions of a list, item by item. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from . import codec
from .alignment import Identity, Items, identity
from .subsequences import NONE

Path = tuple[object, ...]
_GONE: Final = object()


class Reports(Protocol):
    """Merges single values, and records the changes that were given up."""

    def drop(self, path: Path) -> None: ...

    def override(self, path: Path) -> None: ...

    def both(
        self, path: Path, base: Any, mine: Any, theirs: Any
    ) -> Generator[tuple[Path, Any, Any, Any], Any, Any]: ...


@dataclass(frozen=True, slots=True)
class Partners:
    """For each item of base its index in my and in their list, ascending, or NONE."""

    mine: list[int]
    theirs: list[int]

    def in_place(self) -> int:
        """Return how many items at the beginning have the same index in all lists."""
        pairs = enumerate(zip(self.mine, self.theirs, strict=True))
        moved = (index for index, (mine, theirs) in pairs if not index == mine == theirs)
        return next(moved, len(self.mine))

    def without(self, count: int) -> Partners:
        """Return the partners of the items behind the first *count*, which are in place."""
        return Partners(
            *(
                [each if each == NONE else each - count for each in side[count:]]
                for side in (self.mine, self.theirs)
            )
        )


class _Side:
    """One version of the list, seen from its base.

    ``at`` is the index of each item of base, ``origin`` the index in base of each item, both
    NONE where there is none. ``moved`` are the items of base that are elsewhere, known by
    their ids. ``gaps`` are the items that were inserted or moved, by the index of the item of
    base in front of which they belong: the first one of those that they replace.
    """

    def __init__(self, base: Items, items: Items, partners: list[int]) -> None:
        self.items = items
        self.at = list(partners)
        self.origin = [NONE] * len(items)
        self.moved: set[int] = set()
        self.gaps: dict[int, list[int]] = {}
        self.inserted: dict[Identity, int] = {}
        for index, partner in enumerate(partners):
            if partner != NONE:
                self.origin[partner] = index
        homeless = {
            each: index
            for index, each in enumerate(base.identities)
            if each is not None and partners[index] == NONE
        }
        gap = 0
        for index, each in enumerate(items.identities):
            if self.origin[index] != NONE:
                gap = self.origin[index] + 1
                continue
            self.gaps.setdefault(gap, []).append(index)
            if each in homeless:
                self.moved.add(homeless[each])
                self.at[homeless[each]], self.origin[index] = index, homeless[each]
            elif each is not None:
                self.inserted[each] = index


class Weaving:
    """A merge of two lists: the items of base in their order, and between them the new ones.

    *unchanged* are the items in front that are the same in all versions; the others do not
    have them. If both insert at the same place, theirs come first. An item with an id occurs once.
    Afterwards ``values`` is the merged list, and ``places`` has for each item of mine its index in
    there, None for one that is gone.
    """

    def __init__(
        self,
        reports: Reports,
        path: Path,
        unchanged: Sequence[Any],
        base: Items,
        mine: Items,
        theirs: Items,
        partners: Partners,
        ambiguous: set[Identity],
    ) -> None:
        self.values = list(unchanged)
        # For each value behind those: its index in mine or in theirs if only that has it.
        self._inserted_by_me: list[int] = [NONE] * len(unchanged)
        self._inserted_by_them: list[int] = [NONE] * len(unchanged)
        self.places: list[int | None] = [*range(len(unchanged)), *[None] * len(mine)]
        self._before = len(unchanged)
        self._reports = reports
        self._path = path
        self._base = base
        self._mine = _Side(base, mine, partners.mine)
        self._theirs = _Side(base, theirs, partners.theirs)
        self._ambiguous = ambiguous
        self._seen: set[Identity] = set()

    def steps(self) -> Generator[tuple[Path, Any, Any, Any], Any, list[Any]]:
        """Merge, and yield the merges of values that both have changed."""
        outcomes: list[Any] = []
        for index in range(len(self._base)):
            outcomes.append((yield from self._outcome(index)))
        twins = yield from self._twins()
        moved = self._mine.moved | self._theirs.moved
        for gap in range(len(self._base) + 1):
            self._weave_gap(gap, outcomes, twins)
            if gap < len(self._base) and gap not in moved:
                self._add(outcomes[gap], self._mine.at[gap], self._theirs.at[gap])
        self._remove_doubled()
        return self.values

    def _outcome(self, index: int) -> Generator[tuple[Path, Any, Any, Any], Any, Any]:
        """Return the result for an item of base."""
        mine, theirs = self._mine, self._theirs
        at, other = mine.at[index], theirs.at[index]
        before = self._base.encoded[index]
        if at == NONE:
            if other != NONE and theirs.items.encoded[other] != before:
                self._reports.override(self._path_of(other))
            return _GONE
        if other == NONE:
            if mine.items.encoded[at] != before:
                self._reports.drop(self._path_of(at))
            return _GONE
        if mine.items.encoded[at] == before:
            return theirs.items.values[other]
        if theirs.items.encoded[other] == before:
            return mine.items.values[at]
        return (
            yield from self._reports.both(
                self._path_of(at),
                self._base.values[index],
                mine.items.values[at],
                theirs.items.values[other],
            )
        )

    def _twins(self) -> Generator[tuple[Path, Any, Any, Any], Any, dict[int, Any]]:
        """Return the items that both have inserted with the same id, merged, by their index."""
        twins: dict[int, Any] = {}
        for each, index in self._theirs.inserted.items():
            at = self._mine.inserted.get(each)
            if at is not None:
                mine, theirs = self._mine.items.values[at], self._theirs.items.values[index]
                # What is equal in both was made once, however often it was inserted.
                shared = {
                    name: value
                    for name, value in mine.items()
                    if name in theirs and codec.is_same(value, theirs[name])
                }
                path = self._path_of(at)
                twins[index] = yield from self._reports.both(path, shared, mine, theirs)
        return twins

    def _weave_gap(self, gap: int, outcomes: list[Any], twins: dict[int, Any]) -> None:
        mine, theirs = self._mine, self._theirs
        for index in theirs.gaps.get(gap, ()):
            origin = theirs.origin[index]
            if index in twins:
                each = theirs.items.identities[index]
                assert each is not None
                self._add(twins[index], mine.inserted[each], index)
            elif origin == NONE:
                self._add(theirs.items.values[index], NONE, index)
            elif origin not in mine.moved:
                self._add(outcomes[origin], mine.at[origin], index)
        for index in mine.gaps.get(gap, ()):
            origin = mine.origin[index]
            if origin != NONE:
                self._add(outcomes[origin], index, theirs.at[origin])
            elif mine.items.identities[index] not in theirs.inserted:
                self._add(mine.items.values[index], index, NONE)

    def _add(self, value: Any, mine: int, theirs: int) -> None:
        if value is _GONE:
            return
        each = identity(value)
        if each is not None and each not in self._ambiguous:
            if each in self._seen:
                # One of us gave the id to an item that was there, the other one to a new one.
                if mine != NONE:
                    self._reports.drop(self._path_of(mine))
                if theirs != NONE:
                    self._reports.override(self._path_of(theirs))
                return
            self._seen.add(each)
        if mine != NONE:
            self.places[self._before + mine] = len(self.values)
        self.values.append(value)
        self._inserted_by_me.append(mine if self._is_new(self._mine, mine) else NONE)
        self._inserted_by_them.append(theirs if self._is_new(self._theirs, theirs) else NONE)

    def _is_new(self, side: _Side, index: int) -> bool:
        return index != NONE and side.origin[index] == NONE and side.items.identities[index] is None

    def _remove_doubled(self) -> None:
        """Remove items without an id that both sides have moved, or one has moved and one removed.

        Such an item was taken away and put in elsewhere, which is all that a move of an item
        without an id looks like.
        """
        mine, theirs = self._moves(self._mine), self._moves(self._theirs)
        surplus: Counter[bytes] = Counter()
        for each in mine.keys() | theirs.keys():
            moved, removed = mine.get(each, (0, 0))
            moved_by_them, removed_by_them = theirs.get(each, (0, 0))
            both = min(moved, moved_by_them)
            surplus[each] = (
                both + min(moved - both, removed_by_them) + min(moved_by_them - both, removed)
            )
        if not +surplus:
            return
        # Of equal items there stay as many as base has, and what either side has more or less.
        there = Counter(codec.encode_each(self.values[self._before :]))
        for items, sign in ((self._mine.items, -1), (self._theirs.items, -1), (self._base, 1)):
            for each in items.encoded:
                there[each] += sign
        for each in surplus:
            surplus[each] = min(surplus[each], there[each])
        gone: set[int] = set()
        sides = (
            (self._inserted_by_me, self._mine.items.encoded),
            (self._inserted_by_them, self._theirs.items.encoded),
        )
        for inserted, encoded in sides:
            for index in reversed(range(self._before, len(self.values))):
                if inserted[index] == NONE or index in gone:
                    continue
                if surplus[encoded[inserted[index]]] > 0:
                    surplus[encoded[inserted[index]]] -= 1
                    gone.add(index)
        if gone:
            self._take_away(gone)

    def _moves(self, side: _Side) -> dict[bytes, tuple[int, int]]:
        """Return, for each value, how many items a side has moved and how many only removed."""
        removed = Counter(
            encoded
            for index, encoded in enumerate(self._base.encoded)
            if side.at[index] == NONE and self._base.identities[index] is None
        )
        if not removed:
            return {}
        inserted = Counter(
            encoded
            for index, encoded in enumerate(side.items.encoded)
            if side.origin[index] == NONE and encoded in removed
        )
        moved = {each: min(count, inserted[each]) for each, count in removed.items()}
        return {each: (moved[each], count - moved[each]) for each, count in removed.items()}

    def _take_away(self, gone: set[int]) -> None:
        kept = [index for index in range(len(self.values)) if index not in gone]
        moved = {index: place for place, index in enumerate(kept)}
        twins: dict[bytes, list[int]] = {}
        for index in kept:
            if (there := self._inserted_by_them[index]) != NONE:
                twins.setdefault(self._theirs.items.encoded[there], []).append(moved[index])
        for index, place in enumerate(self.places):
            if place in gone:
                # They have moved an equal item: mine is that one.
                equal = twins.get(self._mine.items.encoded[index - self._before])
                self.places[index] = equal.pop(0) if equal else None
            elif place is not None:
                self.places[index] = moved[place]
        self.values = [self.values[index] for index in kept]

    def _path_of(self, index: int) -> Path:
        return *self._path, self._before + index
