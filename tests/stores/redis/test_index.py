"""The index of threads in Redis: what asking it costs, and what becomes of threads that expire."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import pytest
import redis
from support.redis_server import RedisServer, measured, pass_time
from support.waiting import eventually

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.redis import index as redis_index
from flask_agentuity.stores.redis.store import RedisStore

from ..conformance import new_id
from ..listing import listed, pages_of
from .stored import fill

INDEX = "agentuity:{0}"


def forget(client: redis.Redis, thread_id: str) -> None:
    """Let a thread be gone as one is that expired: without telling the index."""
    assert client.delete(f"{INDEX}:{thread_id}") == 1


# What a listing costs


def test_an_export_of_some_threads_follows_the_index(
    store: RedisStore, client: redis.Redis
) -> None:
    fill(store, 400, {"app": "chat"})
    rare = fill(store, 5, {"app": "chat", "owner": "ada"})
    client.config_resetstat()
    found = store.find_all({"app": "chat", "owner": "ada"})
    assert sorted(thread.id for thread in found) == sorted(rare)
    assert client.info("commandstats")["cmdstat_hmget"]["calls"] == 5


@pytest.mark.parametrize(
    "wanted",
    [{"owner": "ada"}, {"app": "chat", "owner": "ada"}, {"owner": "unknown"}, None],
    ids=["a rare label", "a common one too", "an unknown one", "all"],
)
@pytest.mark.parametrize("page", ["first", "second"])
def test_a_listing_costs_the_same_among_many(
    store: RedisStore, client: redis.Redis, wanted: Mapping[str, Any] | None, page: str
) -> None:
    def cost() -> tuple[dict[str, int], int]:
        cursor = store.list(wanted, limit=10).cursor if page == "second" else None
        commands, _, written = measured(client, lambda: store.list(wanted, limit=10, cursor=cursor))
        return commands, written

    for _ in range(2):
        fill(store, 10, {"owner": "ada", "app": "chat"})
        fill(store, 10, {"owner": "bob", "app": "chat"})
    store.list()  # Redis knows the script from now on.
    few_commands, few_bytes = cost()
    for number in range(150):
        fill(store, 20, {"owner": f"user {number}", "app": "chat"})
    many_commands, many_bytes = cost()
    assert many_commands == few_commands
    assert sum(many_commands.values()) < 80
    # The names of users may be longer by a few digits.
    assert many_bytes <= few_bytes * 1.1


def test_a_page_within_one_moment_costs_no_more_than_any(
    store: RedisStore, client: redis.Redis
) -> None:
    """As after an import: a cursor is found by halving, not by passing all before it."""
    for _ in range(1_500):
        store.import_thread(ListedThread(new_id(), {}, 5.0, 7.0, 0), b'{"a":1}')
    cursor = None
    for _ in range(60):
        cursor = store.list(limit=20, cursor=cursor).cursor
    commands, _, _ = measured(client, lambda: store.list(limit=20, cursor=cursor))
    assert sum(commands.values()) < 70


def test_few_threads_are_looked_at_in_one_call(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does nothing else meanwhile: what is rare among the similar takes several calls."""
    monkeypatch.setattr(redis_index, "MOST_LOOKED_AT", 7)
    similar = "x" * 500
    wanted = []
    for number in range(60):
        (thread_id,) = fill(store, 1, {"v": similar + ("this" if number % 19 == 0 else "other")})
        wanted.append(thread_id)
    expected = wanted[::19][::-1]
    for limit in (1, 2, 3, 4, 9):
        pages = pages_of(store, {"v": similar + "this"}, limit)
        assert [thread.id for page in pages for thread in page.threads] == expected
    assert listed(store, {"v": similar + "none"}) == []
    assert len(listed(store)) == 60


# What is gone


