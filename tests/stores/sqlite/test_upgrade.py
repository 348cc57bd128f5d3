"""Files of formats 2 and 3 are upgraded when they are opened, by whichever process is first."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Change, PopLast, Push, Set, SetMetadata, Splice
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.sqlite import schema
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import (
    ID,
    OTHER,
    connected,
    items_of,
    message,
    require_consistent,
    splice,
    statements,
    written,
)

FORMAT_2 = """
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
PRAGMA application_id = 1634169960;
PRAGMA user_version = 2;
"""

LONG = b'"%b"' % (b"l" * 2_000)
MESSAGES = [message(number) for number in range(100)]
UPDATED = 1_700_000_000.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of format 2 with two threads, as the version before this one has left it."""
    path = tmp_path / "threads.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(FORMAT_2)
        fill(connection, ID, b'{"owner":"ada"}')
        fill(connection, OTHER, b"{}")
        connection.execute("INSERT INTO labels VALUES ('owner', '\"ada\"', 1)")
        connection.execute("INSERT INTO turns VALUES (?, 'holder', 5000000000)", (ID,))
    return path


def fill(connection: sqlite3.Connection, thread_id: str, metadata: bytes) -> None:
    values = {"name": b'"Ada"', "long": LONG, "messages": codec.join_list(MESSAGES), "empty": b"[]"}
    size = sum(codec.entry_size(codec.encode_key(key), len(values[key])) for key in values)
    times = UPDATED - 10, UPDATED, UPDATED - 5
    thread = connection.execute(
        "INSERT INTO threads (id, created, updated, used, entries_size, metadata)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (thread_id, *times, size, metadata),
    ).lastrowid
    for key, value in values.items():
        kind = 2 if value.startswith(b"[") else 1 if len(value) > 1_000 else 0
        entry = connection.execute(
            "INSERT INTO entries (thread, key, kind, nulls, value) VALUES (?, ?, ?, 0, ?)",
            (thread, key, kind, None if kind else value),
        ).lastrowid
        assert entry is not None
        bodies = [(0, value)] if kind == 1 else []
        if key == "messages":
            rows = [MESSAGES[start : start + 20] for start in range(0, 100, 20)]
            bodies = [(20, b",".join(row)) for row in rows]
        connection.executemany(
            "INSERT INTO segments (number, items, body) VALUES (?, ?, ?)",
            [((entry << 24) + number, *body) for number, body in enumerate(bodies)],
        )


def document(metadata: bytes = b"") -> bytes:
    template = b'{"state":{"name":"Ada","long":%b,"messages":%b,"empty":[]}%b}'
    return template % (LONG, codec.join_list(MESSAGES), metadata)


def version_of(path: Path) -> int:
    with connected(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_file_of_format_2_is_upgraded_as_it_is_opened(path: Path) -> None:
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert store.restore(ID) == document(b',"metadata":{"owner":"ada"}')
        assert store.restore(OTHER) == document()
        assert version_of(path) == schema.FORMAT_VERSION == 4
        snapshot = store.read(ID)
        assert snapshot is not None
        assert snapshot.version == UPDATED * 1_000_000
        (thread,) = store.list({"owner": "ada"}).threads
        assert (thread.id, thread.updated, thread.created) == (ID, UPDATED, UPDATED - 10)
        assert len(list(store.scan())) == 2
        assert not store.take_turn(ID, "another", 10)
    require_consistent(path)
    # And it stays upgraded.
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert store.restore(OTHER) == document()


def test_an_upgraded_file_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    def columns(path: Path) -> dict[str, set[tuple[object, ...]]]:
        with closing(SQLiteStore(path)) as store:
            store.read(ID)
        with connected(path) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            ).fetchall()
            return {
                name: {
                    tuple(column[1:])
                    for column in connection.execute(f"PRAGMA table_info({name})").fetchall()
                }
                for (name,) in tables
            }

    assert columns(path) == columns(tmp_path / "new.db")


