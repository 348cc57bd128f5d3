"""Threads in one SQLite file: the embedded default, for one machine.

A list is kept as *segments*: rows of a few kilobytes that hold several items each, as
JSON joined by commas. A push rewrites the last segment only, or starts the next one, so
it costs the same at any length; reading joins the segments and decodes once. Everything
that handles JSON is done before the write lock is taken.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .. import codec
from ..codec import Snapshot
from ..errors import ConfigurationError, StoreError
from ..operations import Clear, Delete, Operation, Push, Set
from . import base
from .base import ListedThread, Page, ThreadStore

logger = logging.getLogger("flask_agentuity.stores.sqlite")

#: Marks a file as ours (SQLite's application_id): "agth".
APPLICATION_ID = 0x61677468
FORMAT_VERSION = 1

#: A segment's row fills one page of 4,096 bytes, SQLite's default, without overflowing.
SEGMENT_BYTES = 4000
#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1000
#: Segments of one entry are numbered within this many bits below the entry's own number.
_SEGMENT_BITS = 24

_PURGE_BATCH = 20
_PURGE_INTERVAL = 60.0
_IDLE_CONNECTIONS = 16
_MOST_COUNTED = 500

_INLINE, _LARGE, _LIST = range(3)

_SCHEMA = f"""
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


