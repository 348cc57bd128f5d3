"""Files of format 3 get owners, and the indexes of listings."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, SetMetadata, Splice
from flask_agentuity.errors import ThreadGone
from flask_agentuity.stores.sqlite import schema
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

from .support import ID, OTHER, connected, message, require_consistent, written

FORMAT_3 = """CREATE TABLE threads (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    used REAL NOT NULL,
    entries_size INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    born INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    deleted REAL
);
CREATE INDEX threads_used ON threads (used);
CREATE TABLE state_entries (
    number INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind INTEGER NOT NULL,
    nulls INTEGER NOT NULL,
    value BLOB,
    assigned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (thread, key)
);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    items INTEGER NOT NULL,
    body BLOB NOT NULL,
    items_before INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0
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
CREATE TABLE tombstones (
    thread_id TEXT PRIMARY KEY,
    deleted REAL NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_deleted ON tombstones (deleted);
PRAGMA application_id = 1634169960;
PRAGMA user_version = 3;
"""

MESSAGES = [message(number) for number in range(30)]
UPDATED = 1_700_000_000.25
VERSION = 1_700_000_000_250_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of format 3 with two threads, as the version before this one has left it."""
    path = tmp_path / "threads.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(FORMAT_3)
        fill(connection, ID, UPDATED, b'{"owner":"ada"}')
        fill(connection, OTHER, UPDATED + 1, b'{"owner":"ada","m":1}')
        connection.execute("INSERT INTO turns VALUES (?, 'holder', 5000000000)", (ID,))
        connection.execute("INSERT INTO tombstones VALUES ('thrd_gone', 5000000000, 7)")
    return path


def fill(connection: sqlite3.Connection, thread_id: str, updated: float, metadata: bytes) -> None:
    values = {"name": b'"Ada"', "messages": codec.join_list(MESSAGES)}
    size = sum(codec.entry_size(codec.encode_key(key), len(values[key])) for key in values)
    row = thread_id, updated - 10, updated, updated - 5, size, metadata, VERSION, VERSION - 5
    thread = connection.execute(
        "INSERT INTO threads (id, created, updated, used, entries_size, metadata, version, born)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    ).lastrowid
    for key, value in codec.decode(metadata).items():
        term = key, codec.encode(value).decode(), thread
        connection.execute("INSERT INTO labels VALUES (?, ?, ?)", term)
    for key, value in values.items():
        kind = schema.LIST if key == "messages" else schema.INLINE
        entry = connection.execute(
            "INSERT INTO state_entries (thread, key, kind, nulls, value, assigned)"
            " VALUES (?, ?, ?, 0, ?, 5)",
            (thread, key, kind, None if kind else value),
        ).lastrowid
        assert entry is not None
        if kind:
            first, _ = schema.segment_range(entry)
            connection.executemany(
                "INSERT INTO segments (number, items, body, items_before, epoch)"
                " VALUES (?, 15, ?, ?, 0)",
                [
                    (first + 64 * part, b",".join(MESSAGES[15 * part : 15 * part + 15]), 15 * part)
                    for part in range(2)
                ],
            )


def document(metadata: bytes) -> bytes:
    messages = codec.join_list(MESSAGES)
    return b'{"state":{"name":"Ada","messages":%b},"metadata":%b}' % (messages, metadata)


def test_a_file_of_format_3_is_upgraded_as_it_is_opened(path: Path) -> None:
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert store.restore(ID) == document(b'{"owner":"ada"}')
        assert store.restore(OTHER) == document(b'{"owner":"ada","m":1}')
        snapshot = store.read(ID)
        assert snapshot is not None
        assert (snapshot.version, snapshot.owner) == (VERSION, None)
        assert [each.id for each in store.list().threads] == [OTHER, ID]
        assert [each.id for each in store.list({"owner": "ada"}).threads] == [OTHER, ID]
        assert [each.id for each in store.list({"m": 1}).threads] == [OTHER]
        assert store.list(owner="ada").threads == []
        assert store.lease_turn(ID, "another").holder == "holder"
    with connected(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.FORMAT_VERSION,)
        assert connection.execute("SELECT count(*) FROM tombstones").fetchone() == (1,)
    require_consistent(path)


def test_an_upgraded_file_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    def described(path: Path) -> dict[str, object]:
        with closing(SQLiteStore(path)) as store:
            store.read(ID)
        with connected(path) as connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            ).fetchall()
            return {
                name: {row[1:] for row in connection.execute(f"PRAGMA table_info({name})")}
                for (name,) in names
            }

    assert described(path) == described(tmp_path / "new.db")


def test_upgraded_threads_are_written_moved_and_copied(path: Path) -> None:
    with closing(SQLiteStore(path, ttl=None)) as store:
        snapshot = store.read(ID)
        assert snapshot is not None
        written(store, Push("messages", b"1"), seen=snapshot.seen, counted=["messages"])
        outcome = store.write(OTHER, Write([Splice("messages", (), since=VERSION)]))
        assert outcome is not None
        written(store, SetMetadata(b'{"m":2}'), owner="ada")
        assert [each.id for each in store.list({"m": 2}).threads] == [ID]
        assert store.move(ID, "thrd_new", owner="ada")
        assert store.copy("thrd_new", "thrd_copy", keep={"messages": 17})
        assert [each.id for each in store.list(owner="ada").threads] == ["thrd_copy", "thrd_new"]
        with pytest.raises(ThreadGone):
            store.write("thrd_copy", Write([Push("messages", b"2")], owner="bob"))
        store.delete(OTHER)
        assert store.erase("ada") == 2
    require_consistent(path)


# What the version of format 3 runs when it has the file open already: to read, to write without
# and with what was read, to set metadata, to delete, to take a turn.
OLD_STATEMENTS = [
    "SELECT * FROM threads t JOIN state_entries e ON e.thread = t.number",
    "UPDATE state_entries SET value = x'31' WHERE number = 1",
    "SELECT key, value FROM labels WHERE thread = 1",
    "INSERT INTO labels (key, value, thread) VALUES ('k', '1', 1)",
    "DELETE FROM state_entries WHERE thread = 1",
    "INSERT OR REPLACE INTO turns (thread_id, holder, until) VALUES ('t', 'h', 1)",
]


def test_the_version_before_can_no_longer_write_threads(path: Path) -> None:
    """It looks at the format only when it opens the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute(OLD_STATEMENTS[0]).fetchall()
        with closing(SQLiteStore(path, ttl=None)) as store:
            assert store.restore(ID) == document(b'{"owner":"ada"}')
            for statement in OLD_STATEMENTS:
                old.execute("BEGIN IMMEDIATE")
                with pytest.raises(sqlite3.OperationalError, match="no such table"):
                    old.execute(statement)
                old.execute("ROLLBACK")


def test_a_write_that_the_version_before_has_read_for_fails_or_is_kept(path: Path) -> None:
    """It may have read a thread before the upgrade. The next write lists it in its place."""
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as old,
        closing(SQLiteStore(path, ttl=None)) as store,
    ):
        store.restore(ID)
        old.execute(
            "UPDATE threads SET entries_size = entries_size, updated = ?, version = ?"
            " WHERE number = 1",
            (UPDATED + 5, VERSION + 1),
        )
        assert {each.id for each in store.list().threads} == {ID, OTHER}
        written(store, Push("messages", b"1"))
        assert [each.id for each in store.list().threads] == [ID, OTHER]
