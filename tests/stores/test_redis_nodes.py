"""The Redis store on several nodes: a cluster whose slots move, and a master that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import NodesManager, RedisCluster
from support.redis_nodes import (
    agree,
    begin_to_move,
    cluster,
    end_moving,
    owner_of,
    slot_of,
    watched,
)
from support.redis_server import PATIENCE, RedisServer, pass_time
from support.waiting import eventually

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ServiceUnavailable, StoreError
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.redis.store import RedisStore

from .conformance import Clock, new_id, pushes
from .listing import ListingConformance, listed, pages_of

CHAT = [*pushes("messages", range(50)), Set("title", b'"t"')]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with cluster(tmp_path_factory.mktemp("cluster"), 3) as nodes:
        yield nodes


def clear(nodes: list[RedisServer]) -> str:
    for node in nodes:
        with closing(node.client()) as client:
            client.flushall()
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


@pytest.fixture
def store(nodes: list[RedisServer]) -> Iterator[RedisStore]:
    with closing(RedisStore.from_url(clear(nodes), timeout=PATIENCE)) as store:
        yield store


class TestListingOnThreeNodes(ListingConformance):
    shared = True

    @pytest.fixture
    def place(self, nodes: list[RedisServer]) -> Any:
        return clear(nodes)

    def open(self, place: Any, **options: Any) -> ThreadStore:
        return RedisStore.from_url(place, timeout=PATIENCE, **options)

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        with closing(RedisCluster.from_url(place.replace("+cluster", "").split(",")[0])) as client:
            yield Clock(partial(pass_time, client))


def test_threads_are_on_all_nodes(store: RedisStore, nodes: list[RedisServer]) -> None:
    ids = [new_id() for _ in range(60)]
    for thread_id in ids:
        store.merge(thread_id, CHAT, {"owner": "ada"})
    for node in nodes:
        with closing(node.client()) as client:
            assert client.dbsize() > 20
    for thread_id in ids[::9]:
        snapshot = store.read(thread_id, ["title"])
        assert snapshot is not None
        assert snapshot.encoded["title"] == b'"t"'
        assert store.take_turn(thread_id, "a", 60)
        assert not store.take_turn(thread_id, "b", 60)
        assert store.restore(thread_id) is not None
    pages = pages_of(store, {"owner": "ada"}, 7)
    assert [thread.id for page in pages for thread in page.threads] == ids[::-1]
    for thread_id in ids[10:]:
        store.delete(thread_id)
    assert listed(store) == ids[9::-1]
    now = time.time() + 60
    assert store.import_thread(ListedThread(ids[0], {}, now, now, 0), b'{"state":{"a":1}}')
    assert not store.import_thread(ListedThread(ids[0], {}, now, now, 0), b'{"state":{"a":2}}')
    assert listed(store)[0] == ids[0]
    assert store.purge() == 0


def test_a_listing_asks_each_node_once(store: RedisStore, nodes: list[RedisServer]) -> None:
    for _ in range(40):
        store.merge(new_id(), [Set("a", b"1")])
    store.list(limit=5)
    for node in nodes:
        with closing(node.client()) as client:
            client.config_resetstat()
    assert len(store.list(limit=5).threads) == 5
    asked = []
    for node in nodes:
        with closing(node.client()) as client:
            asked.append(client.info("commandstats")["cmdstat_evalsha"]["calls"])
    # Each of the 64 partitions, and again a few that have more of the latest than others.
    assert 64 <= sum(asked) <= 64 + 10
    assert min(asked) > 5


def test_a_slot_that_moves(store: RedisStore, nodes: list[RedisServer]) -> None:
    ids = [new_id() for _ in range(30)]
    for thread_id in ids:
        store.merge(thread_id, [*CHAT, Push("l", b"1")], {"owner": "ada"})
    before = {thread_id: store.restore(thread_id) for thread_id in ids}
    for place, thread_id in enumerate(one_of_each_slot(store, ids)[:8]):
        thread = store._names(thread_id)[0].decode()
        slot = slot_of(nodes[0], thread)
        source = owner_of(nodes, thread)
        eventually(partial(agree, nodes, thread, source))
        target = next(node for node in nodes if node is not source)
        begin_to_move(slot, source, target)
        # On its way: what is still there is served, what is not yet anywhere cannot be made.
        assert store.restore(thread_id) == before[thread_id]
        missing = next_in_partition(store, thread_id)
        with pytest.raises(ServiceUnavailable, match="nothing was changed"):
            store.merge(missing, [Set("a", b"1")])
        end_moving(slot, source, target)
        # The store does not know it yet; each kind of call finds the node.
        if place % 4 == 0:
            store.merge(thread_id, [Push("l", b"2")])
            before[thread_id] = (before[thread_id] or b"").replace(b'"l":[1]', b'"l":[1,2]')
        elif place % 4 == 1:
            assert store.read(thread_id, ["title"]) is not None
        elif place % 4 == 2:
            assert sorted(listed(store, {"owner": "ada"})) == sorted(ids)
        else:
            assert store.purge() == 0
        assert store.restore(thread_id) == before[thread_id]
    for thread_id in ids:
        assert store.restore(thread_id) == before[thread_id]
    assert sorted(listed(store)) == sorted(ids)


def test_a_map_that_stays_old(
    store: RedisStore, nodes: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is asked for the slots may be outdated. The reply itself names the right node."""
    ids = [new_id() for _ in range(10)]
    for thread_id in ids:
        store.merge(thread_id, [Push("l", b"1")], {"owner": "ada"})
    monkeypatch.setattr(NodesManager, "initialize", lambda *_, **__: None)
    for thread_id in one_of_each_slot(store, ids)[:3]:
        thread = store._names(thread_id)[0].decode()
        source = owner_of(nodes, thread)
        eventually(partial(agree, nodes, thread, source))
        target = next(node for node in nodes if node is not source)
        slot = slot_of(nodes[0], thread)
        begin_to_move(slot, source, target)
        end_moving(slot, source, target)
        store.merge(thread_id, [Push("l", b"2")])
        assert store.restore(thread_id) == b'{"state":{"l":[1,2]},"metadata":{"owner":"ada"}}'
        assert sorted(listed(store, {"owner": "ada"})) == sorted(ids)


