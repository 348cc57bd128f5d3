"""Replacing some segments of a list by other rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .list_rows import ListRows
from .regions import Part, Region
from .seen import Segment


class Replacement:
    """Regions of a list that get other items. Old rows are removed at once; write() does the rest.

    ``payload`` is by how many bytes the items grow, each with a comma, ``items`` by how many
    they become more. ``tail`` is the last segment of the list afterwards, with its new items.
    """

    __slots__ = ("_part", "_regions", "_rows", "items", "payload", "tail")

    def __init__(
        self, rows: ListRows, part: Part, regions: Sequence[Region], tail: Segment
    ) -> None:
        """*tail* is the last segment of the list before."""
        self._rows = rows
        self._part = part
        self._regions = regions
        self.payload = self.items = 0
        is_last = part.segments[regions[-1].last] is tail
        for region in regions:
            old = region.old
            self.payload += sum(map(len, region.items)) + len(region.items)
            self.payload -= sum(row.size + 1 for row in old)
            self.items += len(region.items) - sum(row.items for row in old)
            region.arrange(is_last=is_last and region is regions[-1])
        has_room = self._find_numbers(is_last=is_last)
        self.tail = self._last() if is_last else tail
        for region in regions:
            if region.dropped:
                rows.erase(region.dropped[0].number, region.dropped[-1].number)
        if not has_room:
            self._renumber()

    def write(self, before: Callable[[Segment], int | None]) -> None:
        """Write what has changed; *before* says how many items come before a segment."""
        for region in self._regions:
            for row in region.changed:
                self._rows.update(row, before(row))
            for row in region.new:
                self._rows.insert(row, before(row))

    def _find_numbers(self, *, is_last: bool) -> bool:
        """Give new rows numbers; False if one region has no room for its new rows."""
        segments = self._part.segments
        for region in self._regions:
            if not region.new:
                continue
            following = None
            if region.last + 1 < len(segments):
                following = segments[region.last + 1].number
            elif not is_last:
                following = self._rows.next_number(segments[-1].number)
            if not region.find_numbers(self._rows.range, following):
                return False
        return True

    def _last(self) -> Segment | None:
        """Return the last segment of the list, whose end is that of the part."""
        part, index = self._part, len(self._part.segments) - 1
        for region in reversed(self._regions):
            if region.last < index:
                break
            if rows := region.rows:
                return rows[-1]
            index = region.first - 1
        if index >= 0:
            return part.segments[index]
        return None if part.from_start else self._rows.previous(part.segments[0].number)

    def _renumber(self) -> None:
        segments, tail = self._part.segments, self.tail
        first, last = segments[0].number, segments[-1].number
        stored = [tail if tail and row.number == tail.number else row for row in self._rows.walk()]
        rows = [row for row in stored if row.number < first]
        index = 0
        for region in self._regions:
            rows += segments[index : region.first] + region.rows
            index = region.last + 1
        rows += segments[index:]
        self._rows.renumber(rows + [row for row in stored if row.number > last])
