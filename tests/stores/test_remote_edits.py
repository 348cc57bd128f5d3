"""Edits through a service: what they cost, and what becomes of them where there are none."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from support.counting_proxy import CountingProxy, counting
from support.recording import THREAD_ID, begin

from flask_agentuity.document import codec
from flask_agentuity.document.operations import (
    Change,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from flask_agentuity.errors import OutcomeUnknown, StateTooLarge, ThreadGone
from flask_agentuity.service import ThreadService
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.writing import Conflict, Write, Written, write_merged

from .conformance import with_all_done
from .odd_service import KEY, Documents, OddService, failure, success

Odd = Callable[..., tuple[OddService, RemoteStore]]
Connect = Callable[..., RemoteStore]

OLD = '{"state":{"l":[1],"a":1},"metadata":{"m":1}}'


def on_the_wire(service: OddService, action: str) -> list[dict[str, Any]]:
    return [request["data"] for request in service.requests if request["action"] == action]


# With a service that merges edits


@pytest.fixture
def kept() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def proxy(kept: MemoryStore) -> Iterator[CountingProxy]:
    with ThreadService(kept, [KEY]) as service:
        port = int(service.url.split(":")[2].partition("/")[0])
        with counting(port) as proxy:
            yield proxy


@pytest.fixture
def store(proxy: CountingProxy, connect: Connect) -> RemoteStore:
    """A store that is connected."""
    made = connect(f"ws://127.0.0.1:{proxy.port}", reconnect_base=0.01, reconnect_max=0.02)
    made.client.features()
    return made


def trips(proxy: CountingProxy, work: Callable[[], object]) -> int:
    before = proxy.round_trips
    work()
    return proxy.round_trips - before


def test_round_trips_with_edits(store: RemoteStore, proxy: CountingProxy) -> None:
    store.merge(THREAD_ID, [Set("l", b'[{"c":"a"},{"c":"b"}]'), Set("n", b"1")], {"m": 1})

    def read() -> None:
        thread = begin(store)
        assert thread.state["n"] == 1
        assert thread.metadata == {"m": 1}
        thread.save()

    def write() -> None:
        thread = begin(store)
        thread.state["other"] = 1
        thread.state.push("l", {"c": "c"}, max_records=10, keep_first=1)
        thread.state.increment("n")
        thread.save()
        thread.save()

    def read_and_write() -> None:
        thread = begin(store)
        thread.state["l"][1]["c"] += "x"
        thread.state["l"].insert(0, {"c": "0"})
        thread.state["n"] += 1
        thread.metadata["m"] += 1
        thread.save()
        thread.save()

    assert trips(proxy, lambda: begin(store).save()) == 0
    assert trips(proxy, read) == 1
    assert trips(proxy, write) == 1
    assert trips(proxy, read_and_write) == 2
    assert trips(proxy, lambda: store.delete(THREAD_ID)) == 1
    assert trips(proxy, lambda: store.save(THREAD_ID, b'{"state":{"a":1}}')) == 1
    assert trips(proxy, lambda: store.restore(THREAD_ID)) == 1
    assert proxy.connections == 1


def test_round_trips_of_an_owner(store: RemoteStore, proxy: CountingProxy) -> None:
    """The owner is in the metadata, and is looked up unless the request knows it."""

    def write(**given: Any) -> Written:
        write = Write([Push("l", b"1")], owner="ada", **given)
        return write_merged(store, THREAD_ID, write)

    def read_and_write_twice() -> None:
        snapshot = store.read(THREAD_ID, ("l",))
        assert snapshot is not None
        write(seen=write(seen=snapshot.seen).seen)

    assert trips(proxy, lambda: write(is_new=True)) == 1
    assert trips(proxy, read_and_write_twice) == 3
    assert trips(proxy, write) == 2
    snapshot = store.read(THREAD_ID)
    assert snapshot is not None
    assert (snapshot.owner, snapshot.encoded["l"]) == ("ada", b"[1,1,1,1]")


def test_a_conflict_costs_one_more_reading_and_writing(
    store: RemoteStore, proxy: CountingProxy, connect: Connect
) -> None:
    other = connect(f"ws://127.0.0.1:{proxy.port}")
    other.merge(THREAD_ID, [Set("l", b'[{"id":1,"c":"a"},{"id":2,"c":"b"}]')])
    thread = begin(store)
    thread.state["l"][1]["c"] += "mine"
    theirs = begin(other)
    del theirs.state["l"][0]
    theirs.save()
    assert trips(proxy, thread.save) == 3
    assert other.restore(THREAD_ID) == b'{"state":{"l":[{"id":2,"c":"bmine"}]}}'


def test_an_edit_sends_what_it_touches(store: RemoteStore) -> None:
    sent = []
    for count in (10, 4_000):
        messages = [{"role": "user", "content": "x" * 100} for _ in range(count)]
        store.merge(THREAD_ID, [Set("messages", codec.encode(messages))])
        thread = begin(store)
        thread.state["messages"][-1]["content"] += "y"
        before = store.client.stats()["bytes_out"]
        thread.save()
        sent.append(store.client.stats()["bytes_out"] - before)
    assert sent[1] < sent[0] + 100 < 1_000


def test_an_answer_that_is_lost(store: RemoteStore, proxy: CountingProxy) -> None:
    store.merge(THREAD_ID, [Set("l", b"[1,2]")])
    version = (store.read(THREAD_ID) or pytest.fail()).version
    changes = (Change(0, (b"1",), (b"0",)),)
    proxy.lose_answer = True
    with pytest.raises(OutcomeUnknown):
        store.write(THREAD_ID, Write([Splice("l", changes, version), Push("l", b"3")]))
    # It was applied, and not sent again.
    assert store.restore(THREAD_ID) == b'{"state":{"l":[0,2,3]}}'
    proxy.lose_answer = True
    with pytest.raises(OutcomeUnknown):
        store.save(THREAD_ID, b'{"state":{"a":1}}')


def test_a_deleted_thread_stays_deleted(store: RemoteStore, kept: MemoryStore) -> None:
    store.merge(THREAD_ID, [Push("l", b"1")])
    reader, blind = begin(store), begin(store)
    assert reader.state["l"] == [1]
    blind.state.push("l", 2)
    store.delete(THREAD_ID)
    reader.state["l"].append(3)
    for thread in (reader, blind):
        with pytest.raises(ThreadGone) as caught:
            thread.save()
        assert caught.value.thread_id == THREAD_ID
    assert store.restore(THREAD_ID) is None
    store.merge(THREAD_ID, [Push("l", b"4")])
    assert store.restore(THREAD_ID) == b'{"state":{"l":[4]}}'


def test_counters_and_functions_lose_nothing(store: RemoteStore) -> None:
    def count(name: int) -> None:
        for _ in range(10):
            thread = begin(store)
            thread.state.increment("blind")
            thread.save()
            thread = begin(store)
            thread.state.change("changed", lambda value: (value or 0) + 1)
            thread.save()

    with_all_done(count, range(4))
    assert store.restore(THREAD_ID) == b'{"state":{"blind":40,"changed":40}}'


def test_what_preceded_pushes_comes_back(store: RemoteStore) -> None:
    store.merge(THREAD_ID, [Set("l", b"[1,2]")])
    written = store.write(THREAD_ID, Write([Push("l", b"3")], counted=("l",)))
    assert isinstance(written, Written)
    assert written.preceding == {"l": 2}
    assert written.version == (store.read(THREAD_ID) or pytest.fail()).version


def test_a_function_is_not_sent(store: RemoteStore) -> None:
    edit = Edit("n", None, b"1", function=lambda stored: b"1")
    with pytest.raises(ValueError, match="function"):
        store.write(THREAD_ID, Write([edit]))


def test_too_large_is_told_with_both_sizes(connect: Connect) -> None:
    with ThreadService(MemoryStore(max_bytes=100), [KEY]) as service:
        store = connect(service.url)
        with pytest.raises(StateTooLarge) as caught:
            store.write(THREAD_ID, Write([Increment("n"), Set("a", b'"%b"' % (b"x" * 100))]))
    assert (caught.value.size, caught.value.limit) == (124, 100)


def test_a_conflict_and_a_refusal(odd: Odd) -> None:
    more = {"conflict": {"keys": ["a"], "assigned": ["a"], "metadata": True}}
    answers: list[Callable[[dict[str, Any]], str]] = [
        lambda request: json.dumps({**json.loads(failure(request, "no")), **more}),
        lambda request: failure(request, "the disk is on fire"),
        lambda request: success(request),
    ]

    def answer(request: dict[str, Any]) -> Iterable[str]:
        yield answers.pop(0)(request)

    service, store = odd(answer)
    service.features = {"edits": 1}
    write = Write([Replace("a", None, b"1")])
    assert store.write(THREAD_ID, write) == Conflict(("a",), ("a",), metadata=True)
    with pytest.raises(Exception, match="on fire"):
        store.write(THREAD_ID, write)
    assert store.write(THREAD_ID, write) == Written()
    (request, *_) = service.requests
    assert request["data"]["age"] < 60
    assert request["data"]["at"] <= time.monotonic()
    assert "version" not in request["data"] and "counted" not in request["data"]


# With a service that has no edits


def test_an_edit_becomes_a_set(odd: Odd) -> None:
    documents = Documents("restore", "merge")
    documents.stored[THREAD_ID] = OLD
    service, store = odd(documents)
    thread = begin(store)
    thread.state["l"].append({"c": ""})
    thread.save()
    assert service.actions == ["restore", "merge"]
    thread.state["l"][-1]["c"] += "token"
    thread.state["a"] += 1
    thread.metadata["m"] += 1
    thread.save()
    (merge,) = on_the_wire(service, "merge")
    assert merge == {
        "thread_id": THREAD_ID,
        "operations": [
            {"op": "set", "key": "l", "value": [1, {"c": "token"}]},
            {"op": "set", "key": "a", "value": 2},
        ],
        "metadata": {"m": 2},
    }
    assert service.actions == ["merge"]
    state = '{"l":[1,{"c":"token"}],"a":2}'
    assert documents.stored[THREAD_ID] == f'{{"state":{state},"metadata":{{"m":2}}}}'


SPLICE = Splice("l", (Change(0, (b"1",), (b"0",)),), 5, whole=b"[0]")
LIST_EDIT = Edit("l", b"[1]", b"[0,2]", (Change(0, (b"1",), (b"0",)),), (b"2",))


@pytest.mark.parametrize(
    ("operations", "sent"),
    [
        ([SPLICE], [{"op": "set", "key": "l", "value": [0]}]),
        ([Replace("a", b"5", b"6")], [{"op": "set", "key": "a", "value": 6}]),
        ([Edit("a", b"5", b"6")], [{"op": "set", "key": "a", "value": 6}]),
        ([LIST_EDIT], [{"op": "set", "key": "l", "value": [0, 2]}]),
        (
            [Edit("l", b"[1]", b"[1,2,3]", (), (b"2", b"3"))],
            [{"op": "push", "key": "l", "value": 2}, {"op": "push", "key": "l", "value": 3}],
        ),
        ([Edit("n", None, b"[1]")], [{"op": "set", "key": "n", "value": [1]}]),
        ([Set("n", b"1", only_if_missing=True)], [{"op": "set", "key": "n", "value": 1}]),
        (
            [LIST_EDIT, Push("l", b"3")],
            [{"op": "set", "key": "l", "value": [0, 2]}, {"op": "push", "key": "l", "value": 3}],
        ),
    ],
)
def test_what_becomes_of_an_operation(
    odd: Odd, operations: list[Operation], sent: list[dict[str, Any]]
) -> None:
    documents = Documents("restore", "merge")
    documents.stored[THREAD_ID] = OLD
    service, store = odd(documents)
    assert store.write(THREAD_ID, Write(operations)) == Written()
    (merge,) = on_the_wire(service, "merge")
    assert merge == {"thread_id": THREAD_ID, "operations": sent}
    assert service.actions == ["merge"]


@pytest.mark.parametrize(
    "operation",
    [
        SetMetadata(b'{"m":2}'),
        ReplaceMetadata(b'{"m":0}', b'{"m":2}'),
        EditMetadata(b'{"m":0}', b'{"m":2}'),
    ],
)
def test_metadata_is_replaced_as_a_whole(odd: Odd, operation: Operation) -> None:
    service, store = odd(Documents("restore", "merge"))
    store.write(THREAD_ID, Write([operation, Set("a", b"1")]))
    (merge,) = on_the_wire(service, "merge")
    assert merge["metadata"] == {"m": 2}
    assert merge["operations"] == [{"op": "set", "key": "a", "value": 1}]


PARTIAL = Edit("l", b"[1]", b"[0]", (Change(0, (b"1",), (b"0",)),), partial=True)


@pytest.mark.parametrize(
    ("operations", "state"),
    [
        ([Increment("a", 2), Increment("n")], '{"l":[1],"a":3,"n":1}'),
        ([Truncate("l", 0)], '{"l":[],"a":1}'),
        ([Push("l", b"2"), PopLast("l"), PopLast("l"), Push("l", b"3")], '{"l":[3],"a":1}'),
        ([Push("l", b'{"id":1}', unique="id")] * 2, '{"l":[1,{"id":1}],"a":1}'),
        ([Push("l", b"2", 2, 1), Push("l", b"3", 2, 1)], '{"l":[1,3],"a":1}'),
        ([PARTIAL], '{"l":[0],"a":1}'),
        ([SPLICE, Push("l", b"2")], '{"l":[0,2],"a":1}'),
    ],
)
@pytest.mark.parametrize("known", [("restore", "merge"), ("restore", "save")])
def test_what_depends_on_the_stored_value_is_read_and_written_back(
    odd: Odd,
    caplog: pytest.LogCaptureFixture,
    operations: list[Operation],
    state: str,
    known: tuple[str, ...],
) -> None:
    documents = Documents(*known)
    documents.stored[THREAD_ID] = OLD
    service, store = odd(documents)
    with caplog.at_level(logging.WARNING, logger="flask_agentuity.stores"):
        store.write(THREAD_ID, Write(operations))
        assert documents.stored[THREAD_ID] == f'{{"state":{state},"metadata":{{"m":1}}}}'
        store.write(THREAD_ID, Write([Increment("n")]))
    # Once, and with the limit.
    (record,) = caplog.records
    assert "within one process only" in record.getMessage()
    assert service.url in record.getMessage()


def test_a_splice_that_does_not_fit_is_a_conflict(odd: Odd) -> None:
    documents = Documents("restore", "merge")
    documents.stored[THREAD_ID] = '{"state":{"l":[9]}}'
    service, store = odd(documents)
    outcome = store.write(THREAD_ID, Write([SPLICE, Push("l", b"2")]))
    assert isinstance(outcome, Conflict)
    assert set(outcome.keys) == {"l"}
    assert not on_the_wire(service, "merge")


def test_counters_of_one_process_lose_nothing(odd: Odd) -> None:
    documents = Documents("restore", "merge")
    _, store = odd(documents)

    def count(name: int) -> None:
        for _ in range(10):
            store.write(THREAD_ID, Write([Increment("n")]))

    with_all_done(count, range(4))
    assert documents.stored[THREAD_ID] == '{"state":{"n":40}}'


def test_another_service_behind_the_same_address(connect: Connect) -> None:
    """The connection to a service with edits is lost; the next one leads to an older one."""
    documents = Documents("restore", "merge")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ThreadService(MemoryStore(), [KEY], port=port):
        store = connect(f"ws://127.0.0.1:{port}", reconnect_base=0.01, reconnect_max=0.02, grace=20)
        store.write(THREAD_ID, Write([Increment("n")]))
        assert store.edits is True
    with OddService(documents, port=port) as service:
        store.write(THREAD_ID, Write([Replace("a", b"1", b"2")]))
        assert store.edits is False
        assert service.actions == ["merge"]
        assert documents.stored[THREAD_ID] == '{"state":{"a":2}}'


def test_the_connection_changes_between_the_look_and_the_write(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = Documents("restore", "merge")
    with OddService(documents) as service:
        store = connect(service.url)
        monkeypatch.setattr(store.client, "features", lambda: {"edits": 1})
        store.write(THREAD_ID, Write([Replace("a", b"1", b"2")]))
        assert store.restore(THREAD_ID) == b'{"state":{"a":2}}'
        assert store.edits is False
        assert service.actions == ["merge", "restore"]
        assert not any("age" in request["data"] for request in service.requests)


def test_nothing_of_the_extension_reaches_another_service(odd: Odd) -> None:
    service, store = odd(Documents("restore", "save", "merge", "delete"))
    thread = begin(store)
    thread.state["l"] = [1]
    thread.metadata["m"] = 1
    thread.save()
    store.save(THREAD_ID, b'{"state":{"a":1}}', {})
    store.restore(THREAD_ID)
    store.delete(THREAD_ID)
    fields = {name for request in service.requests for name in request["data"]}
    assert fields <= {"thread_id", "operations", "metadata", "user_data"}


def test_what_a_service_says_of_a_merge_is_escaped(
    odd: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    merged = {"k": {"value": 1, "dropped": ["a\x1b[2J\nforged"], "overridden": ["b\u202e"]}}
    service, store = odd(lambda request: [success(request, version=2, merged=merged)])
    service.features = {"edits": 1}
    store.merge(THREAD_ID, [Edit("k", b"0", b"1")])
    told = [each.getMessage() for each in caplog.records if "another request" in each.getMessage()]
    told += [each.getMessage() for each in caplog.records if "two requests" in each.getMessage()]
    assert len(told) == 2
    assert all(each.isprintable() for each in told)
