"""One list during a write, kept as segments: appending, splicing, cutting and searching."""

from __future__ import annotations

from collections.abc import Sequence

from ...document import codec
from ...document.operations import Change
from ..segments import pack
from . import packing, schema
from .list_rows import ListRows
from .packing import Packed
from .regions import Part, Region
from .replacement import Replacement
from .seen import Segment
from .unique import UniqueValues


class SegmentedList:
    """The list of one entry. Its last segment is known; others are looked up if needed.

    :param before: the number of items before the last segment, if it is known.
    """

    __slots__ = (
        "_had_items",
        "_payload",
        "_rows",
        "_saved",
        "_thread_id",
        "_unique",
        "before",
        "tail",
    )

    def __init__(
        self,
        rows: ListRows,
        thread_id: str,
        tail: Segment | None = None,
        before: int | None = 0,
    ) -> None:
        self._rows = rows
        self._thread_id = thread_id
        self.tail = tail
        self.before = before
        # The change of the length, counting a comma behind each item.
        self._payload = 0
        self._had_items = tail is not None
        # The number of items before the last segment, as its row says.
        self._saved = (tail, before) if tail else None
        self._unique = UniqueValues()

    @property
    def miscounted(self) -> bool:
        """Whether the last segment's row does not say how many items come before it now."""
        saved = self._saved
        if self.tail is None:
            return False
        return saved is None or saved[0] is not self.tail or saved[1] != self.before

    def total(self) -> int:
        """Return the number of items."""
        if self.tail is None:
            return 0
        if self.before is None:
            self.before = self._rows.count_before(self.tail.number)
            self._saved = self.tail, self.before
        return self.before + self.tail.items

    def take_growth(self) -> int:
        """Return by how many bytes the encoded list has grown since the last call."""
        has_items = self.tail is not None
        growth = self._payload + self._had_items - has_items
        self._payload, self._had_items = 0, has_items
        return growth

    def measure(self) -> int:
        """Return the length of the encoded list."""
        return 2 if self.tail is None else self._rows.measure()

    def encode(self) -> bytes:
        """Return the encoded list."""
        return self._rows.encode()

    def erase(self) -> None:
        """Remove all segments."""
        self._rows.erase_all()

    def push(self, items: Sequence[bytes], max_records: int | None, keep_first: int) -> None:
        """Append *items*, and keep the first *keep_first* and the last, *max_records* together."""
        if max_records is not None:
            limit, total = max(0, max_records), self.total()
            excess = total + len(items) - limit
            if excess > 0:
                first = min(max(0, keep_first), limit)
                # The old items go first, so that the last segment is written once.
                self.remove(min(first, total), min(first + excess, total))
                kept = items[max(0, first + excess - total) :]
                items = [*items[: max(0, first - total)], *kept]
        if items:
            self.append(items)

    def append(self, items: Sequence[bytes]) -> None:
        """Append *items*, of which there is at least one."""
        self._unique.add(items)
        tail, fitting = self.tail, 0
        if tail is not None:
            size = tail.size
            for item in items:
                if size + len(item) + 1 > schema.SEGMENT_BYTES:
                    break
                size += len(item) + 1
                fitting += 1
            if fitting:
                self._payload += size - tail.size
                tail.items += fitting
                tail.size = size
                self._rows.load([tail])
                tail.body = b",".join((tail.body or b"", *items[:fitting]))
                self._rows.update(tail, self._before(tail))
        if fitting < len(items):
            self.append_packed(pack(items[fitting:], b",", schema.SEGMENT_BYTES))

    def append_packed(self, packed: Sequence[Packed]) -> None:
        """Append segments, of which there is at least one."""
        start, end = self._rows.range
        tail, before = self.tail, self.before
        last = start + schema.FIRST_SEGMENT - schema.STRIDE if tail is None else tail.number
        rows = [Segment(0, count, len(body), body) for count, body in packed]
        numbers = packing.numbers_after(last, end, len(rows))
        if numbers is None:
            self._rows.renumber([*self._rows.walk(), *rows])
        else:
            for row, number in zip(rows, numbers, strict=True):
                row.number = number
        if tail is not None and before is None:
            # The new row says how many items come before it; the old one no longer counts.
            before = self.total() - tail.items
        if before is not None:
            before += (tail.items if tail else 0) + sum(row.items for row in rows[:-1])
        self._payload += sum(row.size + 1 for row in rows)
        self.tail, self.before = rows[-1], before
        for row in rows:
            self._rows.insert(row, self._before(row))

    def pop_last(self) -> None:
        """Remove the last item, if there is one."""
        if (tail := self.tail) is not None:
            part = Part([tail], [0], from_start=self.before == 0)
            self._cut(part, tail.items - 1, tail.items)

    def truncate(self, keep: int) -> None:
        """Keep the first *keep* items."""
        self.remove(max(0, keep), self.total())

    def remove(self, start: int, stop: int) -> None:
        """Remove the items from *start* to before *stop*, which are there."""
        if start < stop:
            part = self._part(start, stop)
            if part is None:
                raise codec.damaged(self._thread_id, "a list has a wrong number of items")
            self._cut(part, start, stop)

    def splice(self, changes: Sequence[Change]) -> bool:
        """Make *changes*; False, and nothing changed, if other items are at a place."""
        if not changes or (len(changes) == 1 and self._splice_end(changes[0])):
            return True
        last = changes[-1]
        part = self._part(changes[0].place, last.place + len(last.gone))
        if part is None:
            return False
        regions = part.regions(changes)
        for region in regions:
            region.items = self._rows.items_of(region.old)
            if not region.apply_changes():
                return False
        self._replace(part, regions)
        return True

    def _splice_end(self, change: Change) -> bool:
        """Make a change of the last items, if that is possible without cutting them apart."""
        tail, count = self.tail, len(change.gone)
        if tail is None or tail.body is None or self.before is None:
            return False
        kept = tail.items - count
        if kept < 1 or change.place != self.before + kept:
            return False
        # Bytes are enough: in JSON, what follows a comma and is a list of values itself cannot
        # begin within a string or an object.
        gone = b"," + b",".join(change.gone)
        size = tail.size - len(gone) + sum(map(len, change.new)) + len(change.new)
        if size > schema.FULL_BYTES or not tail.body.endswith(gone):
            return False
        self._unique.forget()
        self._payload += size - tail.size
        tail.items = kept + len(change.new)
        tail.size = size
        tail.body = b",".join((tail.body[: -len(gone)], *change.new))
        self._rows.update(tail, self._before(tail))
        return True

    def has(self, field: str, value: bytes) -> bool:
        """Return whether an item is an object whose *field* has the encoded *value*."""
        try:
            return self._unique.has(field, value, self._search, self.encode)
        except ValueError as error:
            raise codec.damaged(self._thread_id, str(error)) from None

    def _search(self, field: str, value: bytes) -> bool:
        # The text may also be deeper inside an item, or within a string.
        searched = b"%b:%b" % (codec.encode_key(field), value)
        return any(
            isinstance(item, dict)
            and field in item
            and codec.encode_unchecked(item[field]) == value
            for body in self._rows.bodies_with(searched)
            for item in codec.decode(b"[%b]" % body)
        )

    def _part(self, start: int, stop: int) -> Part | None:
        """Return the segments with the items *start* to *stop*; None if there are fewer items."""
        tail, before = self.tail, self.before
        if tail is None or start < 0:
            return None
        if before is not None and start >= before:
            part = Part([tail], [before], from_start=before == 0)
            return part if stop <= before + tail.items else None
        found = self._rows.part(start, stop)
        if found is not None and found.segments[-1].number == tail.number:
            found.segments[-1] = tail
            if before is None:
                self.before = found.firsts[-1]
                self._saved = tail, self.before
        return found

    def _cut(self, part: Part, start: int, stop: int) -> None:
        region = part.region(start, stop)
        old, offset = region.old, part.firsts[region.first]
        behind = part.firsts[region.last] + old[-1].items - stop
        # Segments that are removed completely are not fetched.
        if start > offset:
            region.items = self._rows.items_of(old[:1])[: start - offset]
        if behind:
            region.items += self._rows.items_of(old[-1:])[-behind:]
        self._replace(part, [region])

    def _replace(self, part: Part, regions: Sequence[Region]) -> None:
        self._unique.forget()
        tail = self.tail
        assert tail is not None
        total = None if self.before is None else self.before + tail.items
        replacement = Replacement(self._rows, part, regions, tail)
        self._payload += replacement.payload
        self.tail = replacement.tail
        if self.tail is None:
            self.before = 0
        elif total is not None:
            self.before = total + replacement.items - self.tail.items
        replacement.write(self._before)

    def _before(self, row: Segment) -> int | None:
        """Return the number of items before a segment for its row, and record it."""
        if row is not self.tail:
            return None
        self._saved = row, self.before
        return self.before
