"""What calls of the Redis store cost, and what belongs together when it is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis
from support.counting_proxy import counting
from support.redis_server import RedisServer, measured

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import (
    Change,
    Increment,
    PopLast,
    Push,
    Replace,
    Set,
    Splice,
)
from flask_agentuity.stores import ListedThread, listing
from flask_agentuity.stores.redis.line import Line
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Conflict, Write

from ..conformance import new_id
from .stored import MESSAGE


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
    # The reply has sizes and places, which have more digits.
    assert long_out <= short_out + 100 * 15
    # A window that slides looks for its first item besides.
    limit = 1.02 if window is None else 1.5
    assert sum(long_commands.values()) <= sum(short_commands.values()) * limit


@pytest.mark.parametrize("read", [True, False])
def test_growing_the_last_message_sends_one_kilobyte_at_most(
    store: RedisStore, client: redis.Redis, read: bool
) -> None:
    def cost(stored: int) -> tuple[int, int]:
        thread_id = new_id()
        store.merge(thread_id, [Push("messages", MESSAGE)] * stored)
        grown = MESSAGE
        commands = received = 0
        for _ in range(3):
            snapshot = store.read(thread_id, ["messages"]) if read else None
            old, grown = grown, grown[:-2] + b' token"}'
            write = Write(
                [Splice("messages", (Change(stored - 1, (old,), (grown,)),))],
                seen=snapshot and snapshot.seen,
            )
            ran, taken, _ = measured(client, partial(store.write, thread_id, write))
            commands, received = max(commands, sum(ran.values())), max(received, taken)
        snapshot = store.read(thread_id, ["messages"])
        assert snapshot is not None
        encoded = snapshot.encoded["messages"]
        assert encoded is not None
        assert encoded.endswith(b'token token token"}]')
        return commands, received

    short, middle, long = (cost(stored) for stored in (10, 1_000, 4_000))
    assert len(MESSAGE) == 190
    assert max(short[1], middle[1], long[1]) <= 1_000
    assert long[0] <= short[0] + 2


@pytest.mark.parametrize("place", [0, 5, -6], ids=["first", "middle", "last"])
def test_an_edit_sends_the_same_at_any_length(
    store: RedisStore, client: redis.Redis, place: int
) -> None:
    def cost(stored: int) -> int:
        thread_id = new_id()
        store.merge(thread_id, [Push("messages", MESSAGE)] * stored)
        index = stored // 2 if place == 5 else place % stored
        old, new = (MESSAGE, MESSAGE), (b'"short"',)
        write = Write([Splice("messages", (Change(index, old, new),)), PopLast("messages")])
        _, received, _ = measured(client, partial(store.write, thread_id, write))
        snapshot = store.read(thread_id, ["messages"])
        assert snapshot is not None
        items = codec.items_of(snapshot.encoded["messages"] or b"")
        assert items.index(b'"short"') == index
        assert len(items) == stored - 2
        return received

    assert cost(4_000) <= cost(20) + 10


@pytest.mark.parametrize("kind", ["small", "list"])
def test_what_a_replacement_expects_is_not_sent(
    store: RedisStore, client: redis.Redis, thread_id: str, kind: str
) -> None:
    value = codec.encode(["x" * 100] * 5_000 if kind == "list" else {"a": "x" * 900})
    store.merge(thread_id, [Set("a", value)])
    other = value.replace(b"x", b"y", 1)
    outcome = store.write(thread_id, Write([Replace("a", other, b"1", 2**52)]))
    assert outcome == Conflict({"a"}, frozenset())
    write = Write([Replace("a", value, b"2", 2**52)])
    _, received, _ = measured(client, partial(store.write, thread_id, write))
    assert received < 600
    assert store.restore(thread_id) == b'{"state":{"a":2}}'


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
            lambda: store.write(
                thread_id, Write([Push("messages", MESSAGE)], counted=["messages"])
            ),
            lambda: store.write(thread_id, Write([PopLast("messages"), Increment("n", 2)])),
            lambda: store.save(thread_id, b'{"state":{"l":[1,2]}}'),
            lambda: store.list(),
            lambda: store.list({"owner": "ada"}, limit=1, cursor=listing.encode_cursor(5.0, "a")),
            lambda: store.import_thread(
                ListedThread(thread_id, {}, 5.0, time.time() + 9, 0), b'{"a":1}'
            ),
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

    def in_two_packets(line: Line, *commands: tuple[Any, ...], take: Any = None) -> list[Any]:
        if commands[0][0] != b"HGETALL":
            return exchange(line, *commands, take=take)
        replies = exchange(line, *commands[:1], take=take)
        if len(done) < max(between, 1):
            done.append(len(done) + 2)
            if between:
                value = b"%d" % done[-1]
                changes = [Set("a", value), Set("l", b"[%b]" % value)]
                store.merge(thread_id, changes, {"m": done[-1]})
            else:
                store.delete(thread_id)
        return replies + exchange(line, *commands[1:])

    exchange = Line.exchange
    monkeypatch.setattr(Line, "exchange", in_two_packets)
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

    def in_two_packets(line: Line, *commands: tuple[Any, ...], take: Any = None) -> list[Any]:
        if commands[0][0] != b"HGETALL":
            return exchange(line, *commands, take=take)
        replies = exchange(line, *commands[:1], take=take)
        if not pushed:
            pushed.append(2)
            store.merge(thread_id, [Push("l", b"2")])
        return replies + exchange(line, *commands[1:])

    exchange = Line.exchange
    monkeypatch.setattr(Line, "exchange", in_two_packets)
    assert store.read(thread_id, ["l"]) == Snapshot({"l": b"[1,2]"})