class SQLiteStore(ThreadStore):
    """Keeps threads in one SQLite file, for many threads and processes of one machine.

    :param path: the file; it and its folder are made at the first use.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param timeout: seconds to wait for other writers before a
        :exc:`~flask_agentuity.errors.StoreError`.
    :param synchronous: ``"normal"``: an acknowledged write survives the end of the process
        however it comes; a power failure may take the last writes, never half of one.
        ``"full"``: it survives a power failure too, at the price of an fsync each.
    """

    shared_by_machines = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float | None = base.DEFAULT_TTL,
        max_bytes: int = codec.MAX_DOCUMENT_BYTES,
        timeout: float = 5.0,
        synchronous: str = "normal",
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(
                f"synchronous={synchronous!r} is not known to the SQLite store."
                " Allowed: normal, full."
            )
        self.path = Path(path).absolute()
        self.ttl = ttl
        self.max_bytes = max_bytes
        self._renew_after = (base.DEFAULT_TTL if ttl is None else ttl) / 10
        self._next_purge = 0.0
        self._connections = _Connections(self.path, timeout, synchronous)

    @classmethod
    def from_url(cls, url: str, *, folder: str | None = None, **options: Any) -> SQLiteStore:
        """Return the store of ``sqlite:///PATH[?timeout=SECONDS&synchronous=normal|full]``.

        A relative path is taken from *folder*, or else from the working directory.

        :raises ConfigurationError: when there is no path, or an option is unknown or wrong.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)[1:]
        if parts.netloc or not path or path.startswith(":memory:"):
            raise ConfigurationError(
                f"{url!r} names no file. Allowed: sqlite:///relative/path, sqlite:////absolute/path;"
                " for threads in memory, memory://."
            )
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name == "synchronous":
                options["synchronous"] = value.lower()
            elif name == "timeout" and _is_seconds(value):
                options["timeout"] = float(value)
            else:
                raise ConfigurationError(
                    f"{name}={value} in {url!r} is not known to the SQLite store."
                    " Allowed: timeout=SECONDS, synchronous=normal or full."
                )
        return cls(Path(folder or ".") / path, **options)

    def restore(self, thread_id: str) -> bytes | None:
        snapshot = self.read(thread_id)
        if snapshot is None:
            return None
        document = codec.join_document(base.complete(snapshot, thread_id), snapshot.metadata)
        try:
            codec.decode(document)
        except ValueError as error:
            raise codec.damaged(thread_id, str(error)) from None
        return document

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        with self._connected(thread_id) as connection:
            connection.execute("BEGIN")
            try:
                rows = connection.execute(
                    "SELECT max(t.used, t.updated), t.metadata, e.number, e.key, e.kind, e.value"
                    " FROM threads t LEFT JOIN entries e ON e.thread = t.number"
                    " WHERE t.id = ? ORDER BY e.number",
                    (thread_id,),
                ).fetchall()
                if not rows or self._expired(rows[0][0]):
                    return None
                encoded: dict[str, bytes | None] = {}
                for _, _, entry, key, kind, value in rows:
                    if entry is None:
                        break
                    if kind != _INLINE and (keys is None or key in keys):
                        value = _read_segments(connection, entry, kind)
                    encoded[key] = value
            finally:
                connection.execute("COMMIT")
            if time.time() - rows[0][0] > self._renew_after:
                self._renew(connection, thread_id)
            return Snapshot(encoded, rows[0][1])

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = base.complete(snapshot, thread_id)
        self.merge(thread_id, [Clear(), *(Set(key, state[key]) for key in state)], metadata)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        encoded = None if metadata is None else codec.encode(dict(metadata), "metadata")
        steps = [_prepare(run) for run in base.runs(operations)]
        skipped: list[Push] = []
        with self._connected(thread_id) as connection:
            with _transaction(connection):
                thread = self._open(connection, thread_id)
                before = thread.size
                for step in steps:
                    skipped.extend(thread.apply(step))
                if encoded is not None:
                    thread.metadata = encoded
                codec.require_size(thread.size, self.max_bytes, thread_id, before)
                thread.close()
            if time.time() >= self._next_purge:
                self._purge_now_and_then(connection)
        base.warn_of_skipped(thread_id, skipped)

    def delete(self, thread_id: str) -> None:
        with self._connected(thread_id) as connection, _transaction(connection):
            row = connection.execute(
                "SELECT number FROM threads WHERE id = ?", (thread_id,)
            ).fetchone()
            if row:
                _erase(connection, row[0])

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        wanted = metadata or {}
        base.require_filter(wanted)
        conditions = ["max(t.used, t.updated) >= ?"]
        arguments: list[Any] = [0.0 if self.ttl is None else time.time() - self.ttl]
        labels = base.encode_labels(wanted)
        found: list[ListedThread] = []
        before = base.decode_cursor(cursor) if cursor else None
        with self._connected("(all)") as connection:
            if len(labels) > 1:
                # The rarest says which threads are looked at, the others only test those.
                labels.sort(key=lambda label: _count_label(connection, label))
            for place, label in enumerate(labels):
                found_by = "SELECT thread FROM labels WHERE key = ? AND value = ?"
                conditions.append(
                    f"EXISTS ({found_by} AND thread = t.number)"
                    if place
                    else f"t.number IN ({found_by})"
                )
                arguments.extend(label)
            while len(found) <= limit:
                rows = connection.execute(
                    "SELECT t.id, t.metadata, t.created, t.updated, t.entries_size"
                    f" FROM threads t WHERE {' AND '.join(conditions)}"
                    + (" AND (t.updated, t.id) < (?, ?)" if before else "")
                    + " ORDER BY t.updated DESC, t.id DESC LIMIT ?",
                    (*arguments, *(before or ()), limit + 1),
                ).fetchall()
                for thread_id, encoded, created, updated, entries_size in rows:
                    size = codec.document_size(entries_size, len(encoded))
                    kept = self._decode_metadata(thread_id, encoded)
                    if base.matches(kept, wanted):
                        found.append(ListedThread(thread_id, kept, created, updated, size))
                if len(rows) <= limit:
                    break
                before = rows[-1][3], rows[-1][0]
        return base.page_of(found[: limit + 1], limit)

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        steps = [_prepare([Set(key, value)]) for key, value in state.items()]
        metadata = codec.encode(thread.metadata, "metadata")
        with self._connected(thread.id) as connection, _transaction(connection):
            row = connection.execute(
                "SELECT number, updated, max(used, updated) FROM threads WHERE id = ?",
                (thread.id,),
            ).fetchone()
            if row and row[1] >= thread.updated and not self._expired(row[2]):
                return False
            if row:
                _erase(connection, row[0])
            opened = self._open(connection, thread.id)
            for step in steps:
                opened.apply(step)
            opened.metadata = metadata
            codec.require_size(opened.size, self.max_bytes, thread.id)
            opened.close()
            connection.execute(
                "UPDATE threads SET created = ?, updated = ? WHERE id = ?",
                (thread.created, thread.updated, thread.id),
            )
            return True

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        removed = 0
        with self._connected("(all)") as connection:
            # Small transactions: requests get their turn between them.
            while batch := self._purge_batch(connection):
                removed += batch
                if progress:
                    progress(batch)
        return removed

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        now = time.time()
        with self._connected(thread_id) as connection:
            query = "SELECT 1 FROM turns WHERE thread_id = ? AND holder != ? AND until > ?"
            arguments = (thread_id, holder, now)
            # Whoever waits looks often, and only looking takes no lock.
            if connection.execute(query, arguments).fetchone():
                return False
            with _transaction(connection):
                if connection.execute(query, arguments).fetchone():
                    return False
                connection.execute("DELETE FROM turns WHERE until <= ?", (now,))
                connection.execute(
                    "INSERT OR REPLACE INTO turns (thread_id, holder, until) VALUES (?, ?, ?)",
                    (thread_id, holder, now + seconds),
                )
                return True

    def end_turn(self, thread_id: str, holder: str) -> None:
        with self._connected(thread_id) as connection:
            connection.execute(
                "DELETE FROM turns WHERE thread_id = ? AND holder = ?", (thread_id, holder)
            )

    def close(self) -> None:
        self._connections.close()

    def _decode_metadata(self, thread_id: str, encoded: bytes) -> dict[str, Any]:
        try:
            metadata: dict[str, Any] = codec.decode(encoded)
        except ValueError as error:
            # One damaged thread does not hide all the others; restoring it raises.
            logger.error("%s", codec.damaged(thread_id, str(error)))  # noqa: TRY400
            return {}
        return metadata

    def _open(self, connection: sqlite3.Connection, thread_id: str) -> _OpenThread:
        now = time.time()
        row = connection.execute(
            "SELECT number, max(used, updated), used, entries_size, metadata"
            " FROM threads WHERE id = ?",
            (thread_id,),
        ).fetchone()
        if row and self._expired(row[1]):
            _erase(connection, row[0])
            row = None
        if row is None:
            number = connection.execute(
                "INSERT INTO threads (id, created, updated, used, entries_size, metadata)"
                " VALUES (?, ?, ?, ?, 0, ?)",
                (thread_id, now, now, now, b"{}"),
            ).lastrowid
            assert number is not None
            return _OpenThread(connection, thread_id, number, now, None, 0, b"{}")
        number, _, used, entries_size, metadata = row
        # The column has an index, which most writes need not touch.
        renewed = now if now - used > self._renew_after else None
        return _OpenThread(connection, thread_id, number, now, renewed, entries_size, metadata)

    def _expired(self, used: float) -> bool:
        return self.ttl is not None and time.time() > used + self.ttl

    def _renew(self, connection: sqlite3.Connection, thread_id: str) -> None:
        try:
            connection.execute("UPDATE threads SET used = ? WHERE id = ?", (time.time(), thread_id))
        except sqlite3.OperationalError as error:
            # Nothing is lost: the next read of the thread tries again.
            logger.debug("The use of thread %s could not be noted: %s", thread_id, error)

    def _purge_now_and_then(self, connection: sqlite3.Connection) -> None:
        self._next_purge = time.time() + _PURGE_INTERVAL
        try:
            if self._purge_batch(connection) == _PURGE_BATCH:
                self._next_purge = 0.0
        except sqlite3.OperationalError as error:
            logger.debug("Expired threads could not be removed now: %s", error)

    def _purge_batch(self, connection: sqlite3.Connection) -> int:
        if self.ttl is None:
            return 0
        cutoff = time.time() - self.ttl
        query = "SELECT number FROM threads WHERE used < ? AND updated < ? LIMIT ?"
        arguments = (cutoff, cutoff, _PURGE_BATCH)
        if not connection.execute(query, arguments).fetchone():
            return 0
        with _transaction(connection):
            numbers = [number for (number,) in connection.execute(query, arguments)]
            for number in numbers:
                _erase(connection, number)
        return len(numbers)

    @contextmanager
    def _connected(self, thread_id: str) -> Iterator[sqlite3.Connection]:
        try:
            with self._connections.lend() as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"SQLite could not serve thread {thread_id} from {self.path}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class _PushRun:
    """Pushes in a row to one key with one window."""

    pushes: Sequence[Push]
    max_records: int | None


@dataclass(frozen=True, slots=True)
class _SetValue:
    """A set whose value is cut up for its rows."""

    key: str
    only_if_missing: bool
    kind: int
    inline: bytes | None
    segments: Sequence[tuple[int, bytes]]
    size: int


_Step = _PushRun | _SetValue | Delete | Clear


def _prepare(run: Sequence[Operation]) -> _Step:
    """Do whatever handles JSON, so that nothing of it is left for the time of the lock."""
    match run[0]:
        case Push(_, _, max_records):
            return _PushRun([push for push in run if isinstance(push, Push)], max_records)
        case Set(key, value, only_if_missing):
            size = len(value)
            if codec.is_list(value):
                segments = base.pack(codec.items_of(value), b",", SEGMENT_BYTES) if size > 2 else []
                return _SetValue(key, only_if_missing, _LIST, None, segments, size)
            if size > INLINE_BYTES:
                return _SetValue(key, only_if_missing, _LARGE, None, [(0, value)], size)
            return _SetValue(key, only_if_missing, _INLINE, value, [], size)
        case Delete() | Clear() as operation:
            return operation


class _OpenThread:
    """One thread inside a write transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        thread_id: str,
        number: int,
        now: float,
        renewed: float | None,
        entries_size: int,
        metadata: bytes,
    ) -> None:
        self._connection = connection
        self._thread_id = thread_id
        self._number = number
        self._now = now
        self._renewed = renewed
        self._entries_size = entries_size
        self._stored_metadata = self.metadata = bytes(metadata)

    @property
    def size(self) -> int:
        return codec.document_size(self._entries_size, len(self.metadata))

    def apply(self, step: _Step) -> Sequence[Push]:
        """Apply *step*; returns the pushes that were skipped."""
        match step:
            case _PushRun():
                return self._push(step)
            case _SetValue():
                self._set(step)
            case Delete(key):
                self._delete(key)
            case Clear():
                _erase_entries(self._connection, self._number)
                self._entries_size = 0
        return ()

    def close(self) -> None:
        """Write the thread's own row, or remove it when nothing is left of the thread."""
        if not self.size:
            _erase(self._connection, self._number)
            return
        changes: dict[str, Any] = {"entries_size": self._entries_size, "updated": self._now}
        if self.metadata != self._stored_metadata:
            changes["metadata"] = self.metadata
            _erase_labels(self._connection, self._number)
            self._connection.executemany(
                "INSERT INTO labels (key, value, thread) VALUES (?, ?, ?)",
                (
                    (*label, self._number)
                    for label in base.encode_labels(codec.decode(self.metadata))
                ),
            )
        if self._renewed is not None:
            changes["used"] = self._renewed
        self._connection.execute(
            f"UPDATE threads SET {', '.join(f'{column} = ?' for column in changes)}"
            " WHERE number = ?",
            (*changes.values(), self._number),
        )

    def _set(self, step: _SetValue) -> None:
        entry = self._find(step.key)
        if entry is None:
            number = self._insert(step.key, step.kind, step.inline)
            self._entries_size += codec.entry_size(codec.encode_key(step.key), step.size)
        elif step.only_if_missing:
            return
        else:
            number, kind, value = entry
            self._entries_size += step.size - self._value_size(number, kind, value)
            if kind != _INLINE:
                _erase_segments(self._connection, number)
            self._connection.execute(
                "UPDATE entries SET kind = ?, value = ? WHERE number = ?",
                (step.kind, step.inline, number),
            )
        first = number << _SEGMENT_BITS
        self._connection.executemany(
            "INSERT INTO segments (number, items, body) VALUES (?, ?, ?)",
            ((first + index, *segment) for index, segment in enumerate(step.segments)),
        )

    def _delete(self, key: str) -> None:
        entry = self._find(key)
        if entry is None:
            return
        number, kind, value = entry
        self._entries_size -= codec.entry_size(
            codec.encode_key(key), self._value_size(number, kind, value)
        )
        if kind != _INLINE:
            _erase_segments(self._connection, number)
        self._connection.execute("DELETE FROM entries WHERE number = ?", (number,))

    def _push(self, run: _PushRun) -> Sequence[Push]:
        key = run.pushes[0].key
        entry = self._find(key)
        if entry is None:
            number = self._insert(key, _LIST, None)
            self._entries_size += codec.entry_size(codec.encode_key(key), 2)
        elif entry[1] != _LIST:
            return run.pushes
        else:
            number = entry[0]
        self._append(number, [push.value for push in run.pushes])
        if run.max_records is not None:
            self._keep_last(number, run.max_records)
        return ()

    def _append(self, entry: int, items: list[bytes]) -> None:
        first, last = _segment_range(entry)
        tail = self._connection.execute(
            "SELECT number, length(body) FROM segments WHERE number BETWEEN ? AND ?"
            " ORDER BY number DESC LIMIT 1",
            (first, last),
        ).fetchone()
        self._entries_size += sum(len(item) + 1 for item in items) - (0 if tail else 1)
        following = first
        if tail:
            number, length = tail
            following = number + 1
            fitting = 0
            while fitting < len(items) and length + len(items[fitting]) + 1 <= SEGMENT_BYTES:
                length += len(items[fitting]) + 1
                fitting += 1
            if fitting:
                self._connection.execute(
                    "UPDATE segments SET items = items + ?, body = CAST(body || ? AS BLOB)"
                    " WHERE number = ?",
                    (fitting, b"," + b",".join(items[:fitting]), number),
                )
                items = items[fitting:]
        segments = base.pack(items, b",", SEGMENT_BYTES)
        if following + len(segments) > last:
            raise StoreError(
                f"A list of thread {self._thread_id} has used up its"
                f" {1 << _SEGMENT_BITS:,} segments. Assign the list anew to number them again."
            )
        self._connection.executemany(
            "INSERT INTO segments (number, items, body) VALUES (?, ?, ?)",
            ((following + index, *segment) for index, segment in enumerate(segments)),
        )

    def _keep_last(self, entry: int, records: int) -> None:
        segments = self._connection.execute(
            "SELECT number, items, length(body) FROM segments WHERE number BETWEEN ? AND ?"
            " ORDER BY number",
            _segment_range(entry),
        ).fetchall()
        surplus = sum(items for _, items, _ in segments) - records
        gone = 0
        for number, items, length in segments:
            if surplus <= 0:
                break
            if items <= surplus:
                self._connection.execute("DELETE FROM segments WHERE number = ?", (number,))
                gone += length + 1
            else:
                # At most one segment is cut, and it has a page's size: one with a single
                # large item is never cut.
                gone += self._cut(number, surplus)
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

    def _find(self, key: str) -> tuple[int, int, bytes | None] | None:
        row: tuple[int, int, bytes | None] | None = self._connection.execute(
            "SELECT number, kind, value FROM entries WHERE thread = ? AND key = ?",
            (self._number, key),
        ).fetchone()
        return row

    def _insert(self, key: str, kind: int, value: bytes | None) -> int:
        number = self._connection.execute(
            "INSERT INTO entries (thread, key, kind, value) VALUES (?, ?, ?, ?)",
            (self._number, key, kind, value),
        ).lastrowid
        assert number is not None
        return number

    def _value_size(self, entry: int, kind: int, value: bytes | None) -> int:
        if kind == _INLINE:
            return len(value or b"")
        count, total = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM segments"
            " WHERE number BETWEEN ? AND ?",
            _segment_range(entry),
        ).fetchone()
        if kind == _LARGE:
            return int(total)
        return int(total + 2 + max(0, count - 1))


