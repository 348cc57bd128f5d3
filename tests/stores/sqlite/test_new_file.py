"""What a new file gets: its permissions, a write-ahead log; and what a restored file gets."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flask_agentuity.document.operations import Set
from flask_agentuity.stores import open_store
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import ID, connected, messages, require_consistent

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def mode_of_journal(path: Path) -> str:
    with connected(path) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_only_its_owner_can_read_the_file(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "folder" / "threads.db"
    with umask(mask), closing(SQLiteStore(path)) as store:
        store.merge(ID, [Set("a", b"1")])
        names = ("threads.db", "threads.db-wal", "threads.db-shm")
        assert modes(path.parent) == dict.fromkeys(names, 0o600)


@posix
def test_the_permissions_of_a_file_that_exists_stay(store: SQLiteStore, path: Path) -> None:
    """A group may share it on purpose."""
    store.merge(ID, [Set("a", b"1")])
    store.close()
    path.chmod(0o660)
    with closing(SQLiteStore(path)) as another:
        another.merge(ID, [Set("a", b"2")])
        assert set(modes(path.parent).values()) == {0o660}


def test_threads_that_create_the_file_at_the_same_time(path: Path) -> None:
    """To create it must not drop the locks that SQLite has on it."""
    stores = [SQLiteStore(path, timeout=60) for _ in range(8)]
    begin = threading.Barrier(len(stores))

    def write(number: int) -> None:
        begin.wait(60)
        stores[number].merge(f"thrd_{number:032}", messages(20))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(len(stores))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(stores[0].list(limit=20).threads) == len(stores)
    for store in stores:
        store.close()
    require_consistent(path)


def without_wal(path: Path, *, by: str) -> None:
    """Make the file one without a write-ahead log."""
    with connected(path) as connection:
        if by == "VACUUM INTO":
            connection.execute("VACUUM INTO ?", (f"{path}.copy",))
        else:
            connection.execute("PRAGMA journal_mode = DELETE")
    if by == "VACUUM INTO":
        Path(f"{path}.copy").replace(path)


@pytest.mark.parametrize("by", ["VACUUM INTO", "PRAGMA"])
def test_a_restored_file_gets_a_write_ahead_log(store: SQLiteStore, path: Path, by: str) -> None:
    store.merge(ID, messages(3))
    store.close()
    without_wal(path, by=by)
    assert mode_of_journal(path) == "delete"
    with closing(SQLiteStore(path)) as another:
        assert another.read(ID) is not None
        assert mode_of_journal(path) == "wal"


def test_a_file_that_another_program_reads_gets_its_log_later(
    store: SQLiteStore, path: Path
) -> None:
    store.merge(ID, messages(3))
    store.close()
    without_wal(path, by="PRAGMA")
    with connected(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM threads").fetchall()
        with closing(SQLiteStore(path, timeout=0.05)) as another:
            assert another.read(ID) is not None
            assert mode_of_journal(path) == "delete"
        reader.execute("COMMIT")
    with closing(SQLiteStore(path)) as another:
        assert another.read(ID) is not None
        assert mode_of_journal(path) == "wal"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///%s/a#b.db", "a#b.db"),
        ("sqlite:///%s/a%%23b.db?timeout=3", "a#b.db"),
        ("sqlite:///%s/who%%3F.db?synchronous=full", "who?.db"),
        ("sqlite:///%s/100%%25.db", "100%.db"),
        ("sqlite:///%s/100%% #1.db", "100% #1.db"),
        ("sqlite:///%s/a%%2520b.db", "a%20b.db"),
        ("sqlite:///%s/a\tb.db", "a\tb.db"),
        ("sqlite:///%s/%%FF.db", os.fsdecode(b"\xff.db")),
        ("sqlite:///%s/a;b&c=d.db", "a;b&c=d.db"),
    ],
)
@posix
def test_special_characters_in_the_name_of_the_file(tmp_path: Path, url: str, name: str) -> None:
    with closing(open_store(url % tmp_path)) as store:
        store.merge(ID, [Set("a", b"1")])
        found = {file.name for file in tmp_path.iterdir()}
        assert found == {name, f"{name}-wal", f"{name}-shm"}
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        assert connection.execute("SELECT id FROM threads").fetchall() == [(ID,)]
