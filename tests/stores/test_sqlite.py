"""What is particular to the SQLite store: its file, what it writes, whom it waits for."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ConfigurationError, StateTooLarge, StoreError
from flask_agentuity.stores import open_store
from flask_agentuity.stores.sqlite.schema import APPLICATION_ID, FORMAT_VERSION, SEGMENT_BYTES
from flask_agentuity.stores.sqlite.store import SQLiteStore

ID = "thrd_0123456789abcdef0123456789abcdef"
OTHER = "thrd_" + "f" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, timeout=30)) as store:
        yield store


def other(path: Path) -> Any:
    """Return a connection of somebody else to the file."""
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
        connection.set_trace_callback(None)


def steps_of(store: SQLiteStore, act: Callable[[], object]) -> int:
    """Return how many steps of SQLite's machine *act* takes."""
    taken: list[None] = []
    (connection,) = store._connections._idle
    connection.set_progress_handler(lambda: taken.append(None), 1)
    act()
    connection.set_progress_handler(None, 1)
    return len(taken)


def messages(count: int) -> list[Push]:
    return [Push("messages", b'{"n":%d,"text":"%s"}' % (n, b"x" * 180)) for n in range(count)]


# ----------------------------------------------------------------------- what it costs


def wal_bytes(path: Path, act: Callable[[SQLiteStore], object]) -> int:
    with closing(SQLiteStore(path)) as store:
        store.read(OTHER)
        with other(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
        act(store)
        return log.stat().st_size


@pytest.mark.parametrize("size", [1, 180, 1500, 5000])
@pytest.mark.parametrize("windowed", [False, True])
def test_a_push_writes_the_same_at_any_length(tmp_path: Path, size: int, windowed: bool) -> None:
    written = []
    # With a window every push takes from the first segment too, so there has to be one.
    for count in (100 if windowed else 10, 4_000):
        path = tmp_path / f"{count}.db"
        with closing(SQLiteStore(path, max_bytes=50_000_000)) as store:
            store.merge(ID, messages(count))
            if not windowed:
                store.merge(ID, [Set("other", b"1"), *messages(7)])
        window = count if windowed else None
        push = Push("messages", b'"%s"' % (b"y" * size), window)

        def act(store: SQLiteStore, push: Push = push) -> None:
            for _ in range(20):
                store.merge(ID, [push])

        written.append(wal_bytes(path, act))
    assert written[1] <= 1.5 * written[0], written


def test_a_small_key_is_read_without_the_history(store: SQLiteStore) -> None:
    def steps(thread_id: str, count: int, key: str) -> int:
        long = Set("long", b'"%s"' % (b"l" * 5000))
        store.merge(thread_id, [*messages(count), Set("name", b'"Ada"'), long])
        snapshot = store.read(thread_id, (key,))
        assert snapshot is not None
        wanted = {name: value for name, value in snapshot.encoded.items() if name != "name"}
        assert snapshot.encoded["name"] == b'"Ada"'
        assert [name for name, value in wanted.items() if value is not None] == (
            [] if key == "name" else [key]
        )
        return steps_of(store, lambda: store.read(thread_id, (key,)))

    assert steps(ID, 10, "name") == steps(OTHER, 1_000, "name")
    # The test can see a history that is read.
    assert steps(OTHER, 1, "messages") > steps(ID, 1, "messages") + 50


def test_the_statements_of_a_read_and_of_a_push(store: SQLiteStore) -> None:
    """Each lets other threads of the process run, and so costs more than its work."""
    store.merge(ID, [*messages(10), Set("name", b'"Ada"'), Set("other", b"[1]")])
    for keys in (None, (), ("messages",), ("messages", "name", "missing")):
        with statements(store) as traced:
            store.read(ID, keys)
        assert len(traced) == 1
    with statements(store) as traced:
        store.merge(ID, messages(2))
    assert len(traced) == 5
    with statements(store) as traced:
        store.merge(ID, [*messages(2), Push("other", b"2")])
    assert len(traced) == 6


def test_a_segment_is_no_longer_than_a_page(store: SQLiteStore, path: Path) -> None:
    for number in range(100):
        store.merge(ID, messages(1 + number % 3))
    with other(path) as connection:
        sizes = [size for (size,) in connection.execute("SELECT length(body) FROM segments")]
    assert max(sizes) <= SEGMENT_BYTES
    # And most of a page is used.
    assert min(sizes[:-1]) > SEGMENT_BYTES * 0.8


@pytest.mark.parametrize("room", [0, 1, 2, 60, 65, 120, 200])
def test_pushes_up_to_the_last_byte(path: Path, room: int) -> None:
    with closing(SQLiteStore(path)) as store:
        store.merge(ID, [Push("messages", b'"first"')], {"m": "x" * 50})
        size = len(store.restore(ID) or b"")
        item = b'"%s"' % (b"y" * 10)
        store.max_bytes = size + 3 * (len(item) + 1) + room
        for _ in range(3):
            store.merge(ID, [Push("messages", item)])
        fitting = room // (len(item) + 1)
        for _ in range(fitting):
            store.merge(ID, [Push("messages", item)])
        with pytest.raises(StateTooLarge):
            store.merge(ID, [Push("messages", item)])
        assert len(store.restore(ID) or b"") == size + (3 + fitting) * (len(item) + 1)
        assert store.list().threads[0].size == len(store.restore(ID) or b"")


def test_many_keys_in_one_merge(store: SQLiteStore) -> None:
    """More than SQLite would take as arguments of one statement."""
    keys = [f"key {number}" for number in range(300_000)]
    store.max_bytes = 100_000_000
    store.merge(ID, [Set(key, b"1") for key in keys])
    store.merge(ID, [Set(key, b"2") for key in keys])
    snapshot = store.read(ID, keys)
    assert snapshot is not None
    assert snapshot.encoded == dict.fromkeys(keys, b"2")


def test_threads_of_one_process_write_one_after_the_other(path: Path) -> None:
    """Whoever waits is woken: SQLite would have it look again after up to 100 milliseconds."""
    with closing(SQLiteStore(path, timeout=0.05)) as store:
        store.merge(ID, messages(1))
        with store._connections.write(), pytest.raises(StoreError, match="of this process"):
            store.merge(ID, messages(1))
        store.merge(ID, messages(1))
        done: list[int] = []
        store._connections._timeout = 30.0
        writers = [
            threading.Thread(target=lambda: [done.append(store.merge(ID, messages(1)) or 1)])
            for _ in range(4)
        ]
        with store._connections.write():
            for writer in writers:
                writer.start()
            # Only the one that writes has a connection.
            assert len(store._connections._lent) == 1
            assert done == []
        for writer in writers:
            writer.join(30)
        assert done == [1] * 4


def test_a_read_writes_nothing(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, messages(10))
    assert not wal_bytes(path, lambda store: [store.read(ID) for _ in range(10)])


def test_writes_are_short_transactions_that_begin_at_once(store: SQLiteStore) -> None:
    store.merge(ID, messages(1))
    with statements(store) as traced:
        store.merge(ID, [*messages(2), Set("a", b"1")], {"m": 1})
    assert traced[0] == "BEGIN IMMEDIATE"
    assert traced.count("COMMIT") == 1


# ------------------------------------------------------------------------------ its time


def updates(traced: list[str]) -> list[str]:
    return [statement for statement in traced if statement.startswith("UPDATE threads SET used")]


def test_a_read_renews_a_thread_at_most_once_in_a_tenth_of_its_time(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        store.merge(ID, [Set("a", b"1")])
        for elapsed, renews in [(50, 0), (49, 0), (2, 1), (50, 0), (49, 0), (2, 1), (100, 0)]:
            time.tick(elapsed)
            with statements(store) as traced:
                assert store.read(ID) is not None
            assert len(updates(traced)) == renews
        for _ in range(30):
            time.tick(900)
            assert store.read(ID) is not None
        time.tick(1001)
        assert store.read(ID) is None
        assert store.restore(ID) is None


def test_a_thread_that_never_expires(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=None)) as store:
        store.merge(ID, [Set("a", b"1")])
        time.tick(100 * 365 * 86_400)
        assert store.read(ID) is not None
        assert store.purge() == 0


def test_a_write_to_an_expired_thread_starts_afresh(path: Path) -> None:
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=10)) as store:
        store.merge(ID, [Set("a", b"1")], {"m": 1})
        time.tick(11)
        store.merge(ID, [Set("b", b"2")])
        assert store.restore(ID) == b'{"state":{"b":2}}'


