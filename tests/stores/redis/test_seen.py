"""What a request has seen makes its pushes cheaper, and never changes what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from support.redis_server import PATIENCE, RedisServer, measured, pass_time

from flask_agentuity.document import codec
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Operation,
    PopLast,
    Push,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from flask_agentuity.errors import StateTooLarge, StoreError, ThreadGone
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write, Written

from ..listing import listed
from .stored import contents, name

#: What the short way runs inside Redis, besides what labels need.
SHORT = {"evalsha", "hmget", "strlen", "time", "zadd", "hset", "setrange", "pexpire"}


def seen(store: RedisStore, thread_id: str, key: str = "l") -> Any:
    snapshot = store.read(thread_id, [key])
    assert snapshot is not None
    return snapshot.seen


def push(store: RedisStore, thread_id: str, place: Any, *items: bytes, **more: Any) -> Written:
    operations = [Push("l", item) for item in items]
    outcome = store.write(thread_id, Write(operations, seen=place, counted=["l"], **more))
    assert isinstance(outcome, Written)
    return outcome


def commands_of(client: redis.Redis, call: Callable[[], object]) -> dict[str, int]:
    commands, _, _ = measured(client, call)
    return commands


@pytest.fixture
def place(store: RedisStore, thread_id: str) -> Any:
    """What was seen of a thread with a list of three."""
    store.merge(thread_id, [Push("l", b"%d" % n) for n in range(3)], {"owner": "ada"})
    return seen(store, thread_id)


@pytest.mark.parametrize("way", ["seen", "not seen", "seen before"])
def test_a_push_takes_the_short_way(
    store: RedisStore, client: redis.Redis, thread_id: str, place: Any, way: str
) -> None:
    if way == "seen before":
        push(store, thread_id, place, b"3")
    known = None if way == "not seen" else place
    commands = commands_of(client, lambda: push(store, thread_id, known, b"4", b"5"))
    # The index of a term of metadata is not touched.
    assert set(commands) == SHORT
    assert set(commands.values()) == {1}
    assert [*store.list({"owner": "ada"}).threads] == [*store.list().threads]
    expected = b"[0,1,2,3,4,5]" if way == "seen before" else b"[0,1,2,4,5]"
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert snapshot.encoded == {"l": expected}


def test_what_a_write_brings_is_as_good_as_what_a_read_brings(
    store: RedisStore, thread_id: str, place: Any
) -> None:
    """Written by the short way, by the long one, and blindly."""
    first = place
    for number in range(9):
        known = [place, None, first][number % 3]
        if number < 6:
            written = push(store, thread_id, known, b"%d" % number)
        else:
            operations: list[Operation] = [Push("l", b"9"), Set("a", b"%d" % number)]
            outcome = store.write(thread_id, Write(operations, seen=known))
            assert isinstance(outcome, Written)
            written = outcome
        place = written.seen
        again = seen(store, thread_id)
        assert written.version == int(place.head.split()[5])
        assert place.head == again.head
        assert place.entries[b'"l"'] == again.entries[b'"l"']


def test_preceding_and_version_come_from_the_short_way(
    store: RedisStore, thread_id: str, place: Any
) -> None:
    first = push(store, thread_id, place, b"3", b"4")
    second = push(store, thread_id, first.seen, b"5")
    blind = push(store, thread_id, None, b"6")
    assert [each.preceding for each in (first, second, blind)] == [{"l": 3}, {"l": 5}, {"l": 6}]
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert first.version < second.version < blind.version == snapshot.version


@pytest.mark.parametrize(
    "between",
    [
        [Push("l", b'"other"')],
        [Set("l", b'["other"]')],
        [Set("l", b'"no list"')],
        [Delete("l")],
        [Clear()],
        [PopLast("l"), PopLast("l")],
        [Truncate("l", 0)],
        [Push("l", b"7", 2)],
        [Splice("l", (Change(1, (b"1",), (b'"longer"', b"{}")),), 2**52)],
        [Set("unrelated", b"1")],
        [SetMetadata(b'{"owner":"bob","more":1}')],
        [SetMetadata(b"{}")],
    ],
    ids=lambda operations: type(operations[0]).__name__,
)
def test_what_another_has_written_in_between_counts(
    store: RedisStore,
    client: redis.Redis,
    thread_id: str,
    place: Any,
    between: list[Operation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same comes of it as with nothing seen."""
    results = []
    for known in (place, None):
        store.merge(thread_id, [Clear(), Set("l", b"[0,1,2]")], {"owner": "ada"})
        if known is not None:
            known = seen(store, thread_id)
        assert isinstance(store.write(thread_id, Write(between, 0)), Written)
        written = push(store, thread_id, known, b"3", b"4")
        (thread,) = store.list().threads
        results.append((store.restore(thread_id), written.preceding, thread.metadata, thread.size))
        assert thread.size == len(store.restore(thread_id) or b"")
        assert listed(store, thread.metadata) == [thread_id]
    assert results[0] == results[1]


def test_what_was_seen_of_another_thread_is_of_no_use(
    store: RedisStore, thread_id: str, place: Any
) -> None:
    other = thread_id[:-4] + "0000"
    store.merge(other, [Push("l", b"1")])
    push(store, other, place, b"2")
    push(store, thread_id, seen(store, other), b"3")
    push(store, thread_id, "what is this", b"4")
    assert store.restore(other) == b'{"state":{"l":[1,2]}}'
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert snapshot.encoded["l"] == b"[0,1,2,3,4]"


