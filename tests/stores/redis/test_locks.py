"""Edits that are given to the store are merged under the lock of their thread."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import closing
from typing import Any

import pytest
import redis
from support.redis_server import PATIENCE, RedisServer
from support.waiting import eventually

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import (
    Edit,
    EditMetadata,
    Increment,
    Operation,
    Push,
    Replace,
    Set,
)
from flask_agentuity.errors import ServiceUnavailable, StateTooLarge, ThreadGone
from flask_agentuity.stores.redis import writer
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from ..listing import listed
from .stored import contents, name

#: A version after any assignment.
LATER = 2**52


def micros(client: redis.Redis) -> int:
    seconds, part = client.time()
    return int(seconds) * 1_000_000 + int(part)


def lock(client: redis.Redis, thread_id: str, seconds: float) -> int:
    """Take the lock for another; returns until when it has it."""
    expires = micros(client) + round(seconds * 1_000_000)
    client.hset(name(thread_id), "lock", f"another {expires}")
    return expires


def edit(key: str, base: Any, value: Any) -> Edit:
    encoded = None if base is None else codec.encode(base)
    return Edit(key, encoded, codec.encode(value), since=LATER)


def written(store: RedisStore, thread_id: str, *operations: Operation) -> Written:
    outcome = store.write(thread_id, Write(operations))
    assert isinstance(outcome, Written)
    return outcome


@pytest.mark.parametrize(
    "operations",
    [
        [Push("l", b"2")],
        [Set("a", b"1"), Push("l", b"2")],
        [],
        [edit("l", [1], [1, 2])],
    ],
    ids=["push", "set", "nothing", "edit"],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_write_waits_for_the_lock_of_another(
    store: RedisStore,
    client: redis.Redis,
    thread_id: str,
    operations: list[Operation],
    exists: bool,
) -> None:
    seen = None
    if exists:
        store.merge(thread_id, [Push("l", b"1")])
        snapshot = store.read(thread_id, ["l"])
        assert snapshot is not None
        seen = snapshot.seen
    expires = lock(client, thread_id, 0.2)
    outcome = store.write(thread_id, Write(operations, seen=seen))
    assert isinstance(outcome, Written)
    # By the clock of Redis: not before the other's time was over.
    assert outcome.version >= expires
    if exists:
        assert not client.hexists(name(thread_id), "lock")


def test_a_lock_that_is_given_back_is_not_waited_for(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    expires = lock(client, thread_id, 3_600)
    thread = threading.Thread(target=lambda: store.merge(thread_id, [Push("l", b"2")]))
    thread.start()
    client.hdel(name(thread_id), "lock")
    thread.join()
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert snapshot.version < expires


def test_a_lock_that_stays_is_an_error(
    store: RedisStore, client: redis.Redis, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 0.05)
    store.merge(thread_id, [Push("l", b"1")])
    lock(client, thread_id, 3_600)
    before = contents(client)
    for operations in ([Push("l", b"2")], [edit("l", [1], [2])]):
        with pytest.raises(ServiceUnavailable, match=f"{thread_id} stays locked.*nothing was"):
            store.write(thread_id, Write(operations))
    assert contents(client) == before
    # Reading, deleting and turns do not wait.
    assert store.restore(thread_id) == b'{"state":{"l":[1]}}'
    assert store.take_turn(thread_id, "me", 10)
    store.delete(thread_id)
    assert store.restore(thread_id) is None


def test_an_edit_leaves_no_lock(store: RedisStore, client: redis.Redis, thread_id: str) -> None:
    outcome = written(store, thread_id, edit("d", None, {"a": 1}), EditMetadata(b"{}", b'{"m":1}'))
    assert outcome.merged["d"].value == b'{"a":1}'
    outcome = written(store, thread_id, edit("d", {"a": 0}, {"a": 0, "b": 2}), Increment("n"))
    assert outcome.merged["d"].value == b'{"a":1,"b":2}'
    assert store.restore(thread_id) == b'{"state":{"d":{"a":1,"b":2},"n":1},"metadata":{"m":1}}'
    assert set(client.hgetall(name(thread_id))) == {b"head", b"metadata", b'"d"', b'"n"'}


@pytest.mark.parametrize("way", ["conflict", "too large", "gone", "error"])
def test_an_edit_that_is_not_applied_gives_the_lock_back(
    redis_server: RedisServer,
    client: redis.Redis,
    thread_id: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(RedisStore.from_url(redis_server.url, max_bytes=200)) as store:
        store.merge(thread_id, [Push("l", b"1"), Set("n", b"1")])
        mine = edit("l", [1], [2])
        if way == "conflict":
            outcome = store.write(thread_id, Write([mine, Replace("n", b"5", b"6", LATER)]))
            assert outcome == Conflict({"n"}, frozenset())
        elif way == "too large":
            with pytest.raises(StateTooLarge):
                store.write(thread_id, Write([mine, Set("t", codec.encode("x" * 200))]))
        elif way == "gone":
            write = Write([mine])
            store.delete(thread_id)
            with pytest.raises(ThreadGone):
                store.write(thread_id, write)
            assert store.restore(thread_id) is None
        else:

            def fail(thread_id: str, keys: Collection[str]) -> None:
                assert client.hexists(name(thread_id), "lock")
                raise ZeroDivisionError

            monkeypatch.setattr(store._merger, "_read", fail)
            with pytest.raises(ZeroDivisionError):
                store.write(thread_id, Write([mine]))
        assert not client.hexists(name(thread_id), "lock")


def test_a_lock_that_was_lost_is_taken_again(
    store: RedisStore, client: redis.Redis, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if this process had stood still for so long that another took over."""
    store.merge(thread_id, [Set("d", b'{"a":1}')])
    reads: list[str] = []

    def read(thread_id: str, keys: Collection[str]) -> Snapshot | None:
        snapshot = store.read(thread_id, keys)
        reads.append(thread_id)
        if len(reads) == 1:
            client.hdel(name(thread_id), "lock")
            store.merge(thread_id, [Set("other", b"1")])
        elif len(reads) == 2:
            lock(client, thread_id, -1)
        return snapshot

    monkeypatch.setattr(store._merger, "_read", read)
    outcome = written(store, thread_id, edit("d", {"a": 1}, {"a": 2}), Push("l", b"1"))
    assert outcome.merged["d"].value == b'{"a":2}'
    assert len(reads) == 3
    assert store.restore(thread_id) == b'{"state":{"d":{"a":2},"other":1,"l":[1]}}'