def test_expired_threads_are_purged_in_small_batches(path: Path) -> None:
    ids = [f"thrd_{number:032x}" for number in range(53)]
    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in ids:
            store.merge(thread_id, messages(30))
        time.tick(900)
        store.merge(ID, messages(30))
        time.tick(101)
        with statements(store) as traced:
            assert store.purge() == 53
        assert traced.count("COMMIT") == 3
        assert store.read(ID) is not None
    with other(path) as connection:
        assert connection.execute("SELECT count(*) FROM threads").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM state_entries").fetchone() == (1,)
        (left,) = connection.execute("SELECT count(DISTINCT number >> 24) FROM segments").fetchone()
        assert left == 1


def test_writes_purge_some_expired_threads_now_and_then(path: Path) -> None:
    ids = [f"thrd_{number:032x}" for number in range(45)]

    def left() -> int:
        with other(path) as connection:
            return int(connection.execute("SELECT count(*) FROM threads").fetchone()[0])

    with freeze_time("2026-01-01") as time, closing(SQLiteStore(path, ttl=1000)) as store:
        for thread_id in ids:
            store.merge(thread_id, [Set("a", b"1")])
        time.tick(2000)
        counts = []
        for _ in range(4):
            store.merge(ID, [Set("a", b"1")])
            counts.append(left())
        # Never more than a batch in one write.
        assert counts == [26, 6, 1, 1]


# -------------------------------------------------------------------------------- others


