"""Threads that were written by versions without edits: they are read, and brought up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from support.redis_server import RedisServer

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    Set,
    Splice,
    Truncate,
)
from flask_agentuity.errors import StateTooLarge, StoreError
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from ..listing import listed
from .stored import contents, name
from .test_lists import ODD_ITEMS

LONG = codec.encode("x" * 2_000)
#: With commas between its items, as lists without a window had.
PLAIN = codec.encode(ODD_ITEMS)
#: With line feeds, and what a window had left behind before the first item.
PASSED = b'"passed",1\n{"b":2}\n'

STATE = {
    "n": b"5",
    "plain": PLAIN,
    "window": b'[[1,","],{"id":"a"},"c"]',
    "long": LONG,
    "empty": b"[]",
    "title": b'"t"',
}
METADATA = b'{"owner":"ada"}'
DOCUMENT = codec.join_document(STATE, METADATA)


def write_former(client: redis.Redis, thread_id: str, safe: float | None = None) -> None:
    """Store a thread as the former version did."""
    thread, now = name(thread_id), time.time()
    size = sum(codec.entry_size(codec.encode_key(key), len(value)) for key, value in STATE.items())
    window = b'[1,","]\n{"id":"a"}\n"c"'
    safe = now + 800_000 if safe is None else safe
    version = int(now * 1_000_000)
    client.hset(
        thread,
        mapping={
            "thread": b"%d 9 %d %r %r %r" % (size, version, now - 50, now, safe),
            "metadata": METADATA + b'\n"owner":"ada"',
            "nulls": b"1",
            '"n"': b"1 =5",
            '"plain"': b"2 [%d" % len(PLAIN),
            '"window"': b"3 |%d 3 %d" % (len(window) + 2, len(PASSED)),
            '"long"': b"5 *%d" % len(LONG),
            '"empty"': b"6 [2",
            '"title"': b'8 ="t"',
        },
    )
    client.set(name(thread_id, "plain"), PLAIN[1:-1])
    client.set(name(thread_id, "window"), PASSED + window)
    client.set(name(thread_id, "long"), LONG)
    for key in (name(thread_id, key) for key in ("plain", "window", "long")):
        client.expire(key, 800_000)
    client.expire(thread, 604_800)
    for index in ("agentuity:{0}", 'agentuity:{0}."owner":"ada"'):
        client.zadd(index, {thread_id: now})
        client.expire(index, 1_400_000)


@pytest.fixture
def former(client: redis.Redis, thread_id: str) -> str:
    write_former(client, thread_id)
    return thread_id


def test_it_is_read_and_listed_as_it_is(
    store: RedisStore, client: redis.Redis, former: str
) -> None:
    before = contents(client)
    assert store.restore(former) == store.restore_without_renewing(former) == DOCUMENT
    for key, value in STATE.items():
        snapshot = store.read(former, [key])
        assert snapshot is not None
        assert snapshot.encoded[key] == value
        assert snapshot.without_null == frozenset()
        assert snapshot.version > 0
    assert listed(store) == listed(store, {"owner": "ada"}) == [former]
    assert [(thread.id, thread.size) for thread in store.scan()] == [(former, len(DOCUMENT))]
    assert store.purge() == 0
    assert contents(client) == before


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [Push("plain", b"1")],
        [Push("window", b"1")],
        [Push("empty", b"1"), Push("new", b"1")],
        [Push("window", b"1", 3, 1), Push("plain", b"1", 5)],
        [Push("plain", b"{}"), Push("window", b'{"id":"a"}', unique="id")],
        [Splice("plain", (Change(0, (b"null", b"true"), (b"1",)), Change(3, (b"-1.5",), ())))],
        [Splice("window", (Change(1, (b'{"id":"a"}',), (b'{"id":"b"}', b"2")),))],
        [
            Replace("long", LONG, b"[]"),
            Replace("plain", PLAIN, LONG),
            Replace("empty", b"[]", b"1"),
        ],
        [PopLast("plain"), Truncate("window", 1), Increment("n", 2)],
        [Set("title", b"[1,2]"), Set("plain", b"1"), Delete("window")],
        [Clear()],
        [Clear(), Push("plain", b"1"), Set("long", LONG)],
    ],
)
@pytest.mark.parametrize("seen", [True, False])
def test_the_first_write_brings_it_up_to_date(
    store: RedisStore, client: redis.Redis, former: str, operations: list[Operation], seen: bool
) -> None:
    snapshot = store.read(former, ["plain"])
    assert snapshot is not None
    expected = dict(STATE)
    counted = ("plain", "window", "empty", "new")
    applied = apply_operations(expected, operations, counted=counted)
    outcome = store.write(
        former,
        Write(
            operations,
            version=snapshot.version,
            seen=snapshot.seen if seen else None,
            counted=counted,
        ),
    )
    assert isinstance(outcome, Written)
    assert outcome.preceding == applied.preceding
    assert outcome.version > snapshot.version
    assert store.restore(former) == codec.join_document(expected, METADATA)
    for key, value in expected.items():
        found = store.read(former, [key])
        assert found is not None
        assert found.encoded[key] == value
    # The other version sees a damaged thread from now on, not half of this one.
    assert not client.hexists(name(former), "thread")
    strings = {name(former, key) for key in expected if client.exists(name(former, key))}
    assert {key.decode() for key in client.scan_iter(f"{name(former)}.*")} == strings
    (thread,) = store.list({"owner": "ada"}).threads
    assert thread.size == len(codec.join_document(expected, METADATA))
    assert thread.updated - thread.created > 49
    # And on in the new format.
    store.merge(former, [Push("more", b"1")])
    entry: Any = client.hget(name(former), '"more"')
    assert b" |3 1 1 1" in entry


def test_what_is_not_applied_changes_nothing(
    redis_server: RedisServer, client: redis.Redis, former: str
) -> None:
    with closing(RedisStore.from_url(redis_server.url, max_bytes=len(DOCUMENT))) as store:
        before = contents(client)
        outcome = store.write(former, Write([Push("empty", b"1"), Replace("n", b"4", b"1")]))
        assert isinstance(outcome, Conflict)
        with pytest.raises(StateTooLarge):
            store.merge(former, [Push("empty", b"1")])
        assert contents(client) == before


@pytest.mark.parametrize("broken", [b'"a', b'"a\\', b"[1", b'{"a":1', b"1]", b'"a\\",1'])
def test_a_list_that_is_not_json_is_left_as_it_is(
    store: RedisStore, client: redis.Redis, former: str, broken: bytes
) -> None:
    client.hset(name(former), '"plain"', b"2 [%d" % (len(broken) + 2))
    client.set(name(former, "plain"), broken)
    before = contents(client)
    with pytest.raises(StoreError, match=f"{former} is damaged"):
        store.merge(former, [Push("empty", b"2")])
    assert contents(client) == before


@pytest.mark.parametrize("key", ["plain", "window"])
def test_a_list_of_another_size_is_left_as_it_is(
    store: RedisStore, client: redis.Redis, former: str, key: str
) -> None:
    client.append(name(former, key), b"1")
    before = contents(client)
    with pytest.raises(StoreError, match=f"{former} is damaged"):
        store.merge(former, [Push("empty", b"2")])
    assert contents(client) == before


@pytest.mark.parametrize("keys", [["n"], None], ids=["one key", "all"])
def test_reading_renews_it(
    redis_server: RedisServer, client: redis.Redis, thread_id: str, keys: list[str] | None
) -> None:
    write_former(client, thread_id, safe=time.time() + 1_000)
    client.expire(name(thread_id), 500)
    client.expire(name(thread_id, "plain"), 1_000)
    with closing(RedisStore.from_url(redis_server.url, ttl=5_000.0)) as store:
        assert store.read(thread_id, keys) is not None
        assert 4_900 < client.ttl(name(thread_id)) <= 5_000 < client.ttl(name(thread_id, "plain"))
        head: Any = client.hget(name(thread_id), "thread")
        assert head.count(b" ") == 5
        assert store.restore(thread_id) == DOCUMENT


def test_it_is_deleted_with_all_it_has(store: RedisStore, client: redis.Redis, former: str) -> None:
    store.delete(former)
    assert set(contents(client)) == {name(former).encode()}
    assert listed(store) == listed(store, {"owner": "ada"}) == []
    gone: Any = client.hget(name(former), "gone")
    assert int(gone.split()[1]) > 1_600_000_000_000_000


def test_an_empty_state_has_no_entries(store: RedisStore, client: redis.Redis) -> None:
    thread_id = "thrd_0123456789abcdef0123456789abcdef"
    client.hset(name(thread_id), mapping={"thread": "0 1 5 5.0 5.0 0", "metadata": '{"m":1}'})
    assert store.read(thread_id) == Snapshot({}, b'{"m":1}')
    store.merge(thread_id, [Push("l", b"1")])
    assert store.restore(thread_id) == b'{"state":{"l":[1]},"metadata":{"m":1}}'


@pytest.mark.parametrize("head", ["", "5", "a b c d e f", "1 2 3 4.0 5.0", "1 2 3 4.0 5.0 6 7"])
def test_a_head_that_is_damaged(
    store: RedisStore,
    client: redis.Redis,
    former: str,
    head: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.hset(name(former), "thread", head)
    before = contents(client)
    calls: list[Callable[[], Any]] = [
        lambda: store.restore(former),
        lambda: store.read(former, []),
        lambda: store.merge(former, [Set("n", b"6")]),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=f"{former} is damaged"):
            call()
    with caplog.at_level(logging.ERROR, logger="flask_agentuity"):
        assert listed(store) == []
    assert f"{former} is damaged" in caplog.text
    assert contents(client) == before
