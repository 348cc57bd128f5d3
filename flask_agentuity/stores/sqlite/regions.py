"""The segments of a list that an edit changes, and the rows that replace them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ...document.operations import Change
from . import packing
from .seen import Segment


class Part:
    """Segments that follow each other, and the index of the first item of each.

    ``from_start`` says whether they begin with the first segment of the list.
    """

    __slots__ = ("firsts", "from_start", "segments")

    def __init__(self, segments: list[Segment], firsts: list[int], *, from_start: bool) -> None:
        self.segments = segments
        self.firsts = firsts
        self.from_start = from_start

    def region(self, start: int, stop: int) -> Region:
        """Return the segments that have the items from *start* to before *stop*."""
        first = bisect_right(self.firsts, start) - 1
        last = bisect_right(self.firsts, stop - 1) - 1
        return Region(self, first, last)

    def regions(self, changes: Sequence[Change]) -> list[Region]:
        """Return the segments that *changes* touch; each segment is in one region at most."""
        regions: list[Region] = []
        for change in changes:
            region = self.region(change.place, change.place + len(change.gone))
            if regions and region.first <= regions[-1].last:
                regions[-1].last = max(regions[-1].last, region.last)
            else:
                regions.append(region)
            regions[-1].changes.append(change)
        return regions


class Region:
    """The segments of a part from *first* to *last*, and their replacement."""

    __slots__ = (
        "changed",
        "changes",
        "dropped",
        "first",
        "items",
        "kept",
        "last",
        "new",
        "part",
        "prepends",
    )

    def __init__(self, part: Part, first: int, last: int) -> None:
        self.part = part
        self.first = first
        self.last = last
        self.changes: list[Change] = []
        #: The items that the region has in the end.
        self.items: list[bytes] = []
        #: Old rows that go, old rows that stay, those of them that change, and new rows.
        self.dropped: list[Segment] = []
        self.kept: list[Segment] = []
        self.changed: list[Segment] = []
        self.new: list[Segment] = []
        #: Whether the new rows come before the old ones.
        self.prepends = False

    @property
    def old(self) -> list[Segment]:
        """The segments as they were."""
        return self.part.segments[self.first : self.last + 1]

    @property
    def rows(self) -> list[Segment]:
        """The segments that replace them, in order."""
        return self.new + self.kept if self.prepends else self.kept + self.new

    def apply_changes(self) -> bool:
        """Make the changes in the items; False if other items are at a place."""
        offset = self.part.firsts[self.first]
        for change in reversed(self.changes):
            start = change.place - offset
            stop = start + len(change.gone)
            if self.items[start:stop] != list(change.gone):
                return False
            self.items[start:stop] = change.new
        return True

    def arrange(self, *, is_last: bool) -> None:
        """Distribute the items over rows, so that few of the old rows change.

        *is_last* says whether the list ends with this region.
        """
        old = self.old
        self.prepends = self.first == 0 and self.part.from_start and not is_last
        packed = self._pack(is_last=is_last) if self.items else []
        staying = min(len(old), len(packed))
        if self.prepends:
            self.dropped, self.kept = old[: len(old) - staying], old[len(old) - staying :]
            added, packed = packed[: len(packed) - staying], packed[len(packed) - staying :]
        else:
            self.dropped, self.kept = old[staying:], old[:staying]
            added, packed = packed[staying:], packed[:staying]
        for row, (count, body) in zip(self.kept, packed, strict=True):
            if row.body != body:
                row.items, row.size, row.body = count, len(body), body
                self.changed.append(row)
        self.new = [Segment(0, count, len(body), body) for count, body in added]

    def find_numbers(self, numbers: tuple[int, int], following: int | None) -> bool:
        """Give the new rows numbers from the range *numbers*; False if there is no room.

        *following* is the number of the segment after the region; None if it is the last.
        """
        start, end = numbers
        if following is None:
            found = packing.numbers_after(self.old[-1].number, end, len(self.new))
        elif self.prepends:
            found = packing.numbers_before(self.old[0].number, start, len(self.new))
        else:
            found = packing.numbers_between(self.old[-1].number, following, len(self.new))
        if found is None:
            return False
        for row, number in zip(self.new, found, strict=True):
            row.number = number
        return True

    def _pack(self, *, is_last: bool) -> list[packing.Packed]:
        if is_last:
            return packing.pack_last(self.items)
        return packing.pack_first(self.items) if self.prepends else packing.pack_inner(self.items)
