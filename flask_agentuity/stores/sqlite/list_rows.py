"""The rows of one list: its segments in the file, found and changed by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...document import codec
from ...errors import StoreError
from . import packing, schema
from .regions import Part
from .seen import Segment
from .statements import Statements

_INSERT = "INSERT INTO segments (number, items, body, items_before, epoch) VALUES (?, ?, ?, ?, ?)"
#: Writes a segment again.
UPDATE = "UPDATE segments SET items = ?, body = ?, items_before = ?, epoch = ? WHERE number = ?"
_MOVE = "UPDATE segments SET number = ? WHERE number = ?"
_ERASE = "DELETE FROM segments WHERE number BETWEEN ? AND ?"

_OF_LIST = "FROM segments WHERE number BETWEEN ? AND ?"
_WALK = f"SELECT number, items, length(body) {_OF_LIST} ORDER BY number"
_PREVIOUS = f"SELECT number, items, length(body) {_OF_LIST} ORDER BY number DESC LIMIT 1"
_NEXT = f"SELECT min(number) {_OF_LIST}"
_COUNT = f"SELECT coalesce(sum(items), 0) {_OF_LIST}"
_SIZE = f"SELECT count(*), coalesce(sum(length(body)), 0) {_OF_LIST}"
_BODIES = f"SELECT CAST(body AS BLOB) {_OF_LIST} ORDER BY number"
_SEARCH = f"SELECT CAST(body AS BLOB) {_OF_LIST} AND instr(CAST(body AS BLOB), ?)"


class ListRows:
    """The segments of one entry."""

    __slots__ = ("_range", "_statements", "_thread_id", "epoch")

    def __init__(self, statements: Statements, thread_id: str, entry: int, epoch: int) -> None:
        self._statements = statements
        self._thread_id = thread_id
        self._range = schema.segment_range(entry)
        self.epoch = epoch

    @property
    def range(self) -> tuple[int, int]:
        """The first and the last number that a segment can have."""
        return self._range

    def insert(self, row: Segment, before: int | None) -> None:
        """Insert a segment. *before* is needed for the last one: the number of items before it."""
        self._statements.run(_INSERT, (row.number, row.items, row.body, before, self.epoch))

    def update(self, row: Segment, before: int | None) -> None:
        """Write a segment again, with its body."""
        self._statements.run(UPDATE, (row.items, row.body, before, self.epoch, row.number))

    def erase(self, first: int, last: int) -> None:
        """Remove the segments with these numbers and those between."""
        self._statements.run(_ERASE, (first, last))

    def erase_all(self) -> None:
        """Remove all segments."""
        self.erase(*self._range)

    def walk(self) -> Iterator[Segment]:
        """Return the segments in order."""
        return (Segment(*row) for row in self._statements.select(_WALK, self._range))

    def part(self, start: int, stop: int) -> Part | None:
        """Return the segments that have the items from *start* to before *stop*, if all exist."""
        segments: list[Segment] = []
        firsts: list[int] = []
        first = 0
        for number, items, size in self._statements.select(_WALK, self._range):
            if start < first + items:
                segments.append(Segment(number, items, size))
                firsts.append(first)
            first += items
            if stop <= first:
                return Part(segments, firsts, from_start=firsts[0] == 0)
        return None

    def previous(self, number: int) -> Segment | None:
        """Return the segment before *number*."""
        for row in self._statements.select(_PREVIOUS, (self._range[0], number - 1)):
            return Segment(*row)
        return None

    def next_number(self, number: int) -> int | None:
        """Return the number of the segment after *number*."""
        ((found,),) = self._statements.select(_NEXT, (number + 1, self._range[1]))
        return found  # type: ignore[no-any-return]

    def count_before(self, number: int) -> int:
        """Return how many items the segments before *number* have."""
        ((count,),) = self._statements.select(_COUNT, (self._range[0], number - 1))
        return int(count)

    def measure(self) -> int:
        """Return the length of the encoded list."""
        ((count, total),) = self._statements.select(_SIZE, self._range)
        return int(total + 2 + max(0, count - 1))

    def encode(self) -> bytes:
        """Return the encoded list."""
        return codec.join_list(body for (body,) in self._statements.select(_BODIES, self._range))

    def load(self, rows: Sequence[Segment]) -> None:
        """Fetch the bodies of segments that follow each other."""
        if any(row.body is None for row in rows):
            ends = (rows[0].number, rows[-1].number)
            for row, (body,) in zip(rows, self._statements.select(_BODIES, ends), strict=True):
                row.body = body

    def items_of(self, rows: Sequence[Segment]) -> list[bytes]:
        """Return the items of segments that follow each other."""
        self.load(rows)
        items: list[bytes] = []
        for row in rows:
            assert row.body is not None
            items += [row.body] if row.items == 1 else self._items(row.body)
        if len(items) != sum(row.items for row in rows):
            raise codec.damaged(self._thread_id, "a list has a wrong number of items")
        return items

    def bodies_with(self, searched: bytes) -> Iterator[bytes]:
        """Return the bodies of the segments in which the text *searched* occurs."""
        found = self._statements.select(_SEARCH, (*self._range, searched))
        return (body for (body,) in found)

    def renumber(self, rows: Sequence[Segment]) -> None:
        """Give all segments of the list new numbers; those with the number 0 are not stored yet."""
        numbers = packing.renumbered(*self._range, len(rows))
        if numbers is None:
            raise StoreError(f"A list of thread {self._thread_id} has too many items to be stored.")
        moves = [
            (number, row.number) for number, row in zip(numbers, rows, strict=True) if row.number
        ]
        # In this order no number is taken before the segment that had it has moved.
        down = [move for move in moves if move[0] < move[1]]
        up = [move for move in moves if move[0] > move[1]]
        for move in (*down, *reversed(up)):
            self._statements.run(_MOVE, move)
        for number, row in zip(numbers, rows, strict=True):
            row.number = number

    def _items(self, body: bytes) -> list[bytes]:
        try:
            return codec.items_of(b"[%b]" % body)
        except ValueError as error:
            raise codec.damaged(self._thread_id, str(error)) from None
