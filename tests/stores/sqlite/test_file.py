"""The file of the SQLite store: what it says, what is refused, what is damaged; and its URL."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ConfigurationError, StoreError
from flask_agentuity.stores import open_store
from flask_agentuity.stores.sqlite.schema import APPLICATION_ID, FORMAT_VERSION
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .support import ID, OTHER, connected, messages


def test_the_file_says_what_it_is(store: SQLiteStore, path: Path) -> None:
    assert not path.exists()
    store.merge(ID, [Set("a", b"1")])
    with connected(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)


def test_the_folder_of_the_file_is_made_at_the_first_use(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "threads.db"
    with closing(SQLiteStore(path)) as store:
        assert not path.parent.exists()
        assert store.read(ID) is None
        assert path.exists()


@pytest.mark.parametrize(("version", "remedy"), [(1, "Install"), (1 - FORMAT_VERSION, "export")])
def test_another_format_is_left_alone(
    store: SQLiteStore, path: Path, version: int, remedy: str
) -> None:
    store.merge(ID, [Set("a", b"1")])
    store.close()
    with connected(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + version}")
    with closing(SQLiteStore(path)) as another:
        acts: list[Callable[[], object]] = [
            lambda: another.read(ID),
            lambda: another.merge(ID, [Set("a", b"2")]),
        ]
        for act in acts:
            with pytest.raises(StoreError) as caught:
                act()
            assert f"format {FORMAT_VERSION + version}" in str(caught.value)
            assert str(path) in str(caught.value)
            assert remedy in str(caught.value)


def reading_and_writing(store: SQLiteStore) -> list[Callable[[], object]]:
    return [lambda: store.read(ID), lambda: store.merge(ID, [Set("a", b"1")])]


def test_the_file_of_another_program_is_left_alone(path: Path) -> None:
    for prepare in ("PRAGMA user_version = 7", "PRAGMA application_id = 7", "SELECT 1"):
        path.unlink(missing_ok=True)
        with connected(path) as connection:
            connection.execute("CREATE TABLE threads (theirs)")
            connection.execute(prepare)
        before = path.read_bytes()
        with closing(SQLiteStore(path)) as store:
            for act in reading_and_writing(store):
                with pytest.raises(StoreError, match="another program") as caught:
                    act()
                assert str(path) in str(caught.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all", b"x" * 100_000])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with closing(SQLiteStore(path)) as store:
        for act in reading_and_writing(store):
            with pytest.raises(StoreError) as caught:
                act()
            assert ID in str(caught.value)
            assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("metadata", ["[1]", "null", "", "{"])
def test_metadata_that_is_no_object_is_damage(
    store: SQLiteStore, path: Path, metadata: str
) -> None:
    """Taken for a part of the state, it would change a thread on its way to another store."""
    store.merge(ID, [Set("a", b"1")], {"m": 1})
    with connected(path) as connection:
        connection.execute("UPDATE threads SET metadata = CAST(? AS BLOB)", (metadata,))
    for act in (store.restore, store.restore_without_renewing):
        with pytest.raises(StoreError, match=f"{ID} is damaged"):
            act(ID)


def test_a_row_that_was_edited_by_hand_is_read(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b'"1"'), Push("l", b"1"), Set("long", b'"%s"' % (b"x" * 2_000))])
    store.merge(ID, [], {"m": 1})
    before = store.restore(ID)
    with connected(path) as connection:
        for table, column in (
            ("threads", "metadata"),
            ("thread_entries", "value"),
            ("segments", "body"),
        ):
            connection.execute(f"UPDATE {table} SET {column} = CAST({column} AS TEXT)")
    assert store.restore(ID) == before
    store.merge(ID, [Push("l", b"2"), Set("a", b"2")], {"m": 2})
    assert store.restore(ID) == (
        b'{"state":{"a":2,"l":[1,2],"long":"%s"},"metadata":{"m":2}}' % (b"x" * 2_000)
    )


def test_a_folder_in_the_place_of_the_file_is_a_store_error(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path)) as store, pytest.raises(StoreError):
        store.read(ID)


def test_damage_of_one_thread_leaves_the_others(store: SQLiteStore, path: Path) -> None:
    for thread_id in (ID, OTHER):
        store.merge(thread_id, [*messages(100), Set("a", b'{"b":1}')])
    with connected(path) as connection:
        connection.execute(
            "UPDATE segments SET body = CAST('{\"cut' AS BLOB) WHERE number ="
            " (SELECT min(number) FROM segments)"
        )
    with pytest.raises(StoreError, match=ID):
        store.restore(ID)
    assert store.restore(OTHER) is not None
    store.merge(OTHER, messages(1))
    # A push does not read the list, so it is taken; nothing is overwritten.
    store.merge(ID, messages(1))
    with pytest.raises(StoreError, match=ID):
        store.restore(ID)


@pytest.mark.parametrize(("synchronous", "number"), [("normal", 1), ("full", 2)])
def test_synchronous(path: Path, synchronous: str, number: int) -> None:
    with closing(SQLiteStore(path, synchronous=synchronous)) as store:
        store.merge(ID, [Set("a", b"1")])
        for connection in store._connections._idle:
            assert connection.execute("PRAGMA synchronous").fetchone() == (number,)


def test_a_closed_store_says_so(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read(ID)
    # The last to leave has put the log away.
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(url: str, **options: Any) -> SQLiteStore:
        store = open_store(url, **options)
        assert isinstance(store, SQLiteStore)
        store.close()
        return store

    monkeypatch.chdir(tmp_path)
    assert opened("sqlite:///a.db").path == tmp_path / "a.db"
    assert opened("sqlite:///a.db", folder="/some/folder").path == Path("/some/folder/a.db")
    assert opened(f"sqlite:///{tmp_path}/b%20c.db", folder="/some").path == tmp_path / "b c.db"
    store = opened("sqlite:///a.db?timeout=0.5&synchronous=FULL", ttl=5, max_bytes=10)
    assert (store.ttl, store.max_bytes) == (5, 10)
    assert store._connections._timeout == 0.5
    assert store._connections._synchronous == "full"


def test_the_name_of_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    # As os.environ has it.
    store = open_store(f"sqlite:///{tmp_path}/a\udcff.db")
    assert store.restore("thrd_" + "0" * 32) is None
    store.close()
    (file,) = tmp_path.iterdir()
    assert os.fsencode(file.name) == b"a\xff.db"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://a.db", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?mode=ro", "mode"),
        ("sqlite:///a.db?timeout=soon", "timeout=soon"),
        ("sqlite:///a.db?timeout=-1", "timeout=-1"),
        ("sqlite:///a.db?timeout=nan", "timeout=nan"),
        ("sqlite:///a.db?timeout=", "timeout="),
        ("sqlite:///a.db?timeout=1e12", "timeout=1e12"),
        ("sqlite:///a.db?synchronous=off", "off"),
        ("sqlite:///a.db?synchronous=", "normal"),
        ("sqlite:///a.db?timeout=5#b", "timeout=5#b"),
        ("sqlite:///who?.db", "%3F"),
        ("sqlite:///a%00b.db", "names no file"),
        ("sqlite:///a\ud83d.db", "names no file"),
    ],
)
def test_a_wrong_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert reason in str(caught.value)
    assert "llowed" in str(caught.value)


def test_a_store_that_nothing_uses_closes_its_connections(path: Path) -> None:
    """Since Python 3.13, sqlite3 would warn of each of them."""
    store = SQLiteStore(path)
    store.merge(ID, [Set("a", b"1")])
    (connection,) = store._connections._idle
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
