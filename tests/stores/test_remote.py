from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import pytest
from support.recording import THREAD_ID, begin, put, stored

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set
from flask_agentuity.errors import (
    AuthenticationFailed,
    ConfigurationError,
    OutcomeUnknown,
    RequestTimeout,
    ServiceError,
    StateTooLarge,
    StoreError,
)
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import open_store
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore

from .conformance import with_all_done
from .odd_service import KEY, Answer, Documents, OddService, failure, success

#: Over the limit by itself.
LARGE = b'"%b"' % (b"x" * codec.MAX_DOCUMENT_BYTES)

OLD = '{"state":{"l":[1],"a":1},"metadata":{"m":1}}'


Odd = Callable[..., tuple[OddService, RemoteStore]]
Connect = Callable[..., RemoteStore]


def on_the_wire(service: OddService, action: str) -> list[dict[str, Any]]:
    return [request["data"] for request in service.requests if request["action"] == action]


# What a turn costs, counted where it arrives


def test_round_trips(odd: Odd) -> None:
    documents = Documents("restore", "merge")
    documents.stored[THREAD_ID] = OLD
    service, store = odd(documents)

    begin(store).save()
    assert service.actions == []

    thread = begin(store)
    assert dict(thread.state) == {"l": [1], "a": 1}
    assert thread.metadata == {"m": 1}
    thread.save()
    assert service.actions == ["restore"]

    thread = begin(store)
    thread.state["a"] = 2
    thread.state.push("l", 2)
    thread.save()
    assert service.actions == ["merge"]

    thread = begin(store)
    thread.state["l"].append(2)
    thread.metadata["m"] = 2
    thread.save()
    thread.save()
    (_, merge) = [request["data"] for request in service.requests]
    assert merge == {
        "thread_id": THREAD_ID,
        "operations": [{"op": "push", "key": "l", "value": 2}],
        "metadata": {"m": 2},
    }
    assert service.actions == ["restore", "merge"]

    # A streamed answer: saved before its headers leave, and again after its last chunk.
    thread = begin(store)
    thread.state["l"].append("question")
    thread.save()
    thread.state["l"].append("answer")
    thread.save()
    assert service.actions == ["restore", "merge", "merge"]


def test_metadata_that_was_emptied_is_sent(odd: Odd) -> None:
    service, store = odd(Documents("restore", "merge", "save"))
    store.merge(THREAD_ID, [], {})
    store.save(THREAD_ID, b'{"state":{"a":1}}', {})
    assert [request["data"]["metadata"] for request in service.requests] == [{}, {}]


# Sizes


def test_a_document_over_the_limit_is_not_sent(odd: Odd) -> None:
    service, store = odd(Documents("restore", "merge", "save"))
    for changes in (
        [Set("a", LARGE)],
        [Push("l", LARGE)],
        [Set("a", LARGE[:600_000] + b'"'), Set("b", LARGE[:600_000] + b'"')],
        [Push("l", LARGE[:10_000] + b'"')] * 110,
    ):
        with pytest.raises(StateTooLarge) as caught:
            store.merge(THREAD_ID, changes)
        assert caught.value.size > caught.value.limit == codec.MAX_DOCUMENT_BYTES
    with pytest.raises(StateTooLarge):
        store.save(THREAD_ID, b'{"state":{"a":%b}}' % LARGE, {})
    assert service.actions == []


def test_a_document_over_the_limit_is_refused_on_arrival(odd: Odd) -> None:
    """A service has sent 600,000 keys: they took 16.7 seconds and 2.6 GiB."""
    keys = ",".join(f'"k{number}":0' for number in range(100_000))
    large = '{"state":{%s}}' % keys  # noqa: UP031 - it has braces
    service, store = odd(lambda request: [success(request, data=large)])
    for read in (store.read, store.restore):
        with pytest.raises(ServiceError, match=r"bytes; the limit is 1,048,576"):
            read(THREAD_ID)
    larger = open_store(service.url, key=KEY, max_bytes=2 * codec.MAX_DOCUMENT_BYTES)
    assert larger.restore(THREAD_ID) == large.encode()
    larger.close()


