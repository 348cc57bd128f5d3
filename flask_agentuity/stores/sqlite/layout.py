"""How a thread lies in the tables of an SQLite file, and how it is read and changed there.

A list is kept as *segments*: rows of a few kilobytes that hold several items each, as
JSON joined by commas. A push rewrites the last segment only, or starts the next one, so
it costs the same at any length; reading joins the segments and decodes once. Everything
that handles JSON is done before the write lock is taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...errors import StoreError
from .. import listing
from ..segments import pack, runs

#: Marks a file as ours (SQLite's application_id): "agth".
APPLICATION_ID = 0x61677468
FORMAT_VERSION = 2

#: A segment's row fills one page of 4,096 bytes, SQLite's default, without overflowing.
SEGMENT_BYTES = 4000
#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1000
#: Segments of one entry are numbered within this many bits below the entry's own number.
SEGMENT_BITS = 24
# More keys than these are not named one by one.
_MOST_NAMED = 100

_INLINE, _LARGE, _LIST = range(3)

SCHEMA = f"""
CREATE TABLE threads (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    used REAL NOT NULL,
    entries_size INTEGER NOT NULL,
    metadata BLOB NOT NULL
);
CREATE INDEX threads_used ON threads (used);
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind INTEGER NOT NULL,
    nulls INTEGER NOT NULL,
    value BLOB,
    UNIQUE (thread, key)
);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    items INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE labels (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    thread INTEGER NOT NULL,
    PRIMARY KEY (key, value, thread)
) WITHOUT ROWID;
CREATE INDEX labels_thread ON labels (thread);
CREATE TABLE turns (
    thread_id TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""

_OF_ENTRY = (
    f"number BETWEEN e.number << {SEGMENT_BITS}"
    f" AND e.number << {SEGMENT_BITS} | {(1 << SEGMENT_BITS) - 1}"
)

# One statement, and so of one moment without a transaction. Joined in SQLite, a long list
# does not come through Python row by row (group_concat keeps its subquery's order); its
# brackets are added in Python, where that copies it once. Somebody who has mended a row by hand
# may have left a text there.
_READ = f"""
SELECT max(t.used, t.updated), CAST(t.metadata AS BLOB), e.number, e.key, e.kind, e.nulls,
  CASE
    WHEN e.kind = {_INLINE} THEN CAST(e.value AS BLOB)
    WHEN {{}} THEN CAST(coalesce(
      (SELECT group_concat(body, ',') FROM
        (SELECT body FROM segments WHERE {_OF_ENTRY} ORDER BY number)), '') AS BLOB)
  END
FROM threads t LEFT JOIN entries e ON e.thread = t.number
WHERE t.id = ?
"""

_OPEN = f"""
SELECT t.number, max(t.used, t.updated), t.used, t.entries_size, CAST(t.metadata AS BLOB),
  e.key, e.number, e.kind, e.nulls, length(e.value), s.number, length(s.body)
FROM threads t
LEFT JOIN entries e ON e.thread = t.number AND {{}}
LEFT JOIN segments s ON e.kind = {_LIST}
  AND s.number = (SELECT max(number) FROM segments WHERE {_OF_ENTRY})
WHERE t.id = ?
"""


@lru_cache(maxsize=2 * _MOST_NAMED)
def _query(template: str, count: int | None) -> str:
    """Return a query that picks the entries of so many keys; None: all of them."""
    return template.format("1" if count is None else f"e.key IN ({', '.join('?' * count)})")


def _named(keys: Collection[str] | None) -> tuple[str, ...] | None:
    """Return *keys* as arguments; None where all entries are picked."""
    return None if keys is None or len(keys) > _MOST_NAMED else tuple(keys)


def read_thread(
    connection: sqlite3.Connection, thread_id: str, keys: Collection[str] | None
) -> tuple[float, Snapshot] | None:
    """Return when a thread was used last, and what is stored; None where there is none.

    Values that are not of *keys* (None: all are wanted) may be left out, never their names.
    """
    named = _named(keys)
    query = _query(_READ, None if named is None else len(named))
    rows = connection.execute(query, (*(named or ()), thread_id)).fetchall()
    if not rows:
        return None
    if len(rows) > 1:
        rows.sort(key=itemgetter(2))
    used, metadata, first, *_ = rows[0]
    if first is None:
        return used, Snapshot({}, metadata)
    return used, Snapshot(
        {
            key: b"[%b]" % value if kind == _LIST and value is not None else value
            for _, _, _, key, kind, _, value in rows
        },
        metadata,
        without_null={key for _, _, _, key, _, nulls, _ in rows if not nulls},
    )


@dataclass(frozen=True, slots=True)
class PushRun:
    """Pushes in a row to one key with one window."""

    key: str
    pushes: Sequence[Push]
    max_records: int | None
    nulls: bool


@dataclass(frozen=True, slots=True)
class SetValue:
    """A set whose value is cut up for its rows."""

    key: str
    only_if_missing: bool
    kind: int
    nulls: bool
    inline: bytes | None
    segments: Sequence[tuple[int, bytes]]
    size: int


Step = PushRun | SetValue | Delete | Clear


def prepare(operations: Sequence[Operation]) -> list[Step]:
    """Do whatever handles JSON, so that nothing of it is left for the time of the lock."""
    return [_prepare(run) for run in runs(operations)]


def _prepare(run: Sequence[Operation]) -> Step:
    match run[0]:
        case Push(key, _, max_records):
            pushes = [push for push in run if isinstance(push, Push)]
            nulls = any(codec.may_hold_null(push.value) for push in pushes)
            return PushRun(key, pushes, max_records, nulls)
        case Set(key, value, only_if_missing):
            size, nulls = len(value), codec.may_hold_null(value)
            if codec.is_list(value):
                rows = pack(codec.items_of(value), b",", SEGMENT_BYTES) if size > 2 else []
                return SetValue(key, only_if_missing, _LIST, nulls, None, rows, size)
            if size > INLINE_BYTES:
                return SetValue(key, only_if_missing, _LARGE, nulls, None, [(0, value)], size)
            return SetValue(key, only_if_missing, _INLINE, nulls, value, [], size)
        case Delete() | Clear() as operation:
            return operation


@dataclass(slots=True)
class _Entry:
    """One key of a thread; a list knows its last segment."""

    number: int
    kind: int
    nulls: int
    inline_size: int | None
    tail: int | None = None
    tail_size: int = 0


class OpenThread:
    """One thread inside a write transaction, with the entries that its steps name."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        thread_id: str,
        number: int,
        entries_size: int = 0,
        metadata: bytes = b"{}",
    ) -> None:
        self._connection = connection
        self._thread_id = thread_id
        self._number = number
        self._entries_size = entries_size
        self._entries: dict[str, _Entry] = {}
        self._stored_metadata = self.metadata = metadata

    @classmethod
    def create(cls, connection: sqlite3.Connection, thread_id: str, now: float) -> OpenThread:
        """Begin a thread that is not stored."""
        number = connection.execute(
            "INSERT INTO threads (id, created, updated, used, entries_size, metadata)"
            " VALUES (?, ?, ?, ?, 0, ?)",
            (thread_id, now, now, now, b"{}"),
        ).lastrowid
        assert number is not None
        return cls(connection, thread_id, number)

    @classmethod
    def find(
        cls, connection: sqlite3.Connection, thread_id: str, steps: Sequence[Step]
    ) -> tuple[OpenThread, float, float] | None:
        """Return a stored thread, when it was used last, and when that was noted; or None."""
        keys = {step.key for step in steps if not isinstance(step, Clear)}
        named = _named(keys)
        query = _query(_OPEN, None if named is None else len(named))
        rows = connection.execute(query, (*(named or ()), thread_id)).fetchall()
        if not rows:
            return None
        number, last_use, noted_use, entries_size, metadata, *_ = rows[0]
        found = cls(connection, thread_id, number, entries_size, metadata)
        for *_, key, entry, kind, nulls, inline_size, tail, tail_size in rows:
            if entry is not None:
                found._entries[key] = _Entry(entry, kind, nulls, inline_size, tail, tail_size or 0)
        return found, last_use, noted_use

    @property
    def size(self) -> int:
        """The size of the document, in bytes."""
        return codec.document_size(self._entries_size, len(self.metadata))

    def apply(self, step: Step) -> Sequence[Push]:
        """Apply *step*; returns the pushes that were skipped."""
        match step:
            case PushRun():
                return self._push(step)
            case SetValue():
                self._set(step)
            case Delete(key):
                self._delete(key)
            case Clear():
                _erase_entries(self._connection, self._number)
                self._entries.clear()
                self._entries_size = 0
        return ()

    def close(self, now: float, *, note_use: bool) -> None:
        """Write the thread's own row, or remove it when nothing is left of the thread.

        :param note_use: whether the time is written to the column that has an index, too,
            which most writes need not touch.
        """
        if not self.size:
            self.erase()
            return
        changes: dict[str, Any] = {"entries_size": self._entries_size, "updated": now}
        if self.metadata != self._stored_metadata:
            changes["metadata"] = self.metadata
            self._erase_labels()
            self._connection.executemany(
                "INSERT INTO labels (key, value, thread) VALUES (?, ?, ?)",
                (
                    (*label, self._number)
                    for label in listing.encode_labels(codec.decode(self.metadata))
                ),
            )
        if note_use:
            changes["used"] = now
        self._connection.execute(
            f"UPDATE threads SET {', '.join(f'{column} = ?' for column in changes)}"
            " WHERE number = ?",
            (*changes.values(), self._number),
        )

    def erase(self) -> None:
        """Remove whatever is stored of the thread."""
        _erase_entries(self._connection, self._number)
        self._erase_labels()
        self._connection.execute("DELETE FROM threads WHERE number = ?", (self._number,))

    def _erase_labels(self) -> None:
        self._connection.execute("DELETE FROM labels WHERE thread = ?", (self._number,))

    def _set(self, step: SetValue) -> None:
        entry = self._entries.get(step.key)
        if entry is None:
            entry = self._insert(step.key, step.kind, step.nulls, step.inline)
            self._entries_size += codec.entry_size(codec.encode_key(step.key), step.size)
        elif step.only_if_missing:
            return
        else:
            self._entries_size += step.size - self._value_size(entry)
            if entry.kind != _INLINE:
                _erase_segments(self._connection, entry.number)
            self._connection.execute(
                "UPDATE entries SET kind = ?, nulls = ?, value = ? WHERE number = ?",
                (step.kind, step.nulls, step.inline, entry.number),
            )
        entry.kind, entry.nulls = step.kind, step.nulls
        entry.inline_size = None if step.inline is None else step.size
        entry.tail = None
        self._insert_segments(entry, step.segments)

    def _delete(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._entries_size -= codec.entry_size(codec.encode_key(key), self._value_size(entry))
        if entry.kind != _INLINE:
            _erase_segments(self._connection, entry.number)
        self._connection.execute("DELETE FROM entries WHERE number = ?", (entry.number,))

    def _push(self, run: PushRun) -> Sequence[Push]:
        entry = self._entries.get(run.key)
        if entry is None:
            entry = self._insert(run.key, _LIST, run.nulls, None)
            self._entries_size += codec.entry_size(codec.encode_key(run.key), 2)
        elif entry.kind != _LIST:
            return run.pushes
        elif run.nulls and not entry.nulls:
            self._connection.execute(
                "UPDATE entries SET nulls = 1 WHERE number = ?", (entry.number,)
            )
            entry.nulls = 1
        self._append(entry, [push.value for push in run.pushes])
        if run.max_records is not None:
            self._keep_last(entry, run.max_records)
        return ()

    def _append(self, entry: _Entry, items: list[bytes]) -> None:
        self._entries_size += sum(map(len, items)) + len(items) - (entry.tail is None)
        if entry.tail is not None:
            size, fitting = entry.tail_size, 0
            while fitting < len(items) and size + len(items[fitting]) + 1 <= SEGMENT_BYTES:
                size += len(items[fitting]) + 1
                fitting += 1
            if fitting:
                self._connection.execute(
                    "UPDATE segments SET items = items + ?, body = CAST(body || ? AS BLOB)"
                    " WHERE number = ?",
                    (fitting, b"," + b",".join(items[:fitting]), entry.tail),
                )
                entry.tail_size = size
                items = items[fitting:]
        if items:
            self._insert_segments(entry, pack(items, b",", SEGMENT_BYTES))

    def _insert_segments(self, entry: _Entry, segments: Sequence[tuple[int, bytes]]) -> None:
        """Insert *segments* behind the last one of a list; that of a large value has no tail."""
        if not segments:
            return
        first = entry.number << SEGMENT_BITS if entry.tail is None else entry.tail + 1
        last = first + len(segments) - 1
        if last >> SEGMENT_BITS != entry.number:
            raise StoreError(
                f"A list of thread {self._thread_id} has used up its"
                f" {1 << SEGMENT_BITS:,} segments. Assign the list anew to number them again."
            )
        self._connection.executemany(
            "INSERT INTO segments (number, items, body) VALUES (?, ?, ?)",
            ((number, *segment) for number, segment in enumerate(segments, first)),
        )
        entry.tail, entry.tail_size = last, len(segments[-1][1])

    def _keep_last(self, entry: _Entry, records: int) -> None:
        segments = self._connection.execute(
            "SELECT number, items, length(body) FROM segments WHERE number BETWEEN ? AND ?"
            " ORDER BY number",
            _segment_range(entry.number),
        ).fetchall()
        surplus = sum(items for _, items, _ in segments) - records
        gone = 0
        for number, items, length in segments:
            if surplus <= 0:
                break
            if items <= surplus:
                self._connection.execute("DELETE FROM segments WHERE number = ?", (number,))
                removed = length + 1
                if number == entry.tail:
                    entry.tail = None
            else:
                # At most one segment is cut, and it has a page's size: one with a single
                # large item is never cut.
                removed = self._cut(number, surplus)
                if number == entry.tail:
                    entry.tail_size = length - removed
            gone += removed
            surplus -= items
        if gone and records == 0:
            gone -= 1  # the last item that goes has no comma behind it
        self._entries_size -= gone

    def _cut(self, number: int, surplus: int) -> int:
        (body,) = self._connection.execute(
            "SELECT body FROM segments WHERE number = ?", (number,)
        ).fetchone()
        try:
            kept = codec.items_of(b"[%b]" % body)[surplus:]
        except ValueError as error:
            raise codec.damaged(self._thread_id, str(error)) from None
        rest = b",".join(kept)
        self._connection.execute(
            "UPDATE segments SET items = ?, body = ? WHERE number = ?", (len(kept), rest, number)
        )
        return len(body) - len(rest)

    def _insert(self, key: str, kind: int, nulls: bool, value: bytes | None) -> _Entry:
        number = self._connection.execute(
            "INSERT INTO entries (thread, key, kind, nulls, value) VALUES (?, ?, ?, ?, ?)",
            (self._number, key, kind, nulls, value),
        ).lastrowid
        assert number is not None
        size = None if value is None else len(value)
        entry = self._entries[key] = _Entry(number, kind, nulls, size)
        return entry

    def _value_size(self, entry: _Entry) -> int:
        if entry.kind == _INLINE:
            return entry.inline_size or 0
        count, total = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM segments"
            " WHERE number BETWEEN ? AND ?",
            _segment_range(entry.number),
        ).fetchone()
        if entry.kind == _LARGE:
            return int(total)
        return int(total + 2 + max(0, count - 1))


def erase_thread(connection: sqlite3.Connection, number: int, thread_id: str) -> None:
    """Remove whatever is stored of the thread of that number."""
    OpenThread(connection, thread_id, number).erase()


def _segment_range(entry: int) -> tuple[int, int]:
    first = entry << SEGMENT_BITS
    return first, first + (1 << SEGMENT_BITS) - 1


def _erase_segments(connection: sqlite3.Connection, entry: int) -> None:
    connection.execute("DELETE FROM segments WHERE number BETWEEN ? AND ?", _segment_range(entry))


def _erase_entries(connection: sqlite3.Connection, thread: int) -> None:
    for (entry,) in connection.execute(
        "SELECT number FROM entries WHERE thread = ? AND kind != ?", (thread, _INLINE)
    ).fetchall():
        _erase_segments(connection, entry)
    connection.execute("DELETE FROM entries WHERE thread = ?", (thread,))