def test_a_deleted_thread_was_not_seen(store: RedisStore, thread_id: str, place: Any) -> None:
    began = time.monotonic()
    store.delete(thread_id)
    with pytest.raises(ThreadGone):
        push(store, thread_id, place, b"3", began=began)
    store.merge(thread_id, [Push("l", b"1")])
    # Even one that has read the new thread, if it began before.
    with pytest.raises(ThreadGone):
        push(store, thread_id, seen(store, thread_id), b"3", began=began)
    push(store, thread_id, seen(store, thread_id), b"2")
    assert store.restore(thread_id) == b'{"state":{"l":[1,2]}}'


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
def test_a_string_that_is_gone_is_not_added_to(
    store: RedisStore, client: redis.Redis, thread_id: str, place: Any, known: bool
) -> None:
    for change in (
        lambda: client.delete(name(thread_id, "l")),
        lambda: client.set(name(thread_id, "l"), b"[0\n1\n2]]"),
    ):
        change()
        before = contents(client)
        with pytest.raises(StoreError, match=f"{thread_id} is damaged"):
            push(store, thread_id, place if known else None, b"3")
        assert contents(client) == before


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
@pytest.mark.parametrize("metadata", [{}, {"owner": "ada", "tags": ["a"]}])
def test_the_limit_is_exact(
    redis_server: RedisServer, thread_id: str, known: bool, metadata: dict[str, Any]
) -> None:
    limit = 500
    with closing(RedisStore.from_url(redis_server.url, max_bytes=limit)) as store:
        store.merge(thread_id, [Push("l", b"1")], metadata)
        left = limit - len(store.restore(thread_id) or b"")
        for size in (left - 100, left - 30, left - 1, left, left + 1):
            store.merge(thread_id, [Set("l", b"[1]")])
            place = seen(store, thread_id) if known else None
            item = codec.encode("x" * (size - 3))
            if size <= left:
                push(store, thread_id, place, item)
                assert len(store.restore(thread_id) or b"") == limit - left + size
            else:
                with pytest.raises(StateTooLarge) as caught:
                    push(store, thread_id, place, item)
                assert caught.value.size == limit + 1
                assert store.restore(thread_id) is not None


def test_a_null_is_told(store: RedisStore, thread_id: str, place: Any) -> None:
    written = push(store, thread_id, place, b"1")
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert "l" in snapshot.without_null
    push(store, thread_id, written.seen, b'{"a":null}')
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert "l" not in snapshot.without_null


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
def test_a_thread_that_comes_from_the_future_is_updated_now(
    store: RedisStore, thread_id: str, known: bool
) -> None:
    then = time.time() + 9_000
    store.import_thread(ListedThread(thread_id, {}, 5.0, then, 0), b'{"state":{"l":[1]}}')
    place = seen(store, thread_id) if known else None
    for number in range(3):
        if number:
            (before,) = store.list().threads
            place = seen(store, thread_id) if known else None
        push(store, thread_id, place, b"2")
        (after,) = store.list().threads
        assert after.created == 5.0 < after.updated < then - 5_000
        if number:
            assert after.updated > before.updated
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert snapshot.encoded["l"] == b"[1,2,2,2]"


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
@pytest.mark.parametrize("ttl", [0.05, 5.0, 1_000.0, None])
def test_a_push_renews_what_has_to_be_renewed(
    redis_server: RedisServer,
    client: redis.Redis,
    thread_id: str,
    known: bool,
    ttl: float | None,
) -> None:
    with (
        closing(RedisStore.from_url(redis_server.url, timeout=PATIENCE)) as other,
        closing(RedisStore.from_url(redis_server.url, ttl=ttl, timeout=PATIENCE)) as store,
    ):
        # Taken over from a store with another time to live.
        other.merge(thread_id, [Push("l", b"1")], {"owner": "ada"})
        place = seen(other, thread_id) if known else None
        for _ in range(12):
            written = push(store, thread_id, place, b"2")
            place = written.seen if known else None
            lasting = client.pttl(name(thread_id))
            if ttl is None:
                assert lasting == -1
            elif ttl > 1:
                assert ttl * 1_000 - 900 < lasting <= ttl * 1_000
            for key in client.scan_iter():
                left = client.pttl(key)
                # -2: it has expired before it was asked for.
                assert left in (-1, -2) or (lasting != -1 and left >= min(lasting, 0))
            if ttl is not None and ttl > 1:
                strings = client.pttl(name(thread_id, "l"))
                assert lasting < strings <= ttl * 1_200 + 5
                pass_time(client, ttl * 0.11)


def test_two_writers_take_turns(store: RedisStore, thread_id: str, place: Any) -> None:
    """Each has seen what is old by now; nothing is lost, and nothing is there twice."""
    places = [place, place]
    for number in range(60):
        written = push(store, thread_id, places[number % 2], b"%d" % number)
        assert written.preceding == {"l": number + 3}
        places[number % 2] = written.seen
    snapshot = store.read(thread_id)
    assert snapshot is not None
    assert codec.decode(snapshot.encoded["l"] or b"") == [0, 1, 2, *range(60)]
