"""Runs in Redis: what stays there, and waiting over failures."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import redis
from support.redis_server import PATIENCE, RedisServer
from support.waiting import eventually

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.runs import ABANDONED_SECONDS, Addition, NewRun, RunKey, RunStore
from flask_agentuity.testing.conformance.runs import begin


@pytest.fixture
def runs(store: RedisStore) -> RunStore:
    assert store.runs is not None
    return store.runs


def run_keys(client: redis.Redis) -> dict[bytes, int]:
    """Return the milliseconds after which each key of a run expires."""
    return {
        key.rpartition(b"}:")[2].partition(b":")[2]: client.pttl(key)
        for key in client.scan_iter()
        if b":run" in key or b":log:" in key
    }


def test_every_key_of_a_run_expires(runs: RunStore, client: redis.Redis, thread_id: str) -> None:
    key = begin(runs, thread_id)
    milliseconds = ABANDONED_SECONDS * 1000
    assert set(run_keys(client)) == {b"runs", b"run:r1"}
    assert all(
        milliseconds - PATIENCE * 1000 < left <= milliseconds for left in run_keys(client).values()
    )
    runs.append([Addition(key, 0, b"abc")])
    assert set(run_keys(client)) == {b"runs", b"run:r1", b"log:r1"}
    assert all(0 < left <= milliseconds for left in run_keys(client).values())
    # Their times are renewed after a tenth.
    for name in client.scan_iter():
        client.pexpire(name, int(milliseconds * 0.8))
    runs.append([Addition(key, 3, b"def")])
    assert all(left > milliseconds * 0.9 for left in run_keys(client).values())
    runs.append([Addition(key, 6, b"", "done")])
    left = run_keys(client)
    assert 0 < left[b"run:r1"] <= 300_000
    assert 0 < left[b"log:r1"] <= 300_000


def test_the_ids_of_expired_runs_are_removed(
    runs: RunStore, client: redis.Redis, thread_id: str
) -> None:
    for number in range(5):
        run = NewRun(RunKey(thread_id, f"r{number}"), "sse", "a", time.time(), keep=0.02)
        runs.begin(run)
        runs.append([Addition(run.key, 0, b"abc", "done")])
        deadline = time.monotonic() + PATIENCE
        while runs.look([run.key]):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert runs.latest(thread_id) is None
    begin(runs, thread_id, "last")
    (ids,) = (client.lrange(name, 0, -1) for name in client.scan_iter("*:runs"))
    assert ids == [b"last"]


def test_nothing_of_a_run_is_left_when_its_thread_is_deleted(
    store: RedisStore, runs: RunStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Set("a", b"1")])
    key = begin(runs, thread_id)
    runs.append([Addition(key, 0, b"abc")])
    store.delete(thread_id)
    assert run_keys(client) == {}


def test_another_type_of_key_is_an_error(
    store: RedisStore, runs: RunStore, client: redis.Redis, thread_id: str
) -> None:
    key = begin(runs, thread_id)
    for name in list(client.scan_iter()):
        client.delete(name)
        client.sadd(name, "of another program")
    for call in (
        lambda: runs.append([Addition(key, 0, b"abc")]),
        lambda: runs.look([key]),
        lambda: runs.latest(thread_id),
        lambda: runs.stop(key),
        lambda: store.delete(thread_id),
    ):
        with pytest.raises(StoreError, match="Another program uses a key"):
            call()


def test_waiting_goes_on_after_an_outage(own_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(own_server.url, timeout=PATIENCE)) as store:
        assert store.runs is not None
        runs = store.runs
        key = begin(runs, thread_id)
        with runs.watch() as watch:
            watch.wait([key], PATIENCE)
            timer = threading.Timer(0.05, own_server.stop)
            timer.start()
            with pytest.raises(StoreError):
                for _ in range(1_000):
                    watch.wait([key], PATIENCE)
            timer.join()
            with pytest.raises(StoreError):
                watch.wait([key], PATIENCE)
            own_server.start()
            # It subscribes again and returns at once, because changes may have been missed.
            watch.wait([key], PATIENCE)
            timer = threading.Timer(0.05, lambda: runs.append([Addition(key, 0, b"abc")]))
            timer.start()
            while runs.read(key) != b"abc":
                watch.wait([key], PATIENCE)
            timer.join()


def test_a_killed_connection_is_noticed(
    store: RedisStore, runs: RunStore, client: redis.Redis, thread_id: str
) -> None:
    key = begin(runs, thread_id)
    with runs.watch() as watch:
        watch.wait([key], PATIENCE)
        client.client_kill_filter(_type="pubsub")
        with pytest.raises(StoreError):
            for _ in range(1_000):
                watch.wait([key], PATIENCE)
        watch.wait([key], PATIENCE)


def test_a_watch_uses_one_connection_and_leaves_nothing(
    runs: RunStore, client: redis.Redis, thread_id: str
) -> None:
    def subscribers() -> int:
        return len(client.client_list(_type="pubsub"))

    keys = [begin(runs, f"{thread_id}{number}") for number in range(30)]
    with runs.watch() as watch:
        watch.wait(keys, PATIENCE)
        watch.wait(keys[:10], 0.01)
        assert subscribers() == 1
        assert len(client.pubsub_channels()) == 10
        watch.wait(keys, PATIENCE)
        assert len(client.pubsub_channels()) == 30
        watch.wait([], 0.01)
        watch.wait([], 0.01)
        eventually(lambda: not subscribers())
        watch.wait(keys, PATIENCE)
    eventually(lambda: not client.pubsub_channels())


def test_a_user_who_may_not_publish(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    client.acl_setuser(
        "silent",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        categories=["+@all", "-@dangerous"],
        channels=[],
    )
    url = redis_server.url.replace("//", "//silent:secret@")
    try:
        with closing(RedisStore.from_url(url, timeout=PATIENCE)) as store:
            assert store.runs is not None
            key = begin(store.runs, thread_id)
            # The run goes on. Who waits is told what is missing.
            assert not store.runs.append([Addition(key, 0, b"abc", "done")])
            with (
                store.runs.watch() as watch,
                pytest.raises(StoreError, match=r"~\* &\* \+@all -@dangerous \+info"),
            ):
                watch.wait([key], PATIENCE)
    finally:
        client.acl_deluser("silent")