def test_upgraded_threads_are_edited(path: Path) -> None:
    expected = list(MESSAGES)
    with closing(SQLiteStore(path, ttl=None)) as store:
        snapshot = store.read(ID)
        assert snapshot is not None
        since, seen = snapshot.version, snapshot.seen
        change = Change(99, (MESSAGES[99],), (b"1", b"2"))
        edit = Splice("messages", (change,), since=since)
        outcome = written(store, edit, Push("messages", b"3"), seen=seen, counted=["messages"])
        expected[99:] = [b"1", b"2", b"3"]
        assert outcome.version > since
        assert outcome.preceding == {"messages": 101}
        # There is no free number in the middle of this list.
        written(store, splice(30, [MESSAGES[30]], [message(7)] * 20))
        expected[30:31] = [message(7)] * 20
        written(store, splice(50, [expected[50]], [message(8)] * 3))
        expected[50:51] = [message(8)] * 3
        assert items_of(store) == expected
        written(store, Push("empty", b"1"), PopLast("messages"), Set("long", b"1"))
        written(store, SetMetadata(b'{"owner":"bob"}'))
        assert items_of(store) == expected[:-1]
        assert [each.id for each in store.list({"owner": "bob"}).threads] == [ID]
        assert store.restore(OTHER) == document()
    require_consistent(path)


def test_a_second_write_after_the_upgrade_needs_no_reading(path: Path) -> None:
    with closing(SQLiteStore(path, ttl=None)) as store:
        for count in (1, 0):
            snapshot = store.read(ID, ("messages",))
            assert snapshot is not None
            with statements(store) as traced:
                written(store, Push("messages", b"1"), seen=snapshot.seen, counted=["messages"])
            assert sum("SELECT" in statement for statement in traced) >= count
        assert len(traced) == 4


def test_deleting_after_the_upgrade(path: Path) -> None:
    with closing(SQLiteStore(path, ttl=None)) as store:
        store.delete(ID)
        assert store.restore(ID) is None
        assert store.restore(OTHER) == document()
        written(store, Push("messages", b"1"))
        assert store.restore(ID) == b'{"state":{"messages":[1]}}'
    require_consistent(path)


# What the version of format 2 runs when it has the file open already: to read, to merge,
# to delete, to remove what has expired, to import.
OLD_STATEMENTS = [
    "SELECT * FROM threads t LEFT JOIN entries e ON e.thread = t.number",
    "SELECT * FROM threads t LEFT JOIN entries e ON e.thread = t.number AND e.key IN ('name')",
    "SELECT number FROM entries WHERE thread = 1 AND kind != 0",
    "DELETE FROM entries WHERE thread = 1",
    "INSERT INTO entries (thread, key, kind, nulls, value) VALUES (1, 'k', 0, 0, x'31')",
]


def test_the_version_before_can_no_longer_write_threads(path: Path) -> None:
    """It looks at the format only when it opens the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute(OLD_STATEMENTS[0]).fetchall()
        with closing(SQLiteStore(path, ttl=None)) as store:
            assert store.restore(OTHER) == document()
            for statement in OLD_STATEMENTS:
                old.execute("BEGIN IMMEDIATE")
                with pytest.raises(sqlite3.OperationalError, match="no such table"):
                    old.execute(statement)
                old.execute("ROLLBACK")


def open_and_push(path: str, worker: int) -> None:
    with closing(SQLiteStore(path, ttl=None, timeout=60)) as store:
        for number in range(5):
            store.merge(ID, [Push("messages", b'"%d-%d"' % (worker, number))])


def test_several_processes_open_the_file_at_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=open_and_push, args=(str(path), number)) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with closing(SQLiteStore(path, ttl=None)) as store:
        added = items_of(store)[100:]
    assert sorted(added) == sorted(b'"%d-%d"' % (w, n) for w in range(4) for n in range(5))
    require_consistent(path)


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    with connected(path) as connection:
        # The last of its statements cannot succeed.
        connection.execute("CREATE TABLE tombstones_deleted (x)")
    with closing(SQLiteStore(path, ttl=None)) as store, pytest.raises(StoreError):
        store.restore(ID)
    assert version_of(path) == 2
    with connected(path) as connection:
        assert connection.execute(OLD_STATEMENTS[0]).fetchall()
        connection.execute("DROP TABLE tombstones_deleted")
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert store.restore(OTHER) == document()
