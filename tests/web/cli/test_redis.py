"""``flask threads`` with Redis, and moving from SQLite to Redis and back."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import ID, Runner, contents, export_lines, new_id, runner_of
from .test_transfer import exported_threads

redis_server = pytest.importorskip("support.redis_server")
redis = pytest.importorskip("flask_agentuity.stores.redis")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with redis_server.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def store(server: Any) -> Iterator[ThreadStore]:
    """An empty store, with its own prefix."""
    options = {"timeout": redis_server.PATIENCE, "prefix": f"{new_id()}:"}
    with closing(redis.RedisStore.from_url(server.url, **options)) as store:
        yield store


@pytest.fixture
def threads(store: ThreadStore) -> Runner:
    return runner_of(store)


def test_check(threads: Runner, store: ThreadStore, server: Any) -> None:
    result = threads("check", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["store"], report["ok"]) == ("RedisStore", True)
    # The thread that it wrote has been deleted.
    assert contents(store) == {}
    result = runner_of(server.url)("check")
    assert result.exit_code == 0
    assert server.url in result.stdout


@pytest.mark.parametrize(
    ("options", "ttl", "told"),
    [
        (("--appendonly", "yes"), 60, []),
        (("--save", "60 1"), 60, []),
        ((), 60, ["on disk"]),
        (("--save", "60 1", "--maxmemory-policy", "allkeys-lru"), 60, []),
        (("--save", "60 1", "--maxmemory", "1gb"), 60, []),
        (("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"), 60, ["allkeys-lru", "disk"]),
        (
            ("--save", "1 1", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"),
            None,
            ["lfu"],
        ),
        (
            ("--save", "1 1", "--maxmemory", "1gb", "--maxmemory-policy", "volatile-ttl"),
            60,
            ["ttl"],
        ),
        (("--save", "1 1", "--maxmemory", "1gb", "--maxmemory-policy", "volatile-ttl"), None, []),
    ],
)
def test_check_says_what_redis_may_lose(
    tmp_path: Path, options: tuple[str, ...], ttl: float | None, told: list[str]
) -> None:
    with redis_server.running(tmp_path, *options) as server:
        store = redis.RedisStore.from_url(server.url, timeout=redis_server.PATIENCE, ttl=ttl)
        result = runner_of(store)("check", "--json")
        store.close()
    assert result.exit_code == 0
    warnings = json.loads(result.stdout)["warnings"]
    assert len(warnings) == len(told)
    for warning, words in zip(warnings, told, strict=True):
        assert words in warning


def test_check_with_a_user_who_may_not_ask(server: Any, store: ThreadStore) -> None:
    with closing(server.client()) as client:
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            categories=["+@all"],
            commands=["-config", "-info"],
        )
    url = server.url.replace("//", "//app:secret@")
    with closing(redis.RedisStore.from_url(url, timeout=redis_server.PATIENCE)) as limited:
        result = runner_of(limited)("check", "--json")
    assert result.exit_code == 0
    (warning,) = json.loads(result.stdout)["warnings"]
    assert "no permission for INFO" in warning


def test_check_says_how_to_fix_it(server: Any, tmp_path: Path) -> None:
    prefix = f"{new_id()}:"

    def error(url: str) -> str:
        with closing(
            redis.RedisStore.from_url(url, timeout=redis_server.PATIENCE, prefix=prefix)
        ) as store:
            result = runner_of(store)("check", "--json")
        assert result.exit_code == 1
        return str(json.loads(result.stdout)["error"])

    with closing(server.client()) as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@read"]
        )
        client.set(f"{prefix}{{0}}", "of another program")
    told = error(server.url)
    assert f"{prefix}{{0}}" in told
    assert "prefix" in told
    assert "script" not in told
    assert "+@all -@dangerous +info" in error(server.url.replace("//", "//reader:secret@"))
    assert "percent-encoded" in error(server.url.replace("//", "//reader:wrong@"))
    with redis_server.running(tmp_path, "--requirepass", "secret", ready=b"-NOAUTH") as closed:
        assert "redis://USER:PASSWORD@HOST" in error(closed.url)
    with redis_server.running(tmp_path, "--maxmemory", "1") as full:
        assert "Raise its maxmemory" in error(full.url)


def test_a_user_with_what_the_error_says_may_do_all(server: Any) -> None:
    with closing(server.client()) as client:
        client.acl_setuser(
            "threads",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            channels=["*"],
            categories=["+@all", "-@dangerous"],
            commands=["+info"],
        )
        client.script_flush()
    url = server.url.replace("//", "//threads:secret@")
    options = {"timeout": redis_server.PATIENCE, "prefix": f"{new_id()}:"}
    with closing(redis.RedisStore.from_url(url, **options)) as store:
        assert runner_of(store)("check").exit_code == 0
        store.merge(new_id(), [Push("l", b"1", 5)], {"m": 1})
        assert len(store.list({"m": 1}).threads) == len(list(store.scan())) == 1
        assert store.purge() == 0


def test_list_in_pages_and_by_metadata(threads: Runner, store: ThreadStore) -> None:
    ids = []
    for number in range(7):
        ids.append(new_id())
        store.merge(ids[-1], [Set("a", b"1")], {"owner": "ada" if number % 2 else "bob", "n": 1})
    result = threads("list", "--json", "--limit", "4")
    first = json.loads(result.stdout)
    rest = json.loads(threads("list", "--json", "--cursor", first["cursor"]).stdout)
    assert [thread["id"] for thread in first["threads"] + rest["threads"]] == ids[::-1]
    assert rest["cursor"] is None
    result = threads("list", "--where", "owner=ada", "--where", "n=1")
    assert result.exit_code == 0
    header, *lines = result.stdout.splitlines()
    assert header.split()[0] == "ID"
    assert [line.split()[0] for line in lines] == ids[1::2][::-1]
    assert all(" in 7 days " in line for line in lines)
    assert threads("list", "--cursor", "nonsense").exit_code == 2


def test_show_and_delete(threads: Runner, store: ThreadStore) -> None:
    thread_id = new_id()
    store.merge(thread_id, [Push("l", b'{"role":"user","content":"Hello"}')], {"owner": "ada"})
    assert "user: Hello" in threads("show", thread_id).stdout
    assert threads("delete", thread_id, "-y").exit_code == 0
    assert threads("show", thread_id).exit_code == 1
    assert threads("list").stdout == "No threads.\n"


def test_the_beginning_of_an_id_is_enough(threads: Runner, store: ThreadStore) -> None:
    store.merge(ID, [Set("a", b"1")])
    assert json.loads(threads("show", ID[:9], "--json").stdout)["id"] == ID
    assert threads("backup", "copy.db").exit_code == 1


def test_purge(store: Any, server: Any) -> None:
    ids = [new_id() for _ in range(30)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")])
    with closing(server.client()) as client:
        # As when Redis expires a thread: its index is not updated.
        client.delete(*(f"{store.prefix}{{0}}:{thread_id}" for thread_id in ids[10:]))
    runner = runner_of(store)
    assert runner("purge", "--json", input="n\n").exit_code == 1
    result = runner("purge", "--json", input="y\n")
    assert json.loads(result.stdout) == {"removed": 20}
    result = runner("purge", "-y")
    assert (result.stdout, result.stderr) == ("Removed 0 expired threads.\n", "")
    assert sorted(contents(store)) == sorted(ids[:10])


@pytest.mark.parametrize("damage", ["wrong type", "junk", "no head", "metadata", "no metadata"])
def test_a_damaged_thread_is_named_by_an_export(
    store: Any, threads: Runner, server: Any, tmp_path: Path, damage: str
) -> None:
    ids = [new_id() for _ in range(3)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")], {"m": 1})
    with closing(server.client()) as client:
        name = f"{store.prefix}{{0}}:{ids[1]}"
        if damage == "junk":
            client.hset(name, "head", "junk")
        elif damage == "no head":
            client.hdel(name, "head")
        elif damage == "metadata":
            client.hset(name, "metadata", "[1]")
        elif damage == "no metadata":
            client.hset(name, "metadata", "")
        else:
            client.delete(name)
            client.set(name, "something else")
    file = tmp_path / "threads.jsonl"
    result = threads("export", str(file), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"exported": 2, "damaged": [ids[1]]}
    assert ids[1] in result.stderr
    assert len(file.read_bytes().splitlines()) == 2


def test_export_and_import(store: ThreadStore, threads: Runner, tmp_path: Path) -> None:
    for number in range(30):
        store.merge(
            new_id(),
            [Set("n", b"%d" % number), *[Push("l", b'"x"', 3)] * number],
            {"owner": "Zoë" if number % 3 else None},
        )
    assert len(export_lines(threads, "--where", 'owner="Zoë"')) == 20
    file = tmp_path / "threads.jsonl"
    assert threads("export", file).exit_code == 0
    before = contents(store)
    result = threads("import", file, "--json")
    assert json.loads(result.stdout) == {"imported": 0, "skipped": 30, "damaged_lines": []}
    for thread_id in before:
        store.delete(thread_id)
    result = threads("import", file, "--json")
    assert json.loads(result.stdout) == {"imported": 30, "skipped": 0, "damaged_lines": []}
    assert contents(store) == before


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(st.lists(exported_threads, min_size=1, max_size=4))
def test_nothing_is_lost_on_the_way_through_redis(store: ThreadStore, made: list[Any]) -> None:
    first, last = MemoryStore(ttl=None), MemoryStore(ttl=None)
    for state, metadata, created, updated in made:
        document = codec.join_document({key: codec.encode(value) for key, value in state.items()})
        first.import_thread(ListedThread(new_id(), metadata, created, updated, 0), document)
    with tempfile.TemporaryDirectory() as folder:
        for source, target in ((first, store), (store, last)):
            file = Path(folder) / f"{type(source).__name__}.jsonl"
            assert runner_of(source)("export", file).exit_code == 0
            assert runner_of(target)("import", file).exit_code == 0
            assert contents(target) == contents(first)
            assert target.list(limit=9) == first.list(limit=9)
    for thread_id in contents(store):
        store.delete(thread_id)


def test_many_threads_move_from_sqlite_to_redis_and_back(
    store: ThreadStore, tmp_path: Path
) -> None:
    """What is exported after each step is the same, byte for byte, times and order included."""
    count = 1_000
    chance = random.Random(1)
    now = time.time()
    with (
        closing(SQLiteStore(tmp_path / "first.db")) as first,
        closing(SQLiteStore(tmp_path / "last.db")) as last,
    ):
        for number in range(count):
            # Some of one moment, some on a moment that no fraction of a second is exactly.
            updated = now - chance.choice([number // 50, number * 0.1, chance.random() * 1e6])
            content = '"é😀, ]}\\\n' * chance.randint(0, 9)
            messages = [{"role": "user", "content": content}] * chance.randint(0, 9)
            state = {"messages": messages, "n": number, "text": "x" * chance.choice([0, 2_000])}
            document = codec.join_document({key: codec.encode(state[key]) for key in state})
            metadata = {"owner": f"user {number % 700}", "tags": [number], "title": content[:30]}
            created = updated - chance.random() * 1e6
            first.import_thread(ListedThread(new_id(), metadata, created, updated, 0), document)
        files: list[Path] = []
        for source, target in ((first, store), (store, last), (last, None)):
            files.append(tmp_path / f"{len(files)}.jsonl")
            assert runner_of(source)("export", files[-1]).exit_code == 0
            if target:
                result = runner_of(target)("import", files[-1], "--json")
                expected = {"imported": count, "skipped": 0, "damaged_lines": []}
                assert json.loads(result.stdout) == expected
        # An export has no order.
        lines = [sorted(file.read_bytes().splitlines()) for file in files]
        assert lines[0] == lines[1] == lines[2]
        assert len(lines[0]) == count
        wanted = {"owner": "user 123"}
        assert store.list(wanted, limit=50) == first.list(wanted, limit=50)
