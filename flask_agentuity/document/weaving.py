"""Put two versions of a list together, item by item. Pure functions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from . import codec
from .alignment import Identity, Items, identity
from .subsequences import NONE

Path = tuple[object, ...]
_GONE: Final = object()


class Reports(Protocol):
    """What merges single values, and takes note of what gave way."""

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
        """Return how many items in front have the same index in all lists."""
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
    """A merge of two lists: the items of base in their order, and between them what is new.

    *unchanged* are the items in front that are the same in all versions; the others do not
    have them. What both put at the same place comes in the order theirs, mine. An item with
    an id is there once. Afterwards ``values`` is the merged list, and ``places`` has for each
    item of mine its index in there, None for one that is gone.
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
        """Merge; values that both have changed are asked for."""
        outcomes: list[Any] = []
        for index in range(len(self._base)):
            outcomes.append((yield from self._outcome(index)))
        twins = yield from self._twins()
        moved = self._mine.moved | self._theirs.moved
        for gap in range(len(self._base) + 1):
            self._weave_gap(gap, outcomes, twins)
            if gap < len(self._base) and gap not in moved:
                self._add(outcomes[gap], self._mine.at[gap], self._theirs.at[gap])
        return self.values

    def _outcome(self, index: int) -> Generator[tuple[Path, Any, Any, Any], Any, Any]:
        """Return what becomes of an item of base."""
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

    def _path_of(self, index: int) -> Path:
        return *self._path, self._before + index