def test_a_listing_removes_what_it_finds_gone(store: RedisStore, client: redis.Redis) -> None:
    ids = fill(store, 12, {"owner": "ada", "app": "chat"})
    for thread_id in ids[::2]:
        forget(client, thread_id)
    assert listed(store, {"owner": "ada", "app": "chat"}, limit=3) == ids[:-7:-2]
    for name in (INDEX, f'{INDEX}."owner":"ada"', f'{INDEX}."app":"chat"'):
        assert client.zcard(name) < 12
    assert listed(store) == ids[::-2]
    assert client.zcard(INDEX) == 6


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
def test_what_is_gone_stays_a_small_part_of_an_index(
    store: RedisStore, client: redis.Redis, order: str
) -> None:
    """Without listing or purging: new threads remove expired ones."""
    alive: deque[str] = deque(fill(store, 100, {"app": "chat"}))
    most: dict[str, int] = {}
    for number in range(1_500):
        alive.extend(fill(store, 1, {"app": "chat", "number": number}))
        # The first ones stay: the index has not only at its end what is gone.
        gone = 50 if order == "oldest first" else -2
        forget(client, alive[gone])
        del alive[gone]
        for name in (INDEX, f'{INDEX}."app":"chat"'):
            most[name] = max(most.get(name, 0), client.zcard(name))
    assert all(count < 300 for count in most.values()), most
    assert sorted(listed(store, limit=1_000)) == sorted(alive)


def test_purge_removes_what_is_gone_from_the_index(
    store: RedisStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_index, "MOST_LOOKED_AT", 50)
    ids = fill(store, 700, {})
    for thread_id in ids[100:]:
        forget(client, thread_id)
    steps: list[int] = []
    assert store.purge(steps.append) == sum(steps) == 600
    # In steps: Redis does something else between them.
    assert len(steps) > 5
    assert client.zcard(INDEX) == 100
    assert store.purge(steps.append) == 0
    assert sorted(listed(store, limit=200)) == sorted(ids[:100])


