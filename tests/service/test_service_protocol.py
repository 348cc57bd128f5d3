"""Everything that protocol.md asks of a service, frame by frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document.codec import MAX_DOCUMENT_BYTES
from flask_agentuity.service import ThreadService
from flask_agentuity.service.tenants import namespace_of, stored_id
from flask_agentuity.stores.memory import MemoryStore

from .peers import KEY, THREAD, HeldStore, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]


def test_every_action(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    assert peer.restore() == ""
    assert peer.call("delete") == {"success": True}
    assert peer.restore() == ""
    assert peer.call("save", user_data='{"state":{"a":1}}') == {"success": True}
    assert peer.restore() == '{"state":{"a":1}}'
    assert peer.call("save", user_data='{"a":2}', metadata={"m": 1}) == {"success": True}
    assert peer.restore() == '{"state":{"a":2},"metadata":{"m":1}}'
    changes = [
        {"op": "set", "key": "b", "value": [1]},
        {"op": "push", "key": "b", "value": 2},
        {"op": "push", "key": "b", "value": 3, "maxRecords": 2},
        {"op": "delete", "key": "a"},
        {"op": "set", "key": "null"},
        {"op": "a kind of tomorrow", "key": "x"},
    ]
    assert peer.call("merge", operations=changes) == {"success": True}
    assert peer.restore() == '{"state":{"b":[2,3],"null":null},"metadata":{"m":1}}'
    assert peer.call("merge", operations=[], metadata={"n": 2}) == {"success": True}
    assert peer.call("merge", operations=[{"op": "clear"}]) == {"success": True}
    assert peer.restore() == '{"metadata":{"n":2}}'
    assert peer.call("save", user_data="", metadata={}) == {"success": True}
    assert peer.restore() == ""
    assert peer.call("save", user_data='{"state":{"a":1}}') == {"success": True}
    assert peer.call("delete") == {"success": True}
    assert peer.restore() == ""


def test_a_full_save_of_the_runtime_keeps_the_metadata(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    peer.call("merge", operations=[], metadata={"m": 1})
    # Version 0.1 leaves it out of a save when the request did not read it, and puts it into
    # the document when it did.
    peer.call("save", user_data='{"state":{"a":1}}')
    assert peer.restore() == '{"state":{"a":1},"metadata":{"m":1}}'
    peer.call("save", user_data='{"state":{"a":2},"metadata":{"m":1}}')
    assert peer.restore() == '{"state":{"a":2},"metadata":{"m":1}}'


@pytest.mark.parametrize(
    ("frame", "names"),
    [
        ('{"authorization":"another key"}', "key"),
        ('{"authorization":""}', "authorization"),
        ('{"authorization":5}', "authorization"),
        ("{}", "authorization"),
        ("[]", "object"),
        ("rubbish", "JSON"),
        (b"\xff\xfe", "JSON"),
        ('{"id":"1","action":"restore","data":{"thread_id":"x"}}', "authorization"),
    ],
)
def test_a_first_frame_that_is_no_authorization(
    serve: Serve, connect: Connect, frame: str | bytes, names: str
) -> None:
    peer = connect(serve(), key=None)
    peer.raw(frame)
    answer = peer.receive()
    assert answer.pop("success") is False
    assert names in answer.pop("error")
    assert not answer
    assert peer.closed_with()[0] == 1008


def test_without_an_authorization_the_connection_ends(serve: Serve, connect: Connect) -> None:
    service = serve(authorization_timeout=0.2)
    peer = connect(service, key=None)
    let_in = connect(service)
    assert "0.2 seconds" in peer.receive()["error"]
    assert peer.closed_with()[0] == 1008
    assert let_in.restore() == ""


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({"action": "explode", "data": {"thread_id": THREAD}}, "explode"),
        ({"action": 5, "data": {"thread_id": THREAD}}, "action"),
        ({"data": {"thread_id": THREAD}}, "action"),
        ({"action": "restore"}, "data"),
        ({"action": "restore", "data": []}, "data"),
        ({"action": "restore", "data": {}}, "thread_id"),
        ({"action": "restore", "data": {"thread_id": 5}}, "thread_id"),
        ({"action": "restore", "data": {"thread_id": "x" * 10_000}}, "thread_id"),
        ({"action": "save", "data": {"thread_id": THREAD}}, "user_data"),
        ({"action": "save", "data": {"thread_id": THREAD, "user_data": {}}}, "user_data"),
        ({"action": "save", "data": {"thread_id": THREAD, "user_data": "{{{"}}, "user_data"),
        ({"action": "save", "data": {"thread_id": THREAD, "user_data": "[1]"}}, "user_data"),
        (
            {"action": "save", "data": {"thread_id": THREAD, "user_data": "", "metadata": 5}},
            "metadata",
        ),
        ({"action": "merge", "data": {"thread_id": THREAD}}, "operations"),
        ({"action": "merge", "data": {"thread_id": THREAD, "operations": {}}}, "operations"),
        ({"action": "merge", "data": {"thread_id": THREAD, "operations": [5]}}, "operation"),
        (
            {"action": "merge", "data": {"thread_id": THREAD, "operations": [{"op": "set"}]}},
            "key",
        ),
    ],
)
@pytest.mark.parametrize("id", ["an id", 5, 1.5])
def test_a_wrong_request_gets_one_answer_that_names_it(
    serve: Serve, connect: Connect, request_: dict[str, Any], names: str, id: Any
) -> None:
    peer = connect(serve())
    peer.call("save", user_data='{"state":{"a":1}}')
    peer.send({"id": id, **request_})
    answer = peer.receive()
    assert answer.pop("id") == id
    assert answer.pop("success") is False
    error = answer.pop("error")
    assert names in error or not isinstance(id, str)
    assert len(error) <= 1000
    assert not answer
    assert peer.restore() == '{"state":{"a":1}}'


def test_an_id_longer_than_is_sane_gets_its_answer(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    for id in ("x" * 100_000, ""):
        peer.send({"id": id, "action": "restore", "data": {"thread_id": THREAD}})
        answer = peer.receive()
        assert answer["id"] == id
        assert answer["success"] is False


def test_two_requests_with_one_id_get_two_answers(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    for _ in range(2):
        peer.send({"id": "1", "action": "restore", "data": {"thread_id": THREAD}})
    assert [peer.receive() for _ in range(2)] == [{"id": "1", "success": True, "data": ""}] * 2


def test_too_large_names_both_sizes_and_changes_nothing(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    document = '{"state":{"a":"%s"}}' % ("é" * ((MAX_DOCUMENT_BYTES - 18) // 2))
    assert len(document.encode()) == MAX_DOCUMENT_BYTES
    assert peer.call("save", user_data=document) == {"success": True}
    assert peer.restore() == document
    for change in (
        {"user_data": document[:-3] + 'x"}}'},
        {"user_data": document, "metadata": {"m": "x"}},
    ):
        answer = peer.call("save", **change)
        assert answer["success"] is False
        assert "would be 1,048," in answer["error"]
        assert "the limit is 1,048,576" in answer["error"]
        assert THREAD in answer["error"]
    answer = peer.call("merge", operations=[{"op": "set", "key": "b", "value": 1}])
    assert "would be 1,048,582 bytes; the limit is 1,048,576" in answer["error"]
    assert peer.restore() == document


def test_a_legal_save_in_its_largest_spelling(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    # Each of these takes two bytes in the document, and four as a string inside the frame.
    text = '{"state":{"a":"%s"}}' % ('\\"' * ((MAX_DOCUMENT_BYTES - 18) // 2))
    assert peer.call("save", user_data=text, metadata={}) == {"success": True}
    assert peer.restore() == text


def test_damage_in_the_store_is_reported_and_left(serve: Serve, connect: Connect) -> None:
    class Damaged(MemoryStore):
        def restore(self, thread_id: str) -> bytes | None:
            return b"\xff\xff"

        def merge(self, *arguments: Any) -> None:
            raise ZeroDivisionError("an unexpected fault")

    peer = connect(serve(Damaged()))
    answer = peer.call("restore")
    assert answer["success"] is False
    assert "UTF-8" in answer["error"]
    answer = peer.call("merge", operations=[])
    assert answer["success"] is False
    assert "log" in answer["error"]
    assert "ZeroDivision" not in answer["error"]
    assert peer.call("delete") == {"success": True}


# Keys

ONE, TWO = "the first of the keys", "the second of the keys"


def test_each_key_sees_its_own_threads(serve: Serve, connect: Connect) -> None:
    store = MemoryStore()
    service = serve(store, ONE, TWO, TWO)
    one, two = connect(service, ONE), connect(service, TWO)
    one.call("save", user_data='{"state":{"mine":1}}')
    assert two.restore() == ""
    two.call("save", user_data='{"state":{"mine":2}}')
    two.call("delete", stored_id(namespace_of(ONE), THREAD))
    assert one.restore() == '{"state":{"mine":1}}'
    service.stop()
    # It finds them when others join it, and the store does not hold it.
    other = connect(serve(store, "the third of the keys", ONE), ONE)
    assert other.restore() == '{"state":{"mine":1}}'
    assert len(store.for_tenants()._threads) == 2
    assert not any(key in stored for stored in store.for_tenants()._threads for key in (ONE, TWO))


@pytest.mark.parametrize(
    "thread_id",
    ["x", "../../etc/passwd", "a:b{c}", "thrd_\n", "ключ", "%2F", "/", ".", "thrd_" + "x" * 251],
)
def test_any_thread_id_is_one_of_its_own(serve: Serve, connect: Connect, thread_id: str) -> None:
    store = MemoryStore()
    peer = connect(serve(store))
    peer.call("save", thread_id, user_data='{"state":{"a":1}}')
    assert peer.restore(thread_id) == '{"state":{"a":1}}'
    assert peer.restore(thread_id.removeprefix("thrd_") + "x") == ""
    (inside,) = store.for_tenants()._threads
    assert set(inside) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.~%-")


def test_a_usual_thread_id_stays_a_valid_one() -> None:
    inside = stored_id(namespace_of(KEY), THREAD)
    assert inside.startswith("thrd_")
    assert len(inside) <= 64
    assert set(inside[5:]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
    assert KEY not in inside


# Deriving a namespace for the first time is slow.
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.text(max_size=8)), unique=True))
def test_no_two_threads_share_an_id(threads: list[tuple[str, str]]) -> None:
    ids = {
        stored_id(namespace_of(key), f"{head}{id}") for key, id in threads for head in ("thrd_", "")
    }
    assert len(ids) == len({(key, f"{head}{id}") for key, id in threads for head in ("thrd_", "")})


# The order of things


def test_one_threads_operations_are_done_in_their_order(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    for number in range(300):
        peer.ask("merge", operations=[{"op": "push", "key": "l", "value": number}])
    last = peer.ask("restore")
    answers = [peer.receive() for _ in range(301)]
    (restored,) = [answer for answer in answers if answer["id"] == last]
    assert json.loads(restored["data"])["state"]["l"] == list(range(300))


def test_a_thread_that_waits_holds_up_no_other(serve: Serve, connect: Connect) -> None:
    store = HeldStore()
    service = serve(store, workers=2)
    peer, other = connect(service), connect(service)
    held = peer.ask("restore", "held")
    # In one lane with the first: it waits in no thread of the pool.
    behind = [peer.ask("restore", "held") for _ in range(5)]
    assert store.held.acquire(timeout=20)
    assert peer.restore() == ""
    assert other.restore() == ""
    assert not store.held.acquire(blocking=False)
    store.go.set()
    assert [peer.receive()["id"] for _ in range(6)] == [held, *behind]


# Rubbish

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
_operation = st.fixed_dictionaries(
    {"op": st.sampled_from(["set", "push", "delete", "clear", "?"]) | _json},
    optional={"key": _json | st.text(), "value": _json, "maxRecords": _json},
)
_request = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=40) | _json,
        "action": st.sampled_from(["restore", "save", "merge", "delete"]) | _json,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "thread_id": st.text(max_size=40) | _json,
                "user_data": st.text() | _json.map(json.dumps) | _json,
                "operations": st.lists(_operation | _json, max_size=4) | _json,
                "metadata": st.dictionaries(st.text(), _json, max_size=2) | _json,
            },
        )
        | _json,
        "authorization": st.just(KEY) | _json,
    },
)
_frames = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    _json.map(json.dumps),
    _request.map(json.dumps),
    _request.map(lambda request: json.dumps(request).encode()),
    _request.map(lambda request: json.dumps(request)[:-3]),
    st.just("[" * 100_000),
)


def test_no_frame_brings_the_service_down(serve: Serve, connect: Connect) -> None:
    service = serve()
    bystander = connect(service)
    bystander.call("save", "bystander", user_data='{"state":{"a":1}}')
    peer = connect(service)

    @settings(
        max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(_frames, max_size=8))
    def run(frames: list[str | bytes]) -> None:
        owed = 0
        for frame in frames:
            peer.raw(frame)
            owed += has_id(frame)
        end = peer.ask("restore", "the end of the example")
        replies: list[Any] = []
        while not replies or replies[-1].get("id") != end:
            replies.append(peer.receive())
        # Threads have their own order: what is still owed comes after this one.
        while len(replies) < owed + 1:
            replies.append(peer.receive())
        assert all("id" in reply and "success" in reply for reply in replies)
        assert all(reply["success"] or reply["error"] for reply in replies)

    run()
    assert bystander.restore("bystander") == '{"state":{"a":1}}'
    assert peer.restore() == ""


def has_id(frame: str | bytes) -> bool:
    """Say whether a frame must be answered; by another reader of JSON than the service's."""
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        message = json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("id"), str | int | float)


def test_no_first_frame_brings_the_service_down(serve: Serve, connect: Connect) -> None:
    service = serve()
    bystander = connect(service)

    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(_frames)
    def run(frame: str | bytes) -> None:
        with closing(Peer(service.url)) as peer:
            peer.raw(frame)
            if not peer.receive()["success"]:
                assert peer.closed_with()[0] == 1008

    run()
    assert bystander.restore() == ""