def _segment_range(entry: int) -> tuple[int, int]:
    first = entry << _SEGMENT_BITS
    return first, first + (1 << _SEGMENT_BITS) - 1


def _read_segments(connection: sqlite3.Connection, entry: int, kind: int) -> bytes:
    rows = connection.execute(
        "SELECT body FROM segments WHERE number BETWEEN ? AND ? ORDER BY number",
        _segment_range(entry),
    ).fetchall()
    bodies = [body for (body,) in rows]
    return bodies[0] if kind == _LARGE and bodies else codec.join_list(bodies)


def _count_label(connection: sqlite3.Connection, label: tuple[str, str]) -> int:
    """Return how many threads have a label, as far as it pays to count."""
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM labels WHERE key = ? AND value = ? LIMIT ?)",
        (*label, _MOST_COUNTED),
    ).fetchone()
    return int(count)


def _erase_segments(connection: sqlite3.Connection, entry: int) -> None:
    connection.execute("DELETE FROM segments WHERE number BETWEEN ? AND ?", _segment_range(entry))


def _erase_entries(connection: sqlite3.Connection, thread: int) -> None:
    for (entry,) in connection.execute(
        "SELECT number FROM entries WHERE thread = ? AND kind != ?", (thread, _INLINE)
    ).fetchall():
        _erase_segments(connection, entry)
    connection.execute("DELETE FROM entries WHERE thread = ?", (thread,))


