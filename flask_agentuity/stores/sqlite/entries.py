"""One key of a thread inside a write: its row, and its segments."""

from __future__ import annotations

from ...document import codec
from . import schema
from .list_rows import ListRows
from .seen import EntryRow, Segment, TailRow
from .segmented_list import SegmentedList
from .statements import Statements
from .steps import Value

_INSERT = (
    "INSERT INTO thread_entries (thread, key, kind, nulls, value, assigned)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_UPDATE = "UPDATE thread_entries SET kind = ?, nulls = ?, value = ?, assigned = ? WHERE number = ?"
_UPDATE_VALUE = "UPDATE thread_entries SET value = ? WHERE number = ?"
_UPDATE_NULLS = "UPDATE thread_entries SET nulls = 1 WHERE number = ?"
_DELETE = "DELETE FROM thread_entries WHERE number = ?"
_IS_BODY = "SELECT 1 FROM segments WHERE number BETWEEN ? AND ? AND CAST(body AS BLOB) = ?"


class Entry:
    """The value at one key. It is in the row, in one segment, or a list."""

    __slots__ = (
        "_epoch",
        "_large",
        "_statements",
        "_thread_id",
        "assigned",
        "items",
        "key",
        "kind",
        "nulls",
        "number",
        "value",
    )

    def __init__(
        self,
        statements: Statements,
        thread_id: str,
        epoch: int,
        row: EntryRow,
        tail: TailRow | None = None,
    ) -> None:
        """Open an entry; *tail* is its last segment, if it has one."""
        self.number, self.key, self.kind, self.nulls, self.assigned, self.value = row[:6]
        self._statements = statements
        self._thread_id = thread_id
        self._epoch = epoch
        #: The segments of a list.
        self.items: SegmentedList | None = None
        self._large: Segment | None = None
        found: Segment | None = None
        before: int | None = 0
        if tail is not None:
            number, items, size, counted, counted_at, body, _, _ = tail
            found = Segment(number, items, size, body)
            before = counted if counted_at == epoch else None
        if self.kind == schema.LIST:
            rows = ListRows(statements, thread_id, self.number, epoch)
            self.items = SegmentedList(rows, thread_id, found, before)
        else:
            self._large = found

    @classmethod
    def create(
        cls,
        statements: Statements,
        thread: tuple[str, int, int],
        key: str,
        value: Value,
        assigned: int,
    ) -> Entry:
        """Insert an entry; *thread* has the id of the thread, its number and its epoch."""
        thread_id, thread_number, epoch = thread
        number = statements.insert(
            _INSERT, (thread_number, key, value.kind, value.nulls, value.inline, assigned)
        )
        row = number, key, value.kind, int(value.nulls), assigned, value.inline
        entry = cls(statements, thread_id, epoch, row)
        entry._fill(value)
        return entry

    @property
    def row(self) -> EntryRow:
        """The row as it is stored now."""
        return self.number, self.key, self.kind, self.nulls, self.assigned, self.value

    def seen(self) -> TailRow | None:
        """Return what a later write of the same request may use about the segments."""
        items = self.items
        tail = self._large if items is None else items.tail
        if tail is None:
            return None
        before = 0 if items is None else items.before
        row = tail.number, tail.items, tail.size, before, self._epoch, tail.body
        return *row, self.kind, int(self.nulls)

    def measure(self) -> int:
        """Return the length of the encoded value."""
        if self.items is not None:
            return self.items.measure()
        if self._large is not None:
            return self._large.size
        return len(self.value or b"")

    def encode(self) -> bytes:
        """Return the encoded value."""
        if self.items is not None:
            return self.items.encode()
        if self._large is not None:
            if self._large.body is None:
                body = ListRows(self._statements, self._thread_id, self.number, 0).encode()
                self._large.body = body[1:-1]
            return self._large.body
        return self.value or b""

    def equals(self, value: bytes) -> bool:
        """Return whether the encoded value is *value*."""
        if self._large is None or self._large.body is not None:
            return self.encode() == value
        arguments = (*schema.segment_range(self.number), value)
        return any(self._statements.select(_IS_BODY, arguments))

    def assign(self, value: Value, assigned: int) -> None:
        """Replace the value."""
        self._erase_segments()
        self.kind, self.nulls, self.assigned = value.kind, value.nulls, assigned
        self._statements.run(
            _UPDATE, (value.kind, value.nulls, value.inline, assigned, self.number)
        )
        self._fill(value)

    def assign_inline(self, value: bytes) -> None:
        """Replace a short value by another that holds no null."""
        self._statements.run(_UPDATE_VALUE, (value, self.number))
        self.value = value

    def note_nulls(self) -> None:
        """Record that the value may hold a null from now on."""
        if not self.nulls:
            self._statements.run(_UPDATE_NULLS, (self.number,))
            self.nulls = 1

    def erase(self) -> None:
        """Remove the entry."""
        self._erase_segments()
        self._statements.run(_DELETE, (self.number,))

    def _erase_segments(self) -> None:
        if self.items is not None:
            self.items.erase()
        elif self._large is not None:
            ListRows(self._statements, self._thread_id, self.number, 0).erase_all()

    def _fill(self, value: Value) -> None:
        self.value, self.items, self._large = value.inline, None, None
        if value.kind == schema.LIST:
            rows = ListRows(self._statements, self._thread_id, self.number, self._epoch)
            self.items = SegmentedList(rows, self._thread_id)
            if value.segments:
                self.items.append_packed(value.segments)
                self.items.take_growth()
        elif value.kind == schema.LARGE:
            ((_, body),) = value.segments
            number, _ = schema.segment_range(self.number)
            self._large = Segment(number, 1, len(body), body)
            ListRows(self._statements, self._thread_id, self.number, 0).insert(self._large, None)


def entry_size(entry: Entry) -> int:
    """Return the size of an entry in the document, in bytes."""
    return codec.entry_size(codec.encode_key(entry.key), entry.measure())