def test_a_node_that_knows_an_earlier_move_only(
    store: RedisStore, nodes: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that it names does not have the slot any more, and names another."""
    ids = [new_id() for _ in range(6)]
    for thread_id in ids:
        store.merge(thread_id, [Push("l", b"1")], {"owner": "ada"})
    monkeypatch.setattr(NodesManager, "initialize", lambda *_, **__: None)
    for thread_id in one_of_each_slot(store, ids):
        thread = store._names(thread_id)[0].decode()
        slot, first = slot_of(nodes[0], thread), owner_of(nodes, thread)
        second, third = (node for node in nodes if node is not first)
        for source, target in ((first, second), (second, third)):
            begin_to_move(slot, source, target)
            end_moving(slot, source, target)
            eventually(partial(agree, nodes, thread, target))
        with closing(first.client()) as client, closing(second.client()) as other:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", other.cluster("MYID"))
        assert sorted(listed(store, {"owner": "ada"})) == sorted(ids)
        store.merge(thread_id, [Push("l", b"2")])
        assert store.restore(thread_id) == b'{"state":{"l":[1,2]},"metadata":{"owner":"ada"}}'
        eventually(partial(agree, nodes, thread, third))


def one_of_each_slot(store: RedisStore, ids: list[str]) -> list[str]:
    """Return a thread of each slot: the nodes take their time to hear of one that moves again."""
    return list({store._names(thread_id)[1]: thread_id for thread_id in ids}.values())


def next_in_partition(store: RedisStore, thread_id: str) -> str:
    """Return a new id whose thread belongs to the partition of another."""
    while True:
        candidate = new_id()
        if store._names(candidate)[1] == store._names(thread_id)[1]:
            return candidate


@pytest.mark.parametrize("way", ["is killed", "hangs"])
def test_a_master_that_fails(tmp_path: Path, way: str) -> None:
    with (
        watched(tmp_path) as (master, replica, url),
        closing(RedisStore.from_url(f"{url}?timeout=0.5")) as store,
    ):
        thread_id = new_id()
        for _ in range(20):
            store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"owner": "ada"})
        with closing(master.client()) as client:
            # What only the master has is lost with it; Redis can be told to wait for that.
            eventually(lambda: client.wait(1, 100) == 1)
        before = store.restore(thread_id)
        if way == "is killed":
            master.stop()
        else:
            master.freeze()
        failures = 0
        deadline = time.monotonic() + PATIENCE
        calls: list[Callable[[], object]] = [
            lambda: store.merge(thread_id, [Set("b", b"2")]),
            lambda: store.restore(thread_id),
            lambda: store.read(thread_id, ["a"]),
            lambda: store.list(),
        ]
        while True:
            began = time.monotonic()
            try:
                for call in calls:
                    call()
                break
            except StoreError:
                failures += 1
            # A few timeouts: of the Sentinel that is not there, the other, and the master.
            assert time.monotonic() - began < 10
            assert time.monotonic() < deadline, "the store does not find the new master"
        assert failures > 0
        assert before is not None
        assert store.restore(thread_id) == before.replace(b'"a":1', b'"a":1,"b":2')
        assert listed(store, {"owner": "ada"}) == [thread_id]
        with closing(replica.client()) as client:
            assert client.info("replication")["role"] == "master"
        if way == "hangs":
            # It comes back and still believes to be the master, but is not asked.
            master.thaw()
        store.merge(thread_id, [Push("l", b"3")])
        snapshot = store.read(thread_id, ["l"])
        assert snapshot is not None
        assert snapshot.encoded["l"] == b"[%b]" % b",".join([*[b"1"] * 20, b"3"])


def test_without_enough_replicas_nothing_is_written(redis_server: RedisServer) -> None:
    thread_id = new_id()
    with (
        closing(RedisStore.from_url(redis_server.url, timeout=PATIENCE)) as store,
        closing(redis_server.client()) as client,
    ):
        store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"owner": "ada"})
        before = store.restore(thread_id), store.list()
        client.config_set("min-replicas-to-write", 1)
        try:
            calls: list[Callable[[], object]] = [
                lambda: store.merge(thread_id, [Push("l", b"2")]),
                lambda: store.merge(thread_id, [Set("a", b"2")], {"owner": "bob"}),
                lambda: store.save(thread_id, b""),
                lambda: store.delete(thread_id),
            ]
            for call in calls:
                with pytest.raises(ServiceUnavailable, match=r"nothing was changed.*NOREPLICAS"):
                    call()
            assert (store.restore(thread_id), store.list()) == before
        finally:
            client.config_set("min-replicas-to-write", 0)