def test_an_index_stays_as_long_as_its_last_thread(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    label = f'{INDEX}."owner":"ada"'
    with (
        closing(RedisStore.from_url(redis_server.url, ttl=1_000.0)) as longer,
        closing(RedisStore.from_url(redis_server.url, ttl=10.0)) as shorter,
    ):
        (long_lived,) = fill(longer, 1, {"owner": "ada"})
        fill(shorter, 3, {"owner": "ada"})
        for name in (INDEX, label):
            assert client.ttl(name) >= 1_000
        for _ in range(6):
            pass_time(client, 600)
            assert longer.read(long_lived, ["a"]) is not None
            assert client.ttl(label) >= client.ttl(f"{INDEX}:{long_lived}")
        assert listed(longer, {"owner": "ada"}) == [long_lived]
        with closing(RedisStore.from_url(redis_server.url, ttl=None)) as endless:
            fill(endless, 1, {"owner": "ada"})
        assert client.ttl(INDEX) == client.ttl(label) == -1
        fill(shorter, 1, {"owner": "ada"})
        assert client.ttl(INDEX) == client.ttl(label) == -1


def test_an_index_that_was_lost_is_made_again(store: RedisStore, client: redis.Redis) -> None:
    (thread_id,) = fill(store, 1, {"owner": "ada"})
    store.merge(thread_id, [Push("l", b"1")])
    label = f'{INDEX}."owner":"ada"'
    changes: dict[str, Callable[[], object]] = {
        INDEX: lambda: store.merge(thread_id, [Push("l", b"2")]),
        # A push does not touch it.
        label: lambda: store.merge(thread_id, [], {"owner": "ada", "n": 1}),
    }
    for name, change in changes.items():
        client.delete(name)
        change()
        assert client.ttl(name) > 0
        assert listed(store, {"owner": "ada"}) == listed(store) == [thread_id]
    client.delete(label)
    pass_time(client, 604_800 // 4)
    assert store.read(thread_id) is not None
    assert listed(store, {"owner": "ada"}) == [thread_id]


def test_an_index_expires_with_its_last_thread(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    with closing(RedisStore.from_url(redis_server.url, ttl=0.05)) as store:
        fill(store, 20, {"owner": "ada"})
        assert client.exists(f'{INDEX}."owner":"ada"')
        eventually(lambda: client.dbsize() == 0)


# Times


@pytest.mark.parametrize("ahead", [0.000001, 3_600, 9e9, 2.5e11])
def test_a_change_comes_later_than_the_one_before(
    store: RedisStore, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the clock that wrote the one before is ahead, or was."""
    # Such a thread cannot be imported. It stands for one that was written at that time.
    monkeypatch.setattr("flask_agentuity.stores.redis.store.require_times", lambda thread: None)
    first, second = new_id(), new_id()
    then = time.time() + ahead
    for thread_id in (first, second):
        store.import_thread(ListedThread(thread_id, {"owner": "ada"}, 5.0, then, 0), b'{"l":[1]}')
    for operation in (Push("l", b"1"), Set("a", b"1"), Push("l", b"1", 5)):
        for thread_id in (first, second):
            before = store.list({"owner": "ada"}).threads
            store.merge(thread_id, [operation])
            after = store.list({"owner": "ada"}).threads
            (old,) = (thread.updated for thread in before if thread.id == thread_id)
            (new,) = (thread.updated for thread in after if thread.id == thread_id)
            assert new > old
            assert after == store.list().threads
            assert [thread.created for thread in after] == [5.0, 5.0]


def test_one_damaged_thread_does_not_hide_the_others(
    store: RedisStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = fill(store, 3, {"owner": "ada"})
    client.hset(f"{INDEX}:{ids[0]}", "head", "what is this")
    client.hset(f"{INDEX}:{ids[1]}", "metadata", '{"owner":')
    assert listed(store) == [ids[2], ids[1]]
    assert listed(store, {"owner": "ada"}) == [ids[2]]
    for thread_id in ids[:2]:
        assert f"{thread_id} is damaged" in caplog.text
    with pytest.raises(StoreError, match="damaged"):
        store.restore(ids[1])


# Partitions


def test_threads_are_spread_and_found_together(redis_server: RedisServer) -> None:
    url = redis_server.url
    with closing(RedisStore.from_url(f"{url}?partitions=5")) as store:
        ids = fill(store, 40, {"owner": "ada"})
        fill(store, 40, {"owner": "bob"})
        for limit in (1, 7, 39, 40, 41):
            pages = pages_of(store, {"owner": "ada"}, limit)
            assert [thread.id for page in pages for thread in page.threads] == ids[::-1]
        with closing(redis_server.client()) as client:
            counts = [client.zcard(f"agentuity:{{{number}}}") for number in range(5)]
        assert sum(counts) == 80
        assert min(counts) > 0
    # Where a thread is does not depend on the process, nor on the version.
    with closing(RedisStore.from_url(url, partitions=5)) as again:
        assert sorted(listed(again, {"owner": "ada"})) == sorted(ids)
        again.merge("thrd_0123456789abcdef0123456789abcdef", [Set("a", b"1")])
    with closing(redis_server.client()) as client:
        assert client.exists("agentuity:{2}:thrd_0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize("limit", [1, 5, 20, 39])
def test_the_latest_threads_may_all_be_in_one_partition(
    redis_server: RedisServer, limit: int
) -> None:
    """Each is asked for a few only: the one that has them all is asked again."""
    with closing(RedisStore.from_url(f"{redis_server.url}?partitions=16")) as store:
        others = fill(store, 60, {"owner": "ada"})
        ids = [new_id() for _ in range(1_000)]
        ids = [one for one in ids if store._names(one)[1] == b"agentuity:{3}"][:40]
        for thread_id in ids:
            store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
        expected = [*others, *ids][::-1]
        assert listed(store, {"owner": "ada"}, limit=limit) == expected[:limit]
        pages = pages_of(store, None, limit)
        assert [thread.id for page in pages for thread in page.threads] == expected


def test_labels_of_any_text_are_told_apart(store: RedisStore) -> None:
    """A label names a key of Redis, and is a line in the text of a thread."""
    values = ['"', "\n", '"\n"', ":", '":"', '"a":"b"', "{0}", "}", "", "x" * 399, "é" * 250]
    ids = {}
    for value in values:
        ids[value] = fill(store, 1, {value: value, "same": value})[0]
    for value in values:
        assert listed(store, {value: value}) == [ids[value]]
        assert listed(store, {"same": value, value: value}) == [ids[value]]