def test_a_busy_database_is_waited_for(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    with other(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=store.merge, args=(ID, [Set("a", b"2")]))
        writer.start()
        # A read does not wait for a writer.
        assert store.restore(ID) == b'{"state":{"a":1}}'
        connection.execute("COMMIT")
        writer.join(30)
    assert store.restore(ID) == b'{"state":{"a":2}}'


def test_a_database_that_stays_busy_is_a_store_error(path: Path) -> None:
    with closing(SQLiteStore(path, timeout=0.05)) as store:
        store.merge(ID, [Set("a", b"1")])
        with other(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for act in (
                lambda: store.merge(ID, [Set("a", b"2")]),
                lambda: store.save(ID, b"{}"),
                lambda: store.delete(ID),
            ):
                with pytest.raises(StoreError, match=f"{ID}.*locked") as caught:
                    act()
                assert str(path) in str(caught.value)
            assert store.restore(ID) == b'{"state":{"a":1}}'
        store.merge(ID, [Set("a", b"2")])
        assert store.restore(ID) == b'{"state":{"a":2}}'


def test_a_thread_is_read_also_when_its_use_cannot_be_noted(path: Path) -> None:
    with (
        freeze_time("2026-01-01") as time,
        closing(SQLiteStore(path, ttl=1000, timeout=0)) as store,
    ):
        store.merge(ID, [Set("a", b"1")])
        time.tick(500)
        with other(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert store.read(ID) is not None


# ------------------------------------------------------------------------------- its file


def test_the_file_says_what_it_is(store: SQLiteStore, path: Path) -> None:
    assert not path.exists()
    store.merge(ID, [Set("a", b"1")])
    with other(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)


def test_the_folder_of_the_file_is_made_at_the_first_use(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "threads.db"
    with closing(SQLiteStore(path)) as store:
        assert not path.parent.exists()
        assert store.read(ID) is None
        assert path.exists()


@pytest.mark.parametrize(("version", "remedy"), [(1, "Install"), (-2, "export")])
def test_another_format_is_left_alone(
    store: SQLiteStore, path: Path, version: int, remedy: str
) -> None:
    store.merge(ID, [Set("a", b"1")])
    store.close()
    with other(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + version}")
    with closing(SQLiteStore(path)) as another:
        for act in (lambda: another.read(ID), lambda: another.merge(ID, [Set("a", b"2")])):
            with pytest.raises(StoreError) as caught:
                act()
            assert f"format {FORMAT_VERSION + version}" in str(caught.value)
            assert str(path) in str(caught.value)
            assert remedy in str(caught.value)


def test_the_file_of_another_program_is_left_as_it_is(path: Path) -> None:
    for prepare in ("PRAGMA user_version = 7", "PRAGMA application_id = 7", "SELECT 1"):
        path.unlink(missing_ok=True)
        with other(path) as connection:
            connection.execute("CREATE TABLE threads (theirs)")
            connection.execute(prepare)
        before = path.read_bytes()
        with closing(SQLiteStore(path)) as store:
            for act in (lambda: store.read(ID), lambda: store.merge(ID, [Set("a", b"1")])):
                with pytest.raises(StoreError, match="another program") as caught:
                    act()
                assert str(path) in str(caught.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all", b"x" * 100_000])
def test_what_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with closing(SQLiteStore(path)) as store:
        for act in (lambda: store.read(ID), lambda: store.merge(ID, [Set("a", b"1")])):
            with pytest.raises(StoreError) as caught:
                act()
            assert ID in str(caught.value)
            assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("metadata", ["[1]", "null", "", "{"])
def test_metadata_that_is_none_is_damage(store: SQLiteStore, path: Path, metadata: str) -> None:
    """Taken for a part of the state, it would change a thread on its way to another store."""
    store.merge(ID, [Set("a", b"1")], {"m": 1})
    with other(path) as connection:
        connection.execute("UPDATE threads SET metadata = CAST(? AS BLOB)", (metadata,))
    for act in (store.restore, store.peek):
        with pytest.raises(StoreError, match=f"{ID} is damaged"):
            act(ID)


def test_a_row_that_was_mended_by_hand_is_read(store: SQLiteStore, path: Path) -> None:
    store.merge(ID, [Set("a", b'"1"'), Push("l", b"1"), Set("long", b'"%s"' % (b"x" * 2_000))])
    store.merge(ID, [], {"m": 1})
    before = store.restore(ID)
    with other(path) as connection:
        for table, column in (
            ("threads", "metadata"),
            ("state_entries", "value"),
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
    with other(path) as connection:
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


# ------------------------------------------------------------------------------- the URL


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


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://a.db", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?mode=ro", "mode=ro"),
        ("sqlite:///a.db?timeout=soon", "timeout=soon"),
        ("sqlite:///a.db?timeout=-1", "timeout=-1"),
        ("sqlite:///a.db?timeout=nan", "timeout=nan"),
        ("sqlite:///a.db?timeout=", "timeout="),
        ("sqlite:///a.db?synchronous=off", "off"),
        ("sqlite:///a.db?synchronous=", "normal"),
    ],
)
def test_a_wrong_url_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert told in str(caught.value)
    assert "llowed" in str(caught.value)
