"""What the tests of the SQLite store share: ids, a look into the file, and tiny segments."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Change, Operation, Push, Splice
from flask_agentuity.stores import listing
from flask_agentuity.stores.sqlite import schema
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Conflict, Write, Written

ID = "thrd_0123456789abcdef0123456789abcdef"
OTHER = "thrd_" + "f" * 32


def connected(path: Path) -> Any:
    """Return a connection of another program to the file."""
    return closing(sqlite3.connect(path, isolation_level=None, timeout=30))


@contextmanager
def statements(store: SQLiteStore) -> Iterator[list[str]]:
    """Note every statement that the store's idle connections run."""
    traced: list[str] = []
    idle = list(store._connections._idle)
    assert idle
    for connection in idle:
        connection.set_trace_callback(traced.append)
    yield traced
    for connection in idle:
        # One that failed was closed.
        with suppress(sqlite3.ProgrammingError):
            connection.set_trace_callback(None)


@contextmanager
def tiny_segments(size: int = 12, full: int = 16, stride: int = 4, bits: int = 6) -> Iterator[None]:
    """Make segments so small that few items fill them, and their numbers rare."""
    with mock.patch.multiple(
        schema, SEGMENT_BYTES=size, FULL_BYTES=full, STRIDE=stride, FIRST_SEGMENT=1 << bits
    ):
        yield


def message(number: int, text: str = "x" * 165) -> bytes:
    return json.dumps({"n": number, "text": text}, separators=(",", ":")).encode()


def messages(count: int) -> list[Push]:
    return [Push("messages", message(number)) for number in range(count)]


def items_of(store: SQLiteStore, key: str = "messages", thread_id: str = ID) -> list[bytes]:
    snapshot = store.read(thread_id, (key,))
    assert snapshot is not None
    return codec.items_of(snapshot.encoded[key] or b"")


def splice(place: int, gone: list[bytes], new: list[bytes], key: str = "messages") -> Splice:
    return Splice(key, (Change(place, tuple(gone), tuple(new)),), since=1 << 62)


def write(store: SQLiteStore, *operations: Operation, **given: Any) -> Written | Conflict:
    return store.write(ID, Write(operations, **given))


def written(store: SQLiteStore, *operations: Operation, **given: Any) -> Written:
    outcome = write(store, *operations, **given)
    assert isinstance(outcome, Written), outcome
    return outcome


def size_of(path: Path) -> int:
    """Return how large the file is once its log has been copied into it."""
    with connected(path) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * 4_096


def require_consistent(path: Path) -> None:
    """Check that what the file says of its threads in several places is the same."""
    with connected(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        threads = connection.execute(
            "SELECT number, id, entries_size, metadata, epoch FROM threads"
        ).fetchall()
        for number, _, entries_size, metadata, epoch in threads:
            entries = connection.execute(
                "SELECT number, key, kind, nulls, value FROM thread_entries WHERE thread = ?",
                (number,),
            ).fetchall()
            sizes = [_require_entry(connection, epoch, *entry) for entry in entries]
            assert entries_size == sum(sizes)
            terms = connection.execute(
                "SELECT key, value FROM index_terms WHERE thread = ? ORDER BY key", (number,)
            ).fetchall()
            assert terms == sorted(listing.index_terms(json.loads(metadata)))
        misplaced = (
            "SELECT count(*) FROM threads t LEFT JOIN index_terms i ON i.thread = t.number"
            " WHERE i.listed != t.listed OR (t.stale = 0 AND t.listed != t.updated)"
        )
        assert connection.execute(misplaced).fetchone() == (0,)
        known = "SELECT number FROM threads"
        for table in ("thread_entries", "index_terms"):
            left = f"SELECT count(*) FROM {table} WHERE thread NOT IN ({known})"
            assert connection.execute(left).fetchone() == (0,)
        left = (
            f"SELECT count(*) FROM segments WHERE number >> {schema.SEGMENT_BITS}"
            f" NOT IN (SELECT number FROM thread_entries WHERE kind != {schema.INLINE})"
        )
        assert connection.execute(left).fetchone() == (0,)


def _require_entry(
    connection: sqlite3.Connection,
    epoch: int,
    number: int,
    key: str,
    kind: int,
    nulls: int,
    value: bytes | None,
) -> int:
    rows = connection.execute(
        "SELECT number, items, body, items_before, epoch FROM segments"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        schema.segment_range(number),
    ).fetchall()
    encoded = value or b""
    if kind == schema.LIST:
        encoded = codec.join_list([row[2] for row in rows])
        for row in rows:
            assert len(codec.items_of(b"[%b]" % row[2])) == row[1] > 0
            assert row[1] == 1 or len(row[2]) <= max(schema.FULL_BYTES, 4_040)
        if rows and rows[-1][4] == epoch and rows[-1][3] is not None:
            assert rows[-1][3] == sum(row[1] for row in rows[:-1])
    elif kind == schema.LARGE:
        ((_, _, encoded, _, _),) = rows
    json.loads(encoded)
    assert nulls or b"null" not in encoded
    return codec.entry_size(codec.encode_key(key), len(encoded))
