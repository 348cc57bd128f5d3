"""The keys of a thread in Redis, and how long they stay."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest
import redis
from support.redis_server import RedisServer, pass_time
from support.waiting import eventually

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set, Truncate
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.redis.store import RedisStore

from ..conformance import pushes
from ..listing import listed
from .stored import contents, name


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
    assert set(contents(client)) == {name(thread_id).encode()}
    assert set(client.hgetall(name(thread_id))) == {b"gone"}


@pytest.mark.parametrize("way", ["cleared", "emptied", "windowed", "imported"])
def test_an_empty_thread_keeps_its_head_only(
    store: RedisStore, client: redis.Redis, thread_id: str, way: str
) -> None:
    then = time.time() - 50
    document = b'{"state":{"l":[1],"long":"%b"}}' % (b"x" * 2_000)
    store.import_thread(ListedThread(thread_id, {"owner": "ada"}, then, then, 0), document)
    if way == "cleared":
        store.merge(thread_id, [Push("m", b"1"), Clear()], {})
    elif way == "emptied":
        store.merge(thread_id, [Delete("l"), Delete("long")], {})
    elif way == "windowed":
        store.merge(thread_id, [Push("l", b"1", 0), Delete("long")], {})
        assert client.dbsize() == 2
        store.merge(thread_id, [Delete("l")])
    else:
        store.import_thread(ListedThread(thread_id, {}, then, time.time() + 9, 0), b"")
    assert set(contents(client)) == {name(thread_id).encode()}
    assert set(client.hgetall(name(thread_id))) == {b"head"}
    assert client.ttl(name(thread_id)) > 604_000
    assert store.read(thread_id) is store.read(thread_id, ["l"]) is None
    assert store.restore(thread_id) is None
    assert listed(store) == []
    assert [*store.scan()] == []
    # It is as good as new, and was created when it was.
    store.merge(thread_id, [Push("l", b"2")])
    assert store.restore(thread_id) == b'{"state":{"l":[2]}}'
    assert [thread.created for thread in store.scan()] == [then]


def test_nothing_is_made_of_nothing(store: RedisStore, client: redis.Redis, thread_id: str) -> None:
    store.merge(thread_id, [])
    store.merge(thread_id, [Clear(), Set("a", b"1"), Delete("a"), Truncate("l", 1)], {})
    store.save(thread_id, b"")
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
