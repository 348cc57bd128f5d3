"""What Redis keeps of a thread that was deleted, and for how long."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis
from support.redis_server import PATIENCE, RedisServer, pass_time

from flask_agentuity.document.operations import Clear, Operation, Push, Set, SetMetadata
from flask_agentuity.errors import StoreError, ThreadGone
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.base import TOMBSTONE_SECONDS
from flask_agentuity.stores.redis.clock import ServerClock
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write, Written

from ..conformance import new_id
from ..listing import listed
from .stored import name

INDEX = "agentuity:{0}"


def earlier(write: Write, seconds: float) -> Write:
    """Return a write of a request that began so much earlier."""
    return replace(write, began=write.began - seconds)


def fields(client: redis.Redis, thread_id: str) -> set[bytes]:
    found: dict[Any, Any] = client.hgetall(name(thread_id))
    return set(found)


@pytest.fixture
def deleted(store: RedisStore, thread_id: str) -> Write:
    """A write of a request that began a second before its thread was deleted."""
    store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"owner": "ada"})
    write = earlier(Write([Push("l", b"2")]), 1)
    store.delete(thread_id)
    return write


def test_a_tombstone_stays_for_an_hour(
    store: RedisStore, client: redis.Redis, thread_id: str, deleted: Write
) -> None:
    assert {key.decode() for key in client.scan_iter()} == {name(thread_id)}
    assert fields(client, thread_id) == {b"gone"}
    assert TOMBSTONE_SECONDS - 60 < client.ttl(name(thread_id)) <= TOMBSTONE_SECONDS
    # Deleting again is no use of it, nor is reading.
    pass_time(client, 1_800)
    assert store.read(thread_id) is store.read(thread_id, ["l"]) is None
    assert store.restore(thread_id) is None
    assert client.ttl(name(thread_id)) <= TOMBSTONE_SECONDS / 2
    with pytest.raises(ThreadGone):
        store.write(thread_id, earlier(deleted, 1_800))
    store.delete(thread_id)
    assert client.ttl(name(thread_id)) > TOMBSTONE_SECONDS - 60
    pass_time(client, TOMBSTONE_SECONDS + 1)
    assert client.dbsize() == 0
    assert isinstance(store.write(thread_id, earlier(deleted, 9_999)), Written)


def test_it_is_no_thread(
    store: RedisStore, client: redis.Redis, thread_id: str, deleted: Write
) -> None:
    # As if the index had not heard of it: a listing and a purge find that there is nothing.
    for label in ("", '."owner":"ada"'):
        client.zadd(INDEX + label, {thread_id: 5.0})
    assert listed(store) == listed(store, {"owner": "ada"}) == []
    assert [*store.scan()] == []
    client.zadd(INDEX, {thread_id: 5.0})
    assert store.purge() == 1
    client.zadd(INDEX, {thread_id: 5.0})
    store.merge(new_id(), [Set("a", b"1")])
    assert client.zcard(INDEX) == 1
    assert fields(client, thread_id) == {b"gone"}


@pytest.mark.parametrize(
    "operations",
    [
        [Push("l", b"1")],
        [Set("a", b"[1]"), SetMetadata(b'{"owner":"bob"}')],
        [Set("a", b"1"), Clear()],
        [Clear(), Set("b", b"1")],
    ],
)
def test_it_survives_a_new_thread(
    store: RedisStore,
    client: redis.Redis,
    thread_id: str,
    deleted: Write,
    operations: list[Operation],
) -> None:
    for _ in range(3):
        store.merge(thread_id, operations)
    store.merge(thread_id, [Clear()])
    store.merge(thread_id, [Push("l", b"5")], {})
    assert b"gone" in fields(client, thread_id)
    with pytest.raises(ThreadGone):
        store.write(thread_id, deleted)
    assert store.restore(thread_id) == b'{"state":{"l":[5]}}'
    assert client.ttl(name(thread_id)) > 604_000


@pytest.mark.parametrize("ttl", [1_000.0, None])
def test_it_survives_in_a_thread_that_expires_sooner(
    redis_server: RedisServer, client: redis.Redis, thread_id: str, deleted: Write, ttl: float
) -> None:
    """The new thread stays for as long as the deletion is remembered, with all its parts."""
    with closing(RedisStore.from_url(redis_server.url, ttl=ttl, timeout=PATIENCE)) as store:
        store.merge(thread_id, [Push("l", b"1"), Push("m", b"1")], {"owner": "ada"})
        passed = 0
        for seconds in (100, 1_100, 1_100, 1_100):
            pass_time(client, seconds)
            passed += seconds
            assert store.read(thread_id, ["l"]) is not None
            assert listed(store, {"owner": "ada"}) == [thread_id]
            lasting = client.ttl(name(thread_id))
            for key in client.scan_iter():
                assert client.ttl(key) >= lasting
            with pytest.raises(ThreadGone):
                store.write(thread_id, earlier(deleted, passed))
        pass_time(client, 301)
        store.merge(thread_id, [Push("l", b"2")])
        assert b"gone" not in fields(client, thread_id)
        assert isinstance(store.write(thread_id, earlier(deleted, 9_999)), Written)
        lasting = client.ttl(name(thread_id))
        assert lasting == -1 if ttl is None else 990 <= lasting <= 1_000
        assert (
            store.restore(thread_id)
            == b'{"state":{"l":[1,2,2],"m":[1]},"metadata":{"owner":"ada"}}'
        )


def test_a_thread_that_has_expired_leaves_no_tombstone(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    write = Write([Push("l", b"2")])
    pass_time(client, 604_801)
    assert isinstance(store.write(thread_id, write), Written)


def test_versions_rise_over_a_deletion_whatever_the_clock_says(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    # As if another server had given it a version, whose clock was a day ahead.
    head: Any = client.hget(name(thread_id), "head")
    parts = head.split()
    ahead = int(parts[5]) + 86_400_000_000
    client.hset(name(thread_id), "head", b" ".join([*parts[:5], b"%d" % ahead, *parts[6:]]))
    old = store.read(thread_id)
    assert old is not None
    assert old.version == ahead
    store.delete(thread_id)
    store.delete(thread_id)
    time.sleep(0.001)
    store.merge(thread_id, [Push("l", b"1")])
    new = store.read(thread_id)
    assert new is not None
    assert new.version == ahead + 1
    with pytest.raises(ThreadGone):
        store.write(thread_id, Write([Push("l", b"2")], version=old.version))
    outcome = store.write(thread_id, Write([Push("l", b"2")], version=new.version))
    assert isinstance(outcome, Written)


def test_a_thread_may_be_adopted_again(
    store: RedisStore, client: redis.Redis, thread_id: str, deleted: Write
) -> None:
    assert store.import_thread(ListedThread(thread_id, {}, 5.0, 6.0, 0), b'{"state":{"l":[7]}}')
    assert store.restore(thread_id) == b'{"state":{"l":[7]}}'
    with pytest.raises(ThreadGone):
        store.write(thread_id, deleted)
    assert [thread.created for thread in store.scan()] == [5.0]


def test_deleting_a_damaged_thread(store: RedisStore, client: redis.Redis, thread_id: str) -> None:
    client.hset(name(thread_id), "head", "what is this")
    with pytest.raises(StoreError, match="damaged"):
        store.restore(thread_id)
    store.delete(thread_id)
    assert fields(client, thread_id) == {b"gone"}


# The clock of the server


def test_a_request_and_a_deletion_in_quick_succession(store: RedisStore) -> None:
    """However long which call takes: the order in which they happened counts."""
    for number in range(300):
        thread_id = new_id()
        before = Write([Push("l", b"1")])
        store.delete(thread_id)
        after = Write([Push("l", b"2")])
        if number % 3 == 0:
            time.sleep(0.002)
        with pytest.raises(ThreadGone):
            store.write(thread_id, before)
        assert isinstance(store.write(thread_id, after), Written)


def test_the_fastest_answer_tells_the_time() -> None:
    clock, now = ServerClock(), time.monotonic()
    assert clock.latest(now) is None
    clock.note(now, int(now * 1_000_000) + 1_000_500)
    assert clock.latest(now - 1) == pytest.approx(int(now * 1_000_000) + 500, abs=2)
    clock.note(now, int(now * 1_000_000) + 1_000_100)
    clock.note(now, int(now * 1_000_000) + 1_000_300)
    assert clock.latest(now - 1) == pytest.approx(int(now * 1_000_000) + 100, abs=2)


def test_an_old_answer_does_not_count() -> None:
    clock, now = ServerClock(), time.monotonic()
    clock.note(now - 60, int(now * 1_000_000))
    assert clock.latest(now) is None
    clock.note(now - 6, int((now - 6) * 1_000_000) + 100)
    clock.note(now, int(now * 1_000_000) + 900)
    # Of the time before it is remembered, of that before no more.
    assert clock.latest(now) == pytest.approx(int(now * 1_000_000) + 100, abs=2)
    clock.note(now + 30, int((now + 30) * 1_000_000) + 800)
    assert clock.latest(now) == pytest.approx(int(now * 1_000_000) + 800, abs=2)