@pytest.mark.parametrize(
    "changes",
    [
        [Set("a", LARGE), Delete("a")],
        [Set("a", LARGE), Clear()],
        [Set("a", LARGE), Set("a", b"1")],
        [Push("l", LARGE), Push("l", b"1", max_records=1)],
        [Set("a", LARGE, only_if_missing=True)],
    ],
)
def test_what_may_fit_in_the_end_is_sent(odd: Odd, changes: list[Operation]) -> None:
    service, store = odd(Documents("merge"))
    store.merge(THREAD_ID, changes)
    assert service.actions == ["merge"]


def test_a_document_of_just_the_limit_is_saved(connect: Connect) -> None:
    room = codec.MAX_DOCUMENT_BYTES - len(b'{"state":{"ab":""}}')
    # On the wire each of these takes four bytes.
    value = b'"%b"' % (b'\\"' * (room // 2) + b"x" * (room % 2))
    with ThreadService(MemoryStore(), [KEY]) as service:
        store = connect(service.url)
        document = b'{"state":{"ab":%b}}' % value
        assert len(document) == codec.MAX_DOCUMENT_BYTES
        store.save(THREAD_ID, document, {})
        assert store.restore(THREAD_ID) == document
        store.delete(THREAD_ID)
        store.merge(THREAD_ID, [Set("ab", value)])
        assert store.restore(THREAD_ID) == document
        with pytest.raises(StateTooLarge) as caught:
            store.merge(THREAD_ID, [Set("c", b"1")])
        assert caught.value.size == codec.MAX_DOCUMENT_BYTES + 6
        assert caught.value.thread_id == THREAD_ID
        assert store.restore(THREAD_ID) == document


def test_a_refusal_for_the_size_in_words_of_another_service(odd: Odd) -> None:
    _, store = odd(Documents("restore", words="payload too big"))
    with pytest.raises(ServiceError, match="payload too big"):
        store.merge(THREAD_ID, [Set("a", b"1")])


# A service that knows no merge


@pytest.mark.parametrize(
    "words",
    [
        "Unknown action: merge",
        "unsupported action",
        "Invalid message",
        "action not recognised",
        "Not implemented",
        None,
    ],
)
def test_an_old_service_is_written_to_by_saving(odd: Odd, words: str | None) -> None:
    documents = Documents(words=words)
    documents.stored[THREAD_ID] = OLD
    service, store = odd(documents)
    store.merge(THREAD_ID, [Push("l", b"2"), Delete("a")])
    assert documents.stored[THREAD_ID] == '{"state":{"l":[1,2]},"metadata":{"m":1}}'
    (saved,) = on_the_wire(service, "save")
    # What did not change is kept in the document, and not said to have changed.
    assert "metadata" not in saved
    assert service.actions == ["merge", "restore", "save"]
    store.merge(THREAD_ID, [Push("l", b"3")], {"n": 2})
    assert documents.stored[THREAD_ID] == '{"state":{"l":[1,2,3]},"metadata":{"n":2}}'
    (saved,) = on_the_wire(service, "save")
    assert saved["metadata"] == {"n": 2}
    assert service.actions == ["restore", "save"]
    store.merge(THREAD_ID, [Clear()], {})
    assert documents.stored[THREAD_ID] == ""
    assert store.restore(THREAD_ID) is None


def test_a_new_connection_is_asked_again(odd: Odd) -> None:
    documents = Documents()
    cut = threading.Event()

    def answer(request: dict[str, Any]) -> Iterable[str]:
        if cut.is_set():
            cut.clear()
            raise ConnectionError("the test ends this connection")
        return documents(request)

    service, store = odd(answer, reconnect_base=0.01, reconnect_max=0.02)
    store.merge(THREAD_ID, [Set("a", b"1")])
    store.merge(THREAD_ID, [Set("a", b"2")])
    assert service.actions == ["merge", "restore", "save", "restore", "save"]
    documents.known = ("restore", "save", "merge")
    cut.set()
    # It is repeated over the next connection.
    store.restore(THREAD_ID)
    assert service.actions == ["restore", "restore"]
    store.merge(THREAD_ID, [Set("a", b"3")])
    assert service.actions == ["merge"]


def test_a_service_that_merges_and_refuses_is_not_taken_for_an_old_one(odd: Odd) -> None:
    documents = Documents("restore", "save", "merge", words="invalid: try later")
    service, store = odd(documents)
    store.merge(THREAD_ID, [Set("a", b"1")])
    documents.known = ("restore", "save")
    with pytest.raises(ServiceError, match="try later"):
        store.merge(THREAD_ID, [Set("a", b"2")])
    assert service.actions == ["merge", "merge"]


@pytest.mark.parametrize("damage", ["{{{", "[1]", "5", '"text"', '{"state":{"a":1}', 7, ["x"]])
def test_damage_in_an_old_service_stays_as_it_is(odd: Odd, damage: Any) -> None:
    documents = Documents()
    documents.stored[THREAD_ID] = damage
    service, store = odd(documents)
    for _ in range(2):
        with pytest.raises(StoreError):
            store.merge(THREAD_ID, [Set("a", b"2")])
    with pytest.raises(StoreError):
        store.save(THREAD_ID, b'{"state":{"a":2}}')
    assert documents.stored[THREAD_ID] == damage
    assert not on_the_wire(service, "save")


def test_a_save_keeps_the_metadata_of_a_service_that_stores_what_it_gets(odd: Odd) -> None:
    documents = Documents()
    documents.stored[THREAD_ID] = OLD
    _, store = odd(documents)
    store.save(THREAD_ID, b'{"state":{"b":2},"metadata":{"ignored":1}}')
    assert documents.stored[THREAD_ID] == '{"state":{"b":2},"metadata":{"m":1}}'
    store.save(THREAD_ID, b"")
    assert documents.stored[THREAD_ID] == '{"metadata":{"m":1}}'


def test_many_threads_at_once_on_an_old_service(odd: Odd) -> None:
    documents = Documents()
    _, store = odd(documents)

    def push(name: int) -> None:
        for number in range(10):
            store.merge(THREAD_ID, [Push("l", b"[%d,%d]" % (name, number))])

    with_all_done(push, range(4))
    items = json.loads(documents.stored[THREAD_ID])["state"]["l"]
    for name in range(4):
        assert [number for each, number in items if each == name] == list(range(10))


def test_a_save_for_a_merge_that_is_not_answered_may_have_been_done(odd: Odd) -> None:
    documents = Documents()

    def answer(request: dict[str, Any]) -> Iterable[str]:
        answers = list(documents(request))
        return [] if request["action"] == "save" else answers

    _, store = odd(answer, request_timeout=0.3)
    with pytest.raises(OutcomeUnknown):
        store.merge(THREAD_ID, [Push("l", b"1")])
    # It was done. If it were repeated, the item would be pushed twice.
    assert documents.stored[THREAD_ID] == '{"state":{"l":[1]}}'


# What could not be read is never overwritten


def refuse(request: dict[str, Any]) -> Iterable[str]:
    yield failure(request, "the disk is on fire")


def hang(request: dict[str, Any]) -> Iterable[str]:
    return ()


def say_number(request: dict[str, Any]) -> Iterable[str]:
    yield success(request, data=5)


def say_object(request: dict[str, Any]) -> Iterable[str]:
    yield success(request, data={"state": {}})


def say_half(request: dict[str, Any]) -> Iterable[str]:
    yield success(request, data=OLD[:-5])


def say_list(request: dict[str, Any]) -> Iterable[str]:
    yield success(request, data="[]")


def say_no_json(request: dict[str, Any]) -> Iterable[str]:
    yield "<html>"


def say_nothing_of_success(request: dict[str, Any]) -> Iterable[str]:
    yield json.dumps({"id": request["id"], "data": OLD})


def say_another_id(request: dict[str, Any]) -> Iterable[str]:
    yield json.dumps({"id": "another id", "success": True, "data": ""})


def cut(request: dict[str, Any]) -> Iterable[str]:
    raise ConnectionError("the test ends this connection")


ANSWERS = [
    refuse,
    hang,
    say_number,
    say_object,
    say_half,
    say_list,
    say_no_json,
    say_nothing_of_success,
    say_another_id,
    cut,
]


@pytest.mark.parametrize("to_restore", ANSWERS)
def test_what_could_not_be_read_is_not_overwritten(odd: Odd, to_restore: Answer) -> None:
    def answer(request: dict[str, Any]) -> Iterable[str]:
        return to_restore(request) if request["action"] == "restore" else [success(request)]

    service, store = odd(
        answer, request_timeout=0.4, reconnect_base=0.01, reconnect_max=0.02, grace=0.2
    )
    thread = begin(store)
    thread.state.push("log", "before")
    assert thread.state.get("a") is None
    assert thread.degraded
    thread.state["a"] = "computed from nothing"
    thread.state.setdefault("l", []).append("computed from nothing")
    thread.state.push("log", "after")
    thread.metadata["m"] = "computed from nothing"
    until = time.monotonic() + 20
    while True:
        # Where the connection was lost the pushes wait for the next one.
        with pytest.raises(StoreError) as caught:
            thread.save()
        if "were not saved" in str(caught.value):
            break
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not on_the_wire(service, "save")
    (merge,) = on_the_wire(service, "merge")
    assert merge["operations"] == [
        {"op": "push", "key": "log", "value": "before"},
        {"op": "push", "key": "log", "value": "after"},
    ]
    assert "metadata" not in merge


def test_an_answer_that_comes_late_is_ignored(odd: Odd) -> None:
    late: list[str] = []

    def answer(request: dict[str, Any]) -> Iterable[str]:
        if request["action"] == "restore":
            late.append(success(request, data=OLD))
            # A sign of life, or the client would take another connection.
            yield "{}"
        else:
            yield from late
            yield success(request)

    service, store = odd(answer, request_timeout=0.4)
    thread = begin(store)
    with pytest.raises(RequestTimeout):
        store.restore(THREAD_ID)
    assert thread.state.get("a") is None
    thread.state["a"] = "computed from nothing"
    thread.state.push("log", 1)
    with pytest.raises(StoreError, match="were not saved"):
        thread.save()
    (merge,) = on_the_wire(service, "merge")
    assert merge["operations"] == [{"op": "push", "key": "log", "value": 1}]
    assert store.client.stats()["late"] == len(late) == 2


def test_pushes_to_an_old_service_that_failed_once_join_what_is_stored(odd: Odd) -> None:
    documents = Documents()
    documents.stored[THREAD_ID] = OLD
    failing = [refuse]

    def answer(request: dict[str, Any]) -> Iterable[str]:
        return failing.pop()(request) if failing else documents(request)

    _, store = odd(answer)
    thread = begin(store)
    assert thread.state.get("a") is None
    thread.state["a"] = "computed from nothing"
    thread.state.push("l", 2)
    with pytest.raises(StoreError, match="were not saved"):
        thread.save()
    assert documents.stored[THREAD_ID] == '{"state":{"l":[1,2],"a":1},"metadata":{"m":1}}'


# The store and its client


def test_a_wrong_key_is_told_at_once(connect: Connect) -> None:
    with ThreadService(MemoryStore(), ["another key of the tests"]) as service:
        store = connect(service.url)
        for _ in range(3):
            with pytest.raises(AuthenticationFailed, match="not known here"):
                store.restore(THREAD_ID)


def test_a_service_that_comes_back_is_found_again(connect: Connect) -> None:
    kept = MemoryStore()
    connected, disconnected = threading.Semaphore(0), threading.Semaphore(0)
    with ThreadService(kept, [KEY]) as service:
        store = connect(
            service.url,
            reconnect_base=0.05,
            reconnect_max=0.1,
            on_connected=connected.release,
            on_disconnected=lambda error: disconnected.release(),
        )
        put(store, {"a": 1}, {"m": 1})
        assert connected.acquire(timeout=10)
        port = int(service.url.split(":")[2].partition("/")[0])
    assert disconnected.acquire(timeout=10)
    with ThreadService(kept, [KEY], port=port):
        assert connected.acquire(timeout=10)
        assert stored(store) == {"a": 1}


def test_it_wants_a_key_and_a_url() -> None:
    with pytest.raises(ConfigurationError):
        RemoteStore.from_url("ws://127.0.0.1:1", key="")
    with pytest.raises(ConfigurationError):
        RemoteStore.from_url("127.0.0.1:1", key=KEY)
    with closing(RemoteStore.from_url("ws://127.0.0.1:1", key=KEY)) as store:
        assert KEY not in repr(store) + repr(vars(store))
        assert store.shared_by_machines
