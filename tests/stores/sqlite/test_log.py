"""The length of the write-ahead log."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_agentuity.document.operations import Set
from flask_agentuity.stores.sqlite import connections, journal
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import ID, connected, statements

VALUE = b'"%b"' % (b"x" * 100_000)


@contextmanager
def reading_without_a_gap(path: Path) -> Iterator[None]:
    """Read in two threads: each begins before the other ends."""
    end = threading.Event()
    may_begin = [threading.Event(), threading.Event()]

    def read(number: int) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while not end.is_set():
                if not may_begin[number].wait(0.01):
                    continue
                may_begin[number].clear()
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM threads").fetchall()
                # The other one reads before this one stops.
                may_begin[1 - number].set()
                while not may_begin[number].wait(0.01) and not end.is_set():
                    pass
                connection.execute("COMMIT")

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    may_begin[0].set()
    for reader in readers:
        reader.start()
    yield
    end.set()
    for reader in readers:
        reader.join(60)


def length(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_readers_that_follow_one_another_do_not_let_the_log_grow(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST", 2 << 20)
    store._connections._log = journal.Log(path)
    store.merge(ID, [Set("a", VALUE)])
    lengths = []
    with reading_without_a_gap(path):
        for _ in range(600):
            store.merge(ID, [Set("a", VALUE)])
            lengths.append(length(path))
    # 60 megabytes were written, and more than 6 between two looks.
    assert max(lengths) < 25 << 20


def test_a_reader_that_stays_is_not_waited_for_again_and_again(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST", 4 << 20)
    monkeypatch.setattr(journal, "_PATIENCE", (1, 2, 3))
    monkeypatch.setattr(connections, "_WRITES", 4)
    store._connections._log = journal.Log(path)
    store.merge(ID, [Set("a", VALUE)])
    with connected(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM threads").fetchall()
        with statements(store) as traced:
            for _ in range(200):
                store.merge(ID, [Set("a", VALUE)])
        assert length(path) > 20_000_000
        # Three for each four megabytes.
        restarts = len([each for each in traced if "RESTART" in each])
        assert 6 <= restarts <= 3 * (length(path) >> 22)
        reader.execute("COMMIT")
    for _ in range(200):
        store.merge(ID, [Set("a", VALUE)])
    assert length(path) <= journal.KEPT


def test_processes_with_few_writes_each_do_not_let_the_log_grow(path: Path) -> None:
    with connected(path) as other:
        for _ in range(60):
            with closing(SQLiteStore(path)) as store:
                for _ in range(10):
                    store.merge(ID, [Set("a", VALUE)])
                # SQLite removes the log when the last connection is closed.
                other.execute("SELECT * FROM threads").fetchall()
        assert length(path) < 40 << 20


#: Holds the lock of those who copy the log, as SQLite does on a slow disk.
COPYING = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, 121)
print("locked", flush=True)
sys.stdin.read()
"""


def test_writers_slow_down_while_another_process_copies_a_log_that_is_much_too_long(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST", 1 << 20)
    pauses: list[float] = []
    monkeypatch.setattr(
        journal, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    )
    log = store._connections._log = journal.Log(path)
    store.merge(ID, [Set("a", VALUE)])
    with subprocess.Popen(
        [sys.executable, "-c", COPYING, f"{path}-shm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with connected(path) as connection, statements(store) as traced:
            while length(path) < 3 << 20:
                store.merge(ID, [Set("a", VALUE)])
            log.shorten(connection)
        process.communicate()
    assert pauses
    assert not any("RESTART" in each for each in traced)
    # It is not taken for a reader that stays.
    assert log._limit == journal.LONGEST
    with connected(path) as connection:
        log.shorten(connection)
        log.shorten(connection)
    store.merge(ID, [Set("a", b"1")])
    assert length(path) <= journal.KEPT


def test_processes_do_not_stop_the_writers_one_after_the_other(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would find that the log is too long, and wait for the reader that keeps it."""
    monkeypatch.setattr(journal, "LONGEST", 1 << 20)
    monkeypatch.setattr(journal, "_PATIENCE", (1, 2, 3))
    now = [100.0]
    monkeypatch.setattr(
        journal, "time", SimpleNamespace(sleep=time.sleep, monotonic=lambda: now[0])
    )
    logs = [journal.Log(path) for _ in range(4)]
    store.merge(ID, [Set("a", VALUE)])

    def attempts() -> int:
        with connected(path) as connection:
            traced: list[str] = []
            connection.set_trace_callback(traced.append)
            for log in logs:
                before = len(traced)
                log.shorten(connection)
                if any("RESTART" in each for each in traced[before:]):
                    # The others are writing, and have to wait.
                    for other in logs:
                        if other is not log:
                            other.note_wait()
        return len([each for each in traced if "RESTART" in each])

    with connected(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM threads").fetchall()
        while length(path) <= 1 << 20:
            store.merge(ID, [Set("a", VALUE)])
        assert [attempts(), attempts()] == [1, 0]
        now[0] += 2
        assert [attempts(), attempts()] == [1, 0]
        # A log that grows quickly is looked at earlier.
        before = length(path)
        while length(path) <= before + (1 << 19):
            store.merge(ID, [Set("a", VALUE)])
        assert [attempts(), attempts()] == [1, 0]
        reader.execute("COMMIT")
    now[0] += 60
    assert attempts() == 1


def test_a_writer_that_has_waited_for_long_is_noted(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", VALUE)])
    log = store._connections._log
    with statements(store) as traced, connected(path) as other:
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=store.merge, args=(ID, [Set("a", b"2")]))
        writer.start()
        while traced.count("BEGIN IMMEDIATE") < connections._MANY_ATTEMPTS + 2:
            assert writer.is_alive()
            time.sleep(0.001)
        assert log._again == 0.0
        other.execute("COMMIT")
        writer.join(30)
    assert log._again > 0.0


def test_an_attempt_that_fails_leaves_the_connection_as_it_was(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST", 1)
    store.merge(ID, [Set("a", VALUE)])

    class Failing(sqlite3.Connection):
        """Stands for a full disk."""

        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if "RESTART" in sql:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *arguments)

    with closing(sqlite3.connect(path, timeout=3, factory=Failing)) as connection:
        with pytest.raises(sqlite3.OperationalError):
            journal.Log(path).shorten(connection)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (3_000,)


@pytest.mark.parametrize("error", [sqlite3.DatabaseError("malformed"), PermissionError("no")])
def test_a_write_that_was_stored_does_not_fail_with_the_log(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: journal.Log, connection: sqlite3.Connection) -> None:
        raise error

    monkeypatch.setattr(journal.Log, "shorten", fail)
    monkeypatch.setattr(connections, "_WRITES", 1)
    store.merge(ID, [Set("a", b"1")])
    assert store.restore(ID) == b'{"state":{"a":1}}'
    # A fork would wait for a thread that has not returned its connection.
    assert store._connections._in_use == []
