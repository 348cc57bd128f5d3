"""Threads that were written before the clock of the server was set back."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
import redis
from support.ports import free_port
from support.redis_server import PATIENCE, RedisServer, pass_time

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write

from ..conformance import new_id
from ..listing import listed

DAY = 86_400


def test_many_are_corrected_in_their_order(store: RedisStore, client: redis.Redis) -> None:
    ids = [new_id() for _ in range(250)]
    for number, thread_id in enumerate(ids):
        thread = ListedThread(thread_id, {"m": 1}, 5.0, time.time() + 9_000 + number, 0)
        assert store.import_thread(thread, b'{"state":{"a":1}}')
    # A call corrects a hundred.
    for _ in range(3):
        assert [thread.id for thread in store.list(limit=300).threads] == ids[::-1]
    latest = store.list(limit=1).threads[0].updated
    assert abs(latest - time.time()) < 1_000
    other = new_id()
    store.merge(other, [Set("a", b"1")], {"m": 1})
    assert [thread.id for thread in store.list(limit=300).threads] == [other, *ids[::-1]]


def test_the_index_of_the_owner_is_corrected(store: RedisStore, client: redis.Redis) -> None:
    first, second = new_id(), new_id()
    for thread_id in (first, second):
        store.write(thread_id, Write([Set("a", b"1")], owner="ada"))
        if thread_id == first:
            pass_time(client, -DAY)
    assert store.list(owner="ada").threads == store.list().threads
    for thread_id, other in ((second, first), (first, second)):
        store.write(thread_id, Write([Push("l", b"1")], owner="ada"))
        assert [thread.id for thread in store.list(owner="ada").threads] == [thread_id, other]
        assert store.list(owner="ada").threads == store.list().threads


@pytest.mark.parametrize("ttl", [1_000.0, None])
def test_the_time_to_live_is_corrected(
    redis_server: RedisServer, client: redis.Redis, ttl: float | None
) -> None:
    with closing(RedisStore.from_url(redis_server.url, ttl=ttl, timeout=PATIENCE)) as store:
        thread_id = new_id()
        store.merge(thread_id, [Set("a", b"1"), Push("l", b"1")], {"m": 1})
        pass_time(client, -DAY)
        name = store._names(thread_id)[0]
        if ttl:
            assert client.pttl(name) > DAY * 1000
        assert store.purge() == 0
        assert client.pttl(name) == -1 if ttl is None else 900_000 < client.pttl(name) <= 1_000_000
        assert store.restore(thread_id) == b'{"state":{"a":1,"l":[1]},"metadata":{"m":1}}'


def test_counting_corrects_nothing(store: RedisStore, client: redis.Redis) -> None:
    thread_id = new_id()
    store.merge(thread_id, [Set("a", b"1")])
    pass_time(client, -DAY)
    before = client.hgetall(store._names(thread_id)[0])
    assert store.count_expired() == 0
    assert client.hgetall(store._names(thread_id)[0]) == before


def test_a_thread_that_is_damaged_or_gone_hides_nothing(
    store: RedisStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [new_id() for _ in range(3)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")])
    pass_time(client, -DAY)
    client.hset(store._names(ids[0])[0], "head", "nonsense")
    client.delete(store._names(ids[1])[0])
    for _ in range(2):
        assert listed(store, {}) == [ids[2]]
    assert client.hget(store._names(ids[0])[0], "head") == b"nonsense"


def test_a_server_that_refuses_writes_lists_threads(store: RedisStore, client: redis.Redis) -> None:
    thread_id = new_id()
    store.merge(thread_id, [Set("a", b"1")])
    pass_time(client, -DAY)
    client.config_set("replica-read-only", "yes")
    client.replicaof("127.0.0.1", free_port())
    try:
        assert listed(store, {}) == [thread_id]
    finally:
        client.replicaof("NO", "ONE")
    assert listed(store, {}) == [thread_id]
    assert store.list().threads[0].updated < time.time() + DAY / 2


def test_a_request_that_has_read_before_the_correction_writes(
    store: RedisStore, client: redis.Redis
) -> None:
    thread_id = new_id()
    store.merge(thread_id, [Push("l", b"1")])
    pass_time(client, -DAY)
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert listed(store, {}) == [thread_id]
    write = Write([Push("l", b"2")], version=snapshot.version, seen=snapshot.seen)
    store.write(thread_id, write)
    assert store.restore(thread_id) == b'{"state":{"l":[1,2]}}'
