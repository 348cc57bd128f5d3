from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set
from flask_agentuity.errors import (
    AuthenticationFailed,
    ConfigurationError,
    OutcomeUnknown,
    ServiceUnavailable,
    StateTooLarge,
    StoreError,
)
from flask_agentuity.stores import ListedThread, listing
from flask_agentuity.stores.redis import store as stores_redis
from flask_agentuity.stores.redis.store import RedisStore

from .conformance import new_id, pushes
from .counting_proxy import counting
from .redis_server import (
    PATIENCE,
    RedisServer,
    asked,
    eventually,
    free_port,
    measured,
    pass_time,
    running,
)

MESSAGE = b'{"role":"user","content":"%b"}' % (b"x" * 170)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with closing(redis_server.client()) as client:
        yield client


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    with closing(RedisStore.from_url(redis_server.url, timeout=PATIENCE)) as store:
        yield store


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may stop, and that loses nothing it has acknowledged."""
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def thread_id() -> str:
    return new_id()


def name(thread_id: str, key: str | None = None) -> str:
    """Return the name of a thread's hash, or of the string of one of its keys."""
    return f"agentuity:{{0}}:{thread_id}" + ("" if key is None else f'."{key}"')


def contents(client: redis.Redis) -> dict[bytes, object]:
    """Return everything that is stored, by the names of keys."""
    read: dict[bytes, Callable[[bytes], object]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


# What a call costs


@pytest.mark.parametrize("window", [None, 3_900])
def test_a_push_costs_the_same_at_any_length(
    store: RedisStore, client: redis.Redis, window: int | None
) -> None:
    def cost(stored: int) -> tuple[dict[str, int], int, int]:
        thread_id = new_id()
        store.merge(thread_id, [Push("messages", MESSAGE)] * stored)
        store.merge(thread_id, [Push("messages", MESSAGE, window)])

        def push() -> None:
            for _ in range(100):
                store.merge(thread_id, [Push("messages", MESSAGE, window)])

        return measured(client, push)

    short_commands, short_in, short_out = cost(10)
    long_commands, long_in, long_out = cost(4_000)
    assert short_commands["evalsha"] == long_commands["evalsha"] == 100
    assert long_in <= short_in * 1.01
    # The reply is the document's size, which has more digits.
    assert long_out <= short_out + 100 * 5
    # A window that slides has the first segment to cut besides the last one to append to.
    limit = 1.02 if window is None else 1.5
    assert sum(long_commands.values()) <= sum(short_commands.values()) * limit


def test_one_small_key_is_read_without_the_history(store: RedisStore, client: redis.Redis) -> None:
    def cost(stored: int) -> int:
        thread_id = new_id()
        store.merge(
            thread_id, [Set("title", b'"t"'), *[Push("messages", MESSAGE)] * stored], {"m": 1}
        )
        store.read(thread_id, ["title"])
        _, _, written = measured(client, lambda: store.read(thread_id, ["title"]))
        return written

    assert cost(4_000) <= cost(10) + 20


def test_every_call_is_one_round_trip(redis_server: RedisServer, thread_id: str) -> None:
    with (
        counting(redis_server.port) as proxy,
        closing(RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")) as store,
    ):
        # Connects, and makes the server know the scripts.
        store.merge(thread_id, [Push("messages", MESSAGE)] * 500)
        store.read(thread_id)
        store.delete(new_id())
        store.list()
        calls: list[Callable[[], object]] = [
            lambda: store.restore(thread_id),
            lambda: store.read(thread_id),
            lambda: store.read(thread_id, ["messages", "a", "b"]),
            lambda: store.read(thread_id, []),
            lambda: store.merge(thread_id, [Push("messages", MESSAGE), Set("a", b"1")], {"m": 1}),
            lambda: store.save(thread_id, b'{"state":{"l":[1,2]}}'),
            lambda: store.list(),
            lambda: store.list({"owner": "ada"}, limit=1, cursor=listing.encode_cursor(5.0, "a")),
            lambda: store.adopt(ListedThread(thread_id, {}, 5.0, time.time() + 9, 0), b'{"a":1}'),
            lambda: store.delete(thread_id),
        ]
        for call in calls:
            before = proxy.round_trips
            call()
            assert proxy.round_trips == before + 1
        assert proxy.connections == 1


@pytest.mark.parametrize("way", ["a change", "many changes", "an end"])
def test_what_comes_in_two_packets_does_not_belong_together(
    store: RedisStore, thread_id: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Another's change lies between them, as long as what is read, so that only versions tell."""
    store.merge(thread_id, [Set("a", b"1"), Set("l", b"[1]")], {"m": 1})
    between = {"a change": 1, "many changes": 3, "an end": 0}[way]
    done: list[int] = []

    def in_two_packets(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
        replies = exchange(connection, *commands[:1])
        if len(done) < max(between, 1):
            done.append(len(done) + 2)
            if between:
                value = b"%d" % done[-1]
                changes = [Set("a", value), Set("l", b"[%b]" % value)]
                store.merge(thread_id, changes, {"m": done[-1]})
            else:
                store.delete(thread_id)
        return replies + exchange(connection, *commands[1:])

    exchange = stores_redis.exchange
    monkeypatch.setattr(stores_redis, "exchange", in_two_packets)
    snapshot = store.read(thread_id, ["l"])
    if way == "an end":
        assert snapshot is None
        return
    last = b"%d" % done[-1]
    assert snapshot == Snapshot({"a": last, "l": b"[%b]" % last}, b'{"m":%b}' % last)
    assert len(done) == between


def test_a_push_between_two_packets(
    store: RedisStore, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list is longer than the entries said, and is no damage."""
    store.merge(thread_id, [Push("l", b"1")])
    pushed: list[int] = []

    def in_two_packets(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
        replies = exchange(connection, *commands[:1])
        if not pushed:
            pushed.append(2)
            store.merge(thread_id, [Push("l", b"2")])
        return replies + exchange(connection, *commands[1:])

    exchange = stores_redis.exchange
    monkeypatch.setattr(stores_redis, "exchange", in_two_packets)
    assert store.read(thread_id, ["l"]) == Snapshot({"l": b"[1,2]"})


# Keys and time


def test_a_thread_is_few_keys_in_one_slot(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    text = codec.encode("x" * 2_000)
    store.merge(
        thread_id,
        [Set("a", b"1"), Set("e", b"[]"), Set("long", text), *pushes("l", range(900))],
        {"owner": "ada", "tags": ["no label"]},
    )
    expected = {
        "agentuity:{0}",
        'agentuity:{0}."owner":"ada"',
        *(name(thread_id, key) for key in (None, "l", "long")),
    }
    assert {key.decode() for key in client.scan_iter()} == expected
    store.merge(thread_id, [Set("long", b"1"), Set("l", b"[]"), Set("e", b"[1]")], {"n": True})
    expected = {
        "agentuity:{0}",
        'agentuity:{0}."n":true',
        *(name(thread_id, key) for key in (None, "e")),
    }
    assert {key.decode() for key in client.scan_iter()} == expected
    store.delete(thread_id)
    assert client.dbsize() == 0


@pytest.mark.parametrize("way", ["cleared", "emptied", "windowed", "adopted"])
def test_nothing_is_left_of_a_thread_that_is_gone(
    store: RedisStore, client: redis.Redis, thread_id: str, way: str
) -> None:
    then = time.time() - 50
    document = b'{"state":{"l":[1],"long":"%b"}}' % (b"x" * 2_000)
    store.adopt(ListedThread(thread_id, {"owner": "ada"}, then, then, 0), document)
    if way == "cleared":
        store.merge(thread_id, [Push("m", b"1"), Clear()], {})
    elif way == "emptied":
        store.merge(thread_id, [Delete("l"), Delete("long")], {})
    elif way == "windowed":
        store.merge(thread_id, [Push("l", b"1", 0), Delete("long")], {})
        assert client.dbsize() == 2
        store.merge(thread_id, [Delete("l")])
    else:
        store.adopt(ListedThread(thread_id, {}, then, time.time() + 9, 0), b"")
    assert client.dbsize() == 0


def test_a_prefix_keeps_stores_apart(redis_server: RedisServer, thread_id: str) -> None:
    with (
        closing(RedisStore.from_url(f"{redis_server.url}?prefix=one:")) as one,
        closing(RedisStore.from_url(redis_server.url, prefix="two:")) as two,
    ):
        one.merge(thread_id, [Set("a", b"1")])
        two.merge(thread_id, [Set("a", b"2")])
        assert one.restore(thread_id) == b'{"state":{"a":1}}'
        assert two.restore(thread_id) == b'{"state":{"a":2}}'
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisStore.from_url(redis_server.url, prefix="{app}")


def test_redis_removes_an_expired_thread_wholly(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    with closing(RedisStore.from_url(redis_server.url, ttl=0.05)) as store:
        store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))], {"m": 1})
        assert client.dbsize() == 4
        eventually(lambda: client.dbsize() == 0)


@pytest.mark.parametrize("keys", [["a"], None], ids=["one key", "all"])
def test_a_read_renews_once_in_a_tenth_of_the_time(
    redis_server: RedisServer, client: redis.Redis, thread_id: str, keys: list[str] | None
) -> None:
    thread, string = name(thread_id), name(thread_id, "l")
    with closing(RedisStore.from_url(redis_server.url, ttl=10_000.0)) as store:
        store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))])
        for left, renewed in ((9_500, False), (8_900, True), (20_000, True)):
            client.expire(thread, left)
            store.read(thread_id, keys)
            assert (client.ttl(thread) > 9_900) is renewed
            assert client.ttl(thread) <= 10_000
            assert client.ttl(string) >= client.ttl(thread)
        client.persist(thread)
        store.read(thread_id, keys)
        assert client.ttl(thread) > 9_900
    with closing(RedisStore.from_url(redis_server.url, ttl=None)) as store:
        store.merge(thread_id, [Set("a", b"2")])
        assert client.ttl(thread) == client.ttl(string) == client.ttl("agentuity:{0}") == -1
        store.read(thread_id, keys)
        assert client.ttl(thread) == -1


@pytest.mark.parametrize("way", ["read", "read all", "push", "set"])
def test_no_part_expires_before_its_thread(
    redis_server: RedisServer, client: redis.Redis, thread_id: str, way: str
) -> None:
    """Whatever time passes between two uses, and however often it does."""
    with closing(RedisStore.from_url(redis_server.url, ttl=1_000.0)) as store:
        start: list[Operation] = [Set("a", b"1"), Set("long", codec.encode("x" * 2_000))]
        store.merge(thread_id, [*start, *pushes("l", range(9))], {"owner": "ada"})
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: store.read(thread_id, ["l"]),
            "read all": lambda: store.restore(thread_id),
            "push": lambda: store.merge(thread_id, [Push("l", b"1")]),
            "set": lambda: store.merge(thread_id, [Set("a", b"2"), Set("m", b"[1]")]),
        }
        renewals = 0
        for seconds in (150, 30, 120, 160, 199, 1, 201, 900, 10, 110, 110, 110, 990):
            pass_time(client, seconds)
            strings = client.ttl(name(thread_id, "l"))
            calls[way]()
            renewals += client.ttl(name(thread_id, "l")) > strings
            lasting = client.ttl(name(thread_id))
            assert lasting > 1_000 * 0.9 - 1
            for key in client.scan_iter():
                assert client.ttl(key) >= lasting
        # Not each time: that would be a command for each string and each index.
        assert 4 <= renewals <= 9
        assert store.restore(thread_id) is not None


def test_another_time_to_live_is_taken_over(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    for ttl in (1_000.0, None, 500.0, 50_000.0, 10.0):
        with closing(RedisStore.from_url(redis_server.url, ttl=ttl)) as store:
            store.merge(thread_id, [Push("l", b"1")])
            thread, string = client.ttl(name(thread_id)), client.ttl(name(thread_id, "l"))
            assert thread == -1 if ttl is None else ttl - 1 <= thread <= ttl
            assert string == -1 if ttl is None else thread <= string <= 1.2 * ttl + 1
            assert store.read(thread_id) is not None


# What the world does


def test_a_server_that_has_forgotten_the_scripts(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")]),
        lambda: store.read(thread_id, ["l"]),
        lambda: store.list(),
        lambda: store.purge(),
        lambda: store.take_turn(thread_id, "a", 60),
        lambda: store.end_turn(thread_id, "a"),
        lambda: store.delete(thread_id),
    ]
    for call in calls:
        client.script_flush()
        call()
    assert store.restore(thread_id) is None
    store.merge(thread_id, [Set("a", b"1")])
    client.expire(name(thread_id), 1_000)
    client.script_flush()
    assert store.restore(thread_id) == b'{"state":{"a":1}}'
    assert client.ttl(name(thread_id)) > 1_000


def test_a_restart_under_us(own_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(own_server.url, timeout=PATIENCE)) as store:
        store.merge(thread_id, [Push("l", b"1"), *pushes("long", range(2_000))], {"m": 1})
        before = store.restore(thread_id)
        own_server.stop()
        for call in (
            lambda: store.restore(thread_id),
            lambda: store.merge(thread_id, [Push("l", b"2")]),
            lambda: store.delete(thread_id),
        ):
            with pytest.raises(ServiceUnavailable, match=thread_id):
                call()
        own_server.start()
        # No store is made anew, and what was acknowledged is there.
        assert store.restore(thread_id) == before
        store.merge(thread_id, [Push("l", b"2")])
        own_server.stop()
        own_server.start()
        store.merge(thread_id, [Push("l", b"3")])
        snapshot = store.read(thread_id, ["l"])
        assert snapshot is not None
        assert snapshot.encoded["l"] == b"[1,2,3]"


def test_a_server_that_is_loading_or_read_only_is_not_ready(
    own_server: RedisServer, thread_id: str
) -> None:
    with closing(RedisStore.from_url(own_server.url, timeout=PATIENCE, ttl=100.0)) as store:
        store.merge(thread_id, [Push("l", b"1")])
        with closing(own_server.client()) as client:
            client.expire(name(thread_id), 50)
            # A replica of nothing: it keeps what it has, and refuses to be written to.
            client.config_set("replica-read-only", "yes")
            client.replicaof("127.0.0.1", free_port())
            with pytest.raises(ServiceUnavailable, match=r"nothing was changed.*read only"):
                store.merge(thread_id, [Push("l", b"2")])
            assert store.restore(thread_id) == b'{"state":{"l":[1]}}'
            assert store.read(thread_id, ["l"]) == Snapshot({"l": b"[1]"})
            assert [thread.id for thread in store.list().threads] == [thread_id]
            client.replicaof("NO", "ONE")
        store.merge(thread_id, [Push("l", b"2")])
        assert store.restore(thread_id) == b'{"state":{"l":[1,2]}}'


def test_a_server_that_loads_its_data_is_not_ready(tmp_path: Path, thread_id: str) -> None:
    """Whatever a call sends, and however many commands that are, it has to say so."""
    # It looks after its clients once for each kilobyte that it has loaded.
    with running(tmp_path, "--rdbcompression", "no") as server:
        store = RedisStore.from_url(server.url, timeout=PATIENCE)
        store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")])
        with closing(server.client()) as client:
            client.mset({f"key {number}": "x" * 2_000 for number in range(500)})
            client.save()
        server.stop()
        options = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
        loading = RedisServer(tmp_path, *options, port=server.port)
        loading.start(ready=b"-LOADING")
        try:
            calls: list[Callable[[], object]] = [
                lambda: store.read(thread_id, ["l"]),
                lambda: store.restore(thread_id),
                lambda: store.merge(thread_id, [Push("l", b"2")]),
                store.list,
                store.purge,
                lambda: store.delete(thread_id),
                lambda: store.take_turn(thread_id, "me", 10),
            ]
            for call in calls:
                with pytest.raises(ServiceUnavailable, match="loading"):
                    call()
            with closing(loading.client()) as client:
                client.config_set("key-load-delay", 0)
                eventually(lambda: b"PONG" in asked(loading.port))
            store.merge(thread_id, [Push("l", b"3")])
            assert store.restore(thread_id) == b'{"state":{"l":[1,3],"a":1}}'
        finally:
            loading.stop()
            store.close()


def test_redis_without_memory_refuses_what_grows_only(
    own_server: RedisServer, thread_id: str
) -> None:
    with (
        closing(RedisStore.from_url(own_server.url, timeout=PATIENCE)) as store,
        closing(own_server.client()) as client,
    ):
        text = codec.encode("x" * 2_000)
        store.merge(thread_id, [Set("a", text), *pushes("l", range(900))], {"m": 1})
        before = store.restore(thread_id)
        client.config_set("maxmemory", 1)
        growing: list[list[Operation]] = [
            [Push("l", b"1")],
            [Set("b", text), Delete("l"), Set("c", codec.encode("x" * 10_000))],
        ]
        for changes in growing:
            with pytest.raises(StoreError, match=f"(?s){thread_id}.*maxmemory"):
                store.merge(thread_id, changes, {"m": 2})
            assert store.restore(thread_id) == before
        with pytest.raises(StoreError, match="maxmemory"):
            store.save(new_id(), b'{"state":{"a":1}}')
        store.merge(thread_id, [Push("l", b"1", max_records=2)])
        snapshot = store.read(thread_id)
        assert snapshot is not None
        assert snapshot.encoded == {"a": text, "l": b"[899,1]"}
        store.delete(thread_id)
        assert store.restore(thread_id) is None


@pytest.mark.parametrize(
    ("suffix", "concerned"),
    [
        (
            ":{id}",
            "reading all, reading one, pushing, setting, labelling, replacing, emptying, deleting",
        ),
        (':{id}."l"', "reading all, reading one, pushing, replacing, emptying, deleting"),
        (':{id}."long"', "reading all, replacing, emptying, deleting"),
        (':{id}."new"', "setting"),
        ("", "pushing, setting, labelling, replacing, emptying, deleting, listing, purging"),
        ('."owner":"ada"', "pushing, setting, labelling, replacing, emptying, deleting, finding"),
        ('."owner":"bob"', "labelling"),
    ],
)
def test_a_wrong_type_under_our_key_is_left_alone(
    store: RedisStore, client: redis.Redis, thread_id: str, suffix: str, concerned: str
) -> None:
    start = [Set("a", b"1"), Push("l", b"1"), Set("long", codec.encode("x" * 2_000))]
    store.merge(thread_id, start, {"owner": "ada"})
    foreign = "agentuity:{0}" + suffix.format(id=thread_id)
    client.delete(foreign)
    client.lpush(foreign, "not ours")
    before = contents(client)
    calls: dict[str, Callable[[], object]] = {
        "reading all": lambda: store.restore(thread_id),
        "reading one": lambda: store.read(thread_id, ["l"]),
        "finding": lambda: store.list({"owner": "ada"}),
        "listing": lambda: store.list(),
        "purging": lambda: store.purge(),
        "pushing": lambda: store.merge(thread_id, [Push("l", b"2")]),
        "setting": lambda: store.merge(thread_id, [Set("a", b"2"), Push("new", b"2")]),
        "labelling": lambda: store.merge(thread_id, [Set("a", b"2")], {"owner": "bob"}),
        "replacing": lambda: store.save(thread_id, b'{"state":{"a":3}}'),
        "emptying": lambda: store.save(thread_id, b"", {}),
        "deleting": lambda: store.delete(thread_id),
    }
    for way in concerned.split(", "):
        with pytest.raises(StoreError, match=r"(?s)(thrd_|\(all\)).*WRONGTYPE"):
            calls[way]()
        assert contents(client) == before, way
    for way, call in calls.items():
        # What has nothing to do with it works, and leaves it alone as well.
        if way not in concerned.split(", "):
            call()
            assert client.lrange(foreign, 0, -1) == [b"not ours"], way


def test_half_a_thread_is_damage_or_none(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    """As when Redis evicted one of the keys."""
    thread, string = name(thread_id), name(thread_id, "l")
    store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))], {"m": 1})
    kept = client.dump(string)
    calls: list[Callable[[], object]] = [
        lambda: store.restore(thread_id),
        lambda: store.read(thread_id, ["l"]),
        lambda: store.merge(thread_id, [Push("l", b"1")]),
        lambda: store.merge(thread_id, [Push("l", b"1", max_records=5)]),
        lambda: store.merge(thread_id, [Push("l", b"1"), Set("a", b"2")]),
    ]

    def all_are_refused() -> None:
        for call in calls:
            with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
                call()

    client.delete(string)
    all_are_refused()
    assert not client.exists(string)
    client.restore(string, 0, kept)
    client.append(string, b",1")
    all_are_refused()
    client.hset(thread, "thread", "something else")
    with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
        store.read(thread_id, ["l"])
    for call in calls[2:]:
        with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
            call()
    client.hdel(thread, "thread")
    for call in [*calls, lambda: store.merge(thread_id, [Set("b", b"1")])]:
        with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
            call()
    client.delete(thread)
    assert store.restore(thread_id) is None
    store.merge(thread_id, [Push("l", b"5")])
    assert store.restore(thread_id) == b'{"state":{"l":[5]}}'


def test_a_dead_redis_costs_one_deadline(own_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(f"{own_server.url}?timeout=0.2")) as store:
        store.merge(thread_id, [Push("l", b"1")])
        own_server.freeze()
        started = time.monotonic()
        with pytest.raises(StoreError, match=thread_id):
            store.read(thread_id)
        waited = time.monotonic() - started
        # What the request would then save does not wait again.
        with pytest.raises(ServiceUnavailable, match="just let a call wait in vain"):
            store.merge(thread_id, [Push("l", b"2")])
        # The library's own retries would have taken over ten seconds.
        assert waited < 5
        own_server.thaw()

        def recovered() -> bool:
            try:
                return store.restore(thread_id) == b'{"state":{"l":[1]}}'
            except StoreError:
                return False

        eventually(recovered)


def test_a_redis_that_accepts_and_never_answers(own_server: RedisServer, thread_id: str) -> None:
    own_server.freeze()
    with (
        closing(RedisStore.from_url(f"{own_server.url}?timeout=0.2")) as store,
        pytest.raises(ServiceUnavailable, match="nothing was sent"),
    ):
        store.merge(thread_id, [Push("l", b"1")])


def test_an_answer_that_comes_too_late_is_nobodys(
    own_server: RedisServer, tmp_path: Path, thread_id: str
) -> None:
    """Sentinel's connections stay open after a timeout, with the answer still to come."""
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor mine 127.0.0.1 {own_server.port} 1\n"
        "sentinel down-after-milliseconds mine 600000\n"
    )
    with running(tmp_path, "--sentinel", configuration=configuration) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mine/0?timeout=0.3"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Push("l", b"1")])
            own_server.freeze()
            with pytest.raises(StoreError, match=thread_id):
                store.restore(thread_id)
            pool = store._caller._pool
            assert pool is not None
            assert [one._sock for one in pool._available_connections] == [None]


def test_nobody_listens(thread_id: str) -> None:
    with closing(RedisStore.from_url(f"redis://127.0.0.1:{free_port()}")) as store:
        for call in (
            lambda: store.restore(thread_id),
            lambda: store.merge(thread_id, [Set("a", b"1")]),
            lambda: store.delete(thread_id),
        ):
            with pytest.raises(
                ServiceUnavailable, match=f"nothing was sent for thread {thread_id}"
            ):
                call()


@pytest.mark.parametrize("handed_in", [True, False])
def test_a_merge_whose_answer_is_lost_is_not_repeated(
    redis_server: RedisServer, thread_id: str, handed_in: bool
) -> None:
    with counting(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        # Its own settings make this client repeat what was not answered.
        ours = redis.Redis.from_url(url) if handed_in else None
        with closing(RedisStore(ours) if ours else RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Push("l", b"1")])
            proxy.lose_answer = True
            with pytest.raises(OutcomeUnknown, match=thread_id):
                store.merge(thread_id, [Push("l", b"2")])
            assert store.restore(thread_id) == b'{"state":{"l":[1,2]}}'
            proxy.lose_answer = True
            with pytest.raises(StoreError, match=thread_id) as caught:
                store.restore(thread_id)
            assert not isinstance(caught.value, OutcomeUnknown)
            store.merge(thread_id, [Push("l", b"3")])
            assert store.restore(thread_id) == b'{"state":{"l":[1,2,3]}}'
        if ours:
            # A client that was handed in stays its owner's.
            assert ours.ping()
            ours.close()


def test_the_limit_is_checked_in_redis(redis_server: RedisServer, thread_id: str) -> None:
    """By the size that is stored, whichever process it was that made the thread grow."""
    with (
        closing(RedisStore.from_url(redis_server.url, max_bytes=1_000)) as store,
        closing(RedisStore.from_url(redis_server.url)) as other,
    ):
        store.merge(thread_id, [Push("l", b"1")])
        other.merge(thread_id, [Push("l", b'"%b"' % (b"x" * 970))])
        with pytest.raises(StateTooLarge):
            store.merge(thread_id, [Push("l", b'"%b"' % (b"x" * 20))])


# Where it is


def test_the_answers_of_authentication(tmp_path: Path, thread_id: str) -> None:
    with running(tmp_path) as server:
        with closing(server.client()) as client:
            client.config_set("requirepass", "right @/:")
        for credentials in ("", ":wrong@"):
            url = f"redis://{credentials}127.0.0.1:{server.port}"
            with (
                closing(RedisStore.from_url(url)) as store,
                pytest.raises(AuthenticationFailed, match=thread_id),
            ):
                store.merge(thread_id, [Set("a", b"1")])
        url = f"redis://:right%20%40%2F%3A@127.0.0.1:{server.port}/3"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'


def test_a_unix_socket(redis_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(f"unix://{redis_server.path}?db=2")) as store:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'
    with closing(redis.Redis(port=redis_server.port, db=2)) as client:
        assert client.exists(name(thread_id))


def test_tls(tmp_path: Path, thread_id: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem")
    with running(tmp_path, *options, *files, "--tls-ca-cert-file", "ca.pem"):
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
        with (
            closing(RedisStore.from_url(f"rediss://localhost:{port}")) as store,
            pytest.raises(ServiceUnavailable, match=r"(?i)certificate"),
        ):
            store.restore(thread_id)


def test_what_sentinel_watches(tmp_path: Path, redis_server: RedisServer, thread_id: str) -> None:
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"sentinel monitor mine 127.0.0.1 {redis_server.port} 1\n")
    with running(tmp_path, "--sentinel", configuration=configuration) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/mine/1"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
        with (
            closing(RedisStore.from_url(url.replace("/mine/", "/other/"))) as store,
            pytest.raises(ServiceUnavailable, match="other"),
        ):
            store.restore(thread_id)
    with closing(redis.Redis(port=redis_server.port, db=1)) as client:
        assert client.exists(name(thread_id))


def test_valkey_is_another_word_for_it(redis_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(f"valkey://127.0.0.1:{redis_server.port}")) as store:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://localhost/name", "number of a database"),
        ("redis://:p@ss/w#1@localhost", "%2F"),
        ("redis://localhost?foo=1", "'foo'"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:99999", "99999|range"),
        ("redis://one,two", "several hosts"),
        ("redis://localhost?timeout=0", "timeout"),
        ("redis://localhost?timeout=soon", "soon"),
        ("redis://localhost?timeout=inf", "timeout"),
        ("redis://localhost?partitions=many", "many"),
        ("redis://localhost?no_such_option=1", "no_such_option"),
        ("redis://localhost?socket_timeout=x", "socket_timeout"),
        ("redis+cluster://localhost/1", "database"),
        ("redis+sentinel://localhost", "service"),
        ("redis+other://localhost", r"redis\+other"),
        ("unix+cluster:///path", r"unix\+cluster"),
        ("rediscover://localhost", "rediscover"),
    ],
)
def test_a_wrong_url_is_a_configuration_error(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        RedisStore.from_url(url)
    assert "Allowed: redis://" in str(caught.value)


@pytest.mark.parametrize("count", [0, -1, 16_385, 2.0, True, "2"])
def test_a_wrong_number_of_partitions_is_a_configuration_error(count: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"partitions={count!r} is wrong"):
        RedisStore.from_url("redis://h", partitions=count)


@pytest.mark.parametrize("url", ["redis://h", "redis+cluster://a,b:1", "redis+sentinel://a,b/s/2"])
def test_nothing_is_connected_before_the_first_use(url: str) -> None:
    RedisStore.from_url(url).close()


def test_a_cluster_that_is_not_there(thread_id: str) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    with (
        closing(RedisStore.from_url(url)) as store,
        pytest.raises(ServiceUnavailable, match=thread_id),
    ):
        store.merge(thread_id, [Set("a", b"1")])


@pytest.mark.parametrize("client", [None, "redis://localhost", redis.asyncio.Redis()])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="no client of redis-py"):
        RedisStore(client)


def test_without_the_package_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from flask_agentuity.errors import ConfigurationError\n"
        "try:\n"
        "    import flask_agentuity.stores.redis\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == 'python -m pip install "flask-agentuity[redis]"'
