"""What the Redis store does when Redis is down, full, slow or damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import exceptions
from support.counting_proxy import counting
from support.ports import free_port
from support.redis_server import PATIENCE, RedisServer, asked, running
from support.waiting import eventually

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Delete, Operation, Push, Set
from flask_agentuity.errors import (
    OutcomeUnknown,
    ServiceUnavailable,
    StateTooLarge,
    StoreError,
)
from flask_agentuity.stores.redis.failures import failed, not_sent
from flask_agentuity.stores.redis.store import RedisStore

from ..conformance import new_id, pushes
from .stored import contents, name


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
        calls: list[Callable[[], object]] = [
            lambda: store.restore(thread_id),
            lambda: store.merge(thread_id, [Push("l", b"2")]),
            lambda: store.delete(thread_id),
        ]
        for call in calls:
            with pytest.raises(ServiceUnavailable, match=thread_id):
                call()
        own_server.start()
        # The same store works again, and nothing that was acknowledged is lost.
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
        (
            "",
            "pushing, setting, labelling, replacing, emptying, deleting, listing, finding, purging",
        ),
        ('."owner":"ada"', "labelling, emptying, deleting, finding"),
        ('."owner":"bob"', "labelling"),
    ],
)
def test_a_wrong_type_under_our_key_is_left_alone(
    store: RedisStore, client: redis.Redis, thread_id: str, suffix: str, concerned: str
) -> None:
    start: list[Operation] = [
        Set("a", b"1"),
        Push("l", b"1"),
        Set("long", codec.encode("x" * 2_000)),
    ]
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
        with pytest.raises(StoreError, match=r"(?s)(thread thrd_|the threads).*WRONGTYPE"):
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
    kept: Any = client.dump(string)
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
    client.hset(thread, "head", "something else")
    with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
        store.read(thread_id, ["l"])
    for call in calls[2:]:
        with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
            call()
    client.hdel(thread, "head")
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
        with pytest.raises(ServiceUnavailable, match="did not answer the previous call"):
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


def test_an_answer_that_comes_too_late_is_not_read(
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


def test_a_port_without_a_server(thread_id: str) -> None:
    with closing(RedisStore.from_url(f"redis://127.0.0.1:{free_port()}")) as store:
        calls: list[Callable[[], object]] = [
            lambda: store.restore(thread_id),
            lambda: store.merge(thread_id, [Set("a", b"1")]),
            lambda: store.delete(thread_id),
        ]
        for call in calls:
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


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize(
    "kind",
    ["ResponseError", "ConnectionError", "TimeoutError", "NoPermissionError", "ReadOnlyError"],
)
def test_what_a_server_says_is_escaped(kind: str, changes: bool) -> None:
    """Something else may answer at its address, with what controls a terminal."""
    error = getattr(exceptions, kind)("ERR \x1b[2J\nforged \u202e line")
    for shown in (failed(b"name", "t", error, changes=changes), not_sent("t", error)):
        assert r"\x1b[2J\nforged \u202e line" in str(shown)
        assert str(shown).isprintable()