def test_a_process_that_asks_for_no_lock_only_delays_an_edit(
    store: RedisStore, client: redis.Redis, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes between is seen, also if the lock is still there."""
    store.merge(thread_id, [Set("d", b'{"a":1,"b":1}'), Set("kept", b"1")])
    reads: list[str] = []

    def read(thread_id: str, keys: Collection[str]) -> Snapshot | None:
        snapshot = store.read(thread_id, keys)
        reads.append(thread_id)
        if len(reads) == 1:
            held = client.hget(name(thread_id), "lock")
            client.hdel(name(thread_id), "lock")
            written(store, thread_id, Replace("d", b'{"a":1,"b":1}', b'{"a":1,"b":5}', LATER))
            client.hset(name(thread_id), "lock", held)
        return snapshot

    monkeypatch.setattr(store._merger, "_read", read)
    outcome = written(store, thread_id, edit("d", {"a": 1, "b": 1}, {"a": 2, "b": 1}))
    assert outcome.merged["d"].value == b'{"a":2,"b":5}'
    assert len(reads) == 2


@pytest.mark.parametrize("deleted", [True, False])
def test_a_lock_is_no_thread(
    redis_server: RedisServer,
    client: redis.Redis,
    thread_id: str,
    deleted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(RedisStore.from_url(redis_server.url, timeout=PATIENCE)) as store:
        if deleted:
            store.delete(thread_id)

        def look(thread_id: str, keys: Collection[str]) -> None:
            fields = {b"lock", b"gone"} if deleted else {b"lock"}
            assert set(client.hgetall(name(thread_id))) == fields
            assert store.read(thread_id) is store.read(thread_id, []) is None
            assert store.restore(thread_id) is None
            assert listed(store) == []
            assert [*store.scan()] == []
            # It expires if this process dies.
            lasting = client.pttl(name(thread_id))
            assert lasting > 3_000 if deleted else 0 < lasting <= 3_000

        monkeypatch.setattr(store._merger, "_read", look)
        written(store, thread_id, edit("l", None, [1]))
        assert store.restore(thread_id) == b'{"state":{"l":[1]}}'
        assert client.ttl(name(thread_id)) > 604_000


def test_a_lock_without_a_thread_expires(
    store: RedisStore, client: redis.Redis, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_agentuity.stores.redis.merging._MILLISECONDS", 50)
    outcome = written(store, thread_id, edit("l", [1], [2]))
    assert outcome.merged["l"].value is None
    eventually(lambda: not client.exists(name(thread_id)))


def test_the_lock_of_a_damaged_thread_does_not_let_it_expire(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    client.hset(name(thread_id), "nulls", 1)
    with pytest.raises(Exception, match="damaged"):
        store.write(thread_id, Write([edit("l", None, [1])]))
    assert client.ttl(name(thread_id)) == -1
    assert client.hgetall(name(thread_id)) == {b"nulls": b"1"}


def test_many_edits_at_once_are_all_applied(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    base = {str(number): 0 for number in range(8)}
    store.merge(thread_id, [Set("d", codec.encode(base)), Set("l", b"[]")])

    def work(number: int) -> None:
        value = dict(base)
        for count in range(1, 16):
            old, value = value, {**value, str(number): count}
            written(
                store,
                thread_id,
                edit("d", old, value),
                edit("l", [], [f"{number} {count}"]),
                Push("p", b"0"),
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert codec.decode(snapshot.encoded["d"] or b"") == dict.fromkeys(base, 15)
    items = codec.decode(snapshot.encoded["l"] or b"")
    assert sorted(items) == sorted(f"{n} {count}" for n in range(8) for count in range(1, 16))
    assert len(codec.decode(snapshot.encoded["p"] or b"")) == 120
    assert not client.hexists(name(thread_id), "lock")


def test_pushes_of_an_edit_do_not_precede_those_of_the_request(
    store: RedisStore, thread_id: str
) -> None:
    store.merge(thread_id, [Set("l", b"[1]")])
    operations: list[Operation] = [
        edit("l", [1], [1, 2, 3]),
        Push("l", b"4"),
        Push("l", b"5", 9),
        Push("m", b"1"),
    ]
    outcome = store.write(thread_id, Write(operations, counted=["l", "m"]))
    assert isinstance(outcome, Written)
    assert outcome.preceding == {"l": 3, "m": 0}
    outcome = store.write(thread_id, Write([edit("l", [1], [1, 6])], counted=["l"]))
    assert isinstance(outcome, Written)
    assert outcome.preceding == {}
    assert store.restore(thread_id) == b'{"state":{"l":[1,2,3,4,5,6],"m":[1]}}'