def _erase_labels(connection: sqlite3.Connection, thread: int) -> None:
    connection.execute("DELETE FROM labels WHERE thread = ?", (thread,))


def _erase(connection: sqlite3.Connection, thread: int) -> None:
    _erase_entries(connection, thread)
    _erase_labels(connection, thread)
    connection.execute("DELETE FROM threads WHERE number = ?", (thread,))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # A plain BEGIN would fail at its first write, without waiting, when another came first.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


class _Connections:
    """The open connections of one process to one file, lent to one thread at a time.

    SQLite forbids to carry a connection over a fork: idle ones are closed before it, and
    a child never touches what it inherited all the same.
    """

    def __init__(self, path: Path, timeout: float, synchronous: str) -> None:
        self._path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self._idle: list[sqlite3.Connection] = []
        # The threads that have a connection in use.
        self._lent: list[int] = []
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._closed = False
        _all_connections.add(self)

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        if self._process != os.getpid():
            self.after_fork_in_child()
        thread = threading.get_ident()
        with self._changed:
            if self._closed:
                raise StoreError(f"The store of {self._path} was closed.")
            connection = self._idle.pop() if self._idle else None
            self._lent.append(thread)
        process = self._process
        keep = True
        try:
            if connection is None:
                connection = self._open()
            yield connection
        except sqlite3.Error:
            # It may be the connection that is at fault.
            keep = False
            raise
        finally:
            if process == self._process:
                self._take_back(connection, thread, keep)
            elif connection is not None:
                _inherited.append(connection)

    def _take_back(self, connection: sqlite3.Connection | None, thread: int, keep: bool) -> None:
        with self._changed:
            if connection is not None:
                if keep and len(self._idle) < _IDLE_CONNECTIONS and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()
            self._lent.remove(thread)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def before_fork(self) -> None:
        self._changed.acquire()
        # A thread inside SQLite holds locks of the whole process, which would stay locked in
        # the child. What it does is short: at most it waits for another writer.
        thread = threading.get_ident()
        self._changed.wait_for(
            lambda: all(lent == thread for lent in self._lent), self._timeout + 1
        )
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def after_fork_in_parent(self) -> None:
        self._changed.release()

    def after_fork_in_child(self) -> None:
        _inherited.extend(self._idle)
        self._idle = []
        self._lent = []
        self._changed = threading.Condition()
        self._process = os.getpid()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # In one statement: another connection may be making the file just now.
        application, version = connection.execute(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if (application, version) == (0, 0):
            self._create(connection)
        elif application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        elif version != FORMAT_VERSION:
            raise StoreError(
                f"{self._path} has format {version}; this version of flask_agentuity reads"
                f" {FORMAT_VERSION}. Install a newer one, or name another file."
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _create(self, connection: sqlite3.Connection) -> None:
        # What another program has made is not even given a log.
        self._require_ours(connection)
        self._enter_wal(connection)
        with _transaction(connection):
            if self._require_ours(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)

    def _require_ours(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is still empty; refuse one of another program."""
        tables, application = connection.execute(
            "SELECT (SELECT count(*) FROM sqlite_master), application_id FROM pragma_application_id"
        ).fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        return not tables

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        # Changing the mode does not wait for others as a transaction does.
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(
                f"{self._path} cannot have a write-ahead log (its mode stays {mode});"
                " name a file on a local disk."
            )


_all_connections: weakref.WeakSet[_Connections] = weakref.WeakSet()
# Kept for ever: a child may not even close what it inherited.
_inherited: list[sqlite3.Connection] = []


# Two threads may fork at once.
_fork_lock = threading.Lock()
_forking: list[_Connections] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_all_connections)
    for connections in _forking:
        connections.before_fork()


def _after_fork_in_parent() -> None:
    for connections in _forking:
        connections.after_fork_in_parent()
    _forking.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for connections in list(_all_connections):
        connections.after_fork_in_child()
    _forking.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
