"""What was deleted leaves nothing in the file and its log while the app goes on."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from support.waiting import eventually
from web.cli.running import runner_of

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, Set, SetMetadata
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

SECRET = "a-secret-of-ada"
KEPT = "what-bob-has-said"


def thread_id(number: int) -> str:
    return f"thrd_{number:032d}"


def say(store: SQLiteStore, number: int, owner: str, text: str, size: int = 50) -> None:
    """Store a conversation whose messages and metadata contain *text*, and let it grow."""
    for turn in range(6):
        message = {"content": f"{text} {turn} " + "x" * size, "draft": turn}
        title = codec.encode({"title": f"{text} {turn}"}, "metadata")
        operations: list[Any] = [
            Push("messages", codec.encode(message)),
            Set("draft", codec.encode(f"{text} " * (turn + 1))),
            SetMetadata(title),
        ]
        store.write(thread_id(number), Write(operations, owner=owner))


def remains(path: Path, text: str) -> int:
    """Return how often *text* is in the file and its log."""
    files = (path, Path(f"{path}-wal"))
    return sum(file.read_bytes().count(text.encode()) for file in files if file.exists())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture(params=[True, False], ids=["secure", "insecure"])
def store(
    request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SQLiteStore]:
    """A store with Debian's SQLite, which overwrites what it deletes, or as most others are."""
    connect = sqlite3.connect

    def connect_insecurely(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    if not request.param:
        monkeypatch.setattr(sqlite3, "connect", connect_insecurely)
    with closing(SQLiteStore(path, ttl=1_000.0)) as store:
        yield store


def erase(store: SQLiteStore) -> None:
    assert store.erase("ada") == 12


def erase_by_command(store: SQLiteStore) -> None:
    assert runner_of(store)("erase", "--owner", "ada", "-y").exit_code == 0


def delete_by_command(store: SQLiteStore) -> None:
    for number in range(12):
        assert runner_of(store)("delete", thread_id(number), "-y").exit_code == 0


def delete_by_filter(store: SQLiteStore) -> None:
    result = runner_of(store)("delete", "--where", f"title={SECRET} 5", "-y")
    assert "Deleted 12 threads" in result.output


def purge(store: SQLiteStore) -> None:
    with freeze_time(timedelta(seconds=900)):
        for number in range(12, 24):
            say(store, number, "bob", KEPT)
    with freeze_time(timedelta(seconds=1_100)):
        assert store.purge() == 12


WAYS: list[Callable[[SQLiteStore], None]] = [
    *(erase, erase_by_command, delete_by_command, delete_by_filter, purge)
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("size", [50, 3_000])
def test_nothing_is_left(
    store: SQLiteStore, path: Path, way: Callable[[SQLiteStore], None], size: int
) -> None:
    for number in range(12):
        say(store, number, "ada", SECRET, size)
        say(store, number + 12, "bob", KEPT, size)
    assert remains(path, SECRET)
    way(store)
    assert remains(path, SECRET) == 0
    assert remains(path, KEPT)
    assert len(store.list(owner="bob", limit=50).threads) == 12
    say(store, 1, "ada", "something new")


def test_a_log_in_use_is_told_and_emptied_later(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_agentuity.stores.sqlite import journal

    monkeypatch.setattr(journal, "_ATTEMPTS", 2)
    with closing(SQLiteStore(path)) as store, closing(sqlite3.connect(path)) as reader:
        say(store, 1, "ada", SECRET)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM threads").fetchone()
        with caplog.at_level(logging.WARNING, "flask_agentuity"):
            assert store.erase("ada") == 1
        (record,) = caplog.records
        assert "The write-ahead log of the SQLite file is in use" in record.getMessage()
        assert store.list(owner="ada").threads == []
        # Nothing waits for the reader.
        say(store, 2, "bob", KEPT)
        reader.rollback()
        assert store.erase("ada") == 0
        assert remains(path, SECRET) == 0


def test_others_read_and_write_meanwhile(path: Path) -> None:
    ended = threading.Event()
    failures: list[Exception] = []
    turns = [0, 0]

    def go_on(number: int) -> None:
        try:
            with closing(SQLiteStore(path)) as store:
                while not ended.is_set():
                    say(store, 100 + number, "bob", KEPT)
                    store.read(thread_id(100 + number))
                    turns[number] += 1
        except Exception as error:
            failures.append(error)

    with closing(SQLiteStore(path)) as store:
        for number in range(12):
            say(store, number, "ada", SECRET, 3_000)
        others = [threading.Thread(target=go_on, args=(number,)) for number in range(2)]
        for other in others:
            other.start()
        eventually(lambda: all(turns))
        assert store.erase("ada") == 12
        before = list(turns)
        eventually(lambda: all(turn > then for turn, then in zip(turns, before, strict=True)))
        ended.set()
        for other in others:
            other.join()
        assert failures == []
        assert remains(path, SECRET) == 0
