"""The extension for merged edits, frame by frame."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.service import ThreadService
from flask_agentuity.service.tenants import namespace_of, stored_id
from flask_agentuity.stores.base import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from .peers import KEY, THREAD, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

INSIDE = stored_id(namespace_of(KEY), THREAD)


def merge(peer: Peer, *operations: dict[str, Any], age: float = 0.0, **more: Any) -> Any:
    return peer.call("merge", operations=list(operations), age=age, **more)


def push(value: Any, key: str = "l", **more: Any) -> dict[str, Any]:
    return {"op": "push", "key": key, "value": value, **more}


def assign(key: str, value: Any) -> dict[str, Any]:
    return {"op": "set", "key": key, "value": value}


def splice(place: int, gone: list[Any], *new: Any, **more: Any) -> dict[str, Any]:
    changes = [{"place": place, "gone": gone, "new": list(new)}]
    return {"op": "splice", "key": "l", "changes": changes, **more}


def test_it_is_announced(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(), key=None)
    assert peer.authorize(KEY) == {"success": True, "edits": 1}


def test_every_operation(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    reply = merge(
        peer,
        assign("l", [{"id": 1}, "b"]),
        {"op": "set", "key": "a", "value": 1, "ifMissing": True},
        {"op": "set", "key": "a", "value": 2, "ifMissing": True},
        assign("gone", 1),
        {"op": "delete", "key": "gone"},
        push({"id": 1}, unique="id"),
        push({"id": 2}, unique="id", maxRecords=2, keepFirst=1),
        {"op": "increment", "key": "n", "by": 2},
        {"op": "increment", "key": "n", "by": 0.5},
        push(1, "popped"),
        push(2, "popped"),
        push(3, "popped"),
        {"op": "pop_last", "key": "popped"},
        {"op": "truncate", "key": "popped", "keep": 1},
        {"op": "set_metadata", "value": {"m": 1}},
        counted=["l", "popped", "a"],
    )
    version = reply.pop("version")
    assert reply == {"success": True, "preceding": {"l": 2, "popped": 0}}
    restored = peer.call("restore")
    assert (restored["success"], restored["version"]) == (True, version)
    assert json.loads(restored["data"]) == {
        "state": {"l": [{"id": 1}, {"id": 2}], "a": 1, "n": 2.5, "popped": [1]},
        "metadata": {"m": 1},
    }

    reply = merge(
        peer,
        splice(1, [{"id": 2}], "b", "c", since=version),
        push("d"),
        {"op": "replace", "key": "n", "old": 2.5, "value": 3},
        {"op": "replace", "key": "new", "value": None},
        {"op": "edit", "key": "popped", "base": [], "changes": [], "appended": [2]},
        {"op": "replace_metadata", "old": {"m": 1}, "value": {"m": 2}},
        version=version,
        counted=["l"],
    )
    assert reply.pop("version") > version
    assert reply.pop("preceding") == {"l": 3}
    assert reply.pop("merged") == {"popped": {"value": [1, 2], "places": [1]}}
    assert reply == {"success": True}
    assert json.loads(peer.restore()) == {
        "state": {"l": [{"id": 1}, "b", "c", "d"], "a": 1, "n": 3, "popped": [1, 2], "new": None},
        "metadata": {"m": 2},
    }


def test_conflicts_are_told_and_nothing_is_applied(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    first = merge(peer, assign("l", [1, 2]), assign("n", 1), assign("o", 1))["version"]
    merge(peer, assign("n", 2))
    before = peer.restore()
    reply = merge(
        peer,
        splice(0, [2], 3, since=first),
        {"op": "replace", "key": "n", "old": 1, "value": 3, "since": first},
        {"op": "replace", "key": "o", "old": 1, "value": 2, "since": first},
        push(5, "other"),
        {"op": "replace_metadata", "old": {"m": 1}, "value": {}},
    )
    assert reply.pop("success") is False
    assert "Nothing was applied" in reply.pop("error")
    conflict = reply.pop("conflict")
    assert set(conflict.pop("keys")) == {"l", "n"}
    assert conflict == {"assigned": ["n"], "metadata": True}
    assert not reply
    assert peer.restore() == before


def test_edits_are_merged_by_the_store(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    peer = connect(serve())
    first = merge(peer, assign("l", [{"id": 1, "c": "x"}, {"id": 2}]))["version"]
    merge(peer, splice(1, [{"id": 2}], since=first), push({"id": 3}))
    edit = {
        "op": "edit",
        "key": "l",
        "base": [{"id": 1, "c": "x"}, {"id": 2}],
        "changes": [{"place": 0, "gone": 2, "new": [{"id": 1, "c": "xy"}, {"id": 2, "c": "z"}]}],
        "appended": [{"id": 4}],
        "since": first,
    }
    with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
        reply = merge(peer, edit, {"op": "edit_metadata", "base": {}, "value": {"m": 1}})
    merged = reply["merged"]["l"]
    assert merged["value"] == [{"id": 1, "c": "xy"}, {"id": 3}, {"id": 4}]
    assert merged["places"] == [0, None, 2]
    assert len(merged["dropped"]) == 1
    state = '{"l":[{"id":1,"c":"xy"},{"id":3},{"id":4}]}'
    assert peer.restore() == f'{{"state":{state},"metadata":{{"m":1}}}}'
    assert not caplog.records


def test_a_deleted_thread_is_gone_for_requests_that_began_before(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve())
    version = merge(peer, push(1))["version"]
    assert peer.call("delete") == {"success": True}
    for more in ({"age": 60.0}, {"age": 0.0, "version": version}):
        reply = merge(peer, push(2), **more)
        assert reply.pop("success") is False
        assert THREAD in reply.pop("error")
        assert reply == {"gone": True}
    assert peer.restore() == ""
    assert merge(peer, push(3))["success"] is True
    assert merge(peer, push(2), age=60.0)["gone"] is True
    assert peer.restore() == '{"state":{"l":[3]}}'
    # Whole documents count as any other write.
    text = '{"state":{"a":1}}'
    assert peer.call("save", user_data=text, age=60.0)["gone"] is True
    assert peer.call("save", user_data=text, age=0.0) == {"success": True}
    assert peer.restore() == text


def test_the_way_of_a_frame_does_not_make_its_request_younger(
    serve: Serve, connect: Connect
) -> None:
    """The frame that was fastest tells how far the clocks of both ends are apart."""
    peer = connect(serve())
    clock = 1_000_000.0
    # This frame was made now; the next one waited an hour in the client, and is the same age.
    peer.call("restore", age=0.0, at=clock)
    peer.call("delete")
    assert merge(peer, push(1), age=5.0, at=clock + 3)["gone"] is True
    assert merge(peer, push(1), age=0.0, at=clock - 1)["gone"] is True
    assert merge(peer, push(1), age=0.0, at=clock + 3_600)["success"] is True


def test_what_a_client_of_the_extension_restores_is_not_kept(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve())
    merge(peer, push(1))
    assert peer.call("restore", age=0.0)["data"] == '{"state":{"l":[1]}}'
    merge(peer, push(2))
    # Otherwise this would be the difference to what was restored.
    assert peer.call("save", user_data='{"state":{"l":[1,3]}}') == {"success": True}
    assert peer.restore() == '{"state":{"l":[1,3]}}'


def test_a_save_of_the_extension_replaces_whatever_was_restored(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve())
    merge(peer, push(1), assign("a", 1), {"op": "set_metadata", "value": {"m": 1}})
    peer.restore()
    merge(peer, push(2))
    assert peer.call("save", user_data='{"state":{"l":[1,3]}}', age=0.0) == {"success": True}
    assert peer.restore() == '{"state":{"l":[1,3]},"metadata":{"m":1}}'
    assert peer.call("save", user_data="", metadata={}, age=0.0) == {"success": True}
    assert peer.restore() == ""


def test_the_age_is_that_at_the_arrival(serve: Serve, connect: Connect) -> None:
    """What waits in the service does not get younger."""
    began: list[float] = []

    class Noted(MemoryStore):
        def write(self, thread_id: str, write: Write) -> Written | Conflict:
            began.append(write.began)
            return super().write(thread_id, write)

    peer = connect(serve(Noted()))
    before = time.monotonic()
    merge(peer, push(1), age=100.0)
    assert before - 100 <= began[-1] <= time.monotonic() - 100


def test_a_store_without_edits_is_merged_under_a_lock(serve: Serve, connect: Connect) -> None:
    class Plain(MemoryStore):
        edits = False
        write = ThreadStore.write

    peer = connect(serve(Plain()))
    assert merge(peer, assign("l", [1, 2]), push(3), counted=["l"])["success"] is True
    assert merge(peer, splice(0, [5], 6))["conflict"] == {"keys": ["l"], "assigned": []}
    reply = merge(peer, splice(0, [1], 6), {"op": "increment", "key": "n", "by": 1})
    assert reply == {"success": True, "version": 0}
    assert peer.call("restore") == {"success": True, "data": '{"state":{"l":[6,2,3],"n":1}}'}


def test_what_was_skipped_is_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    peer = connect(serve())
    with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
        assert merge(peer, assign("a", "x"), push(1, "a"), {"op": "increment", "key": "a", "by": 1})
    assert len(caplog.records) == 2
    assert all(INSIDE in record.getMessage() for record in caplog.records)


def test_too_large_names_both_sizes(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(MemoryStore(max_bytes=100)))
    reply = merge(peer, assign("a", "x" * 100))
    assert reply["success"] is False
    assert "would be 118 bytes; the limit is 100" in reply["error"]
    assert peer.restore() == ""


# Nonsense

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)
_kinds = "set delete clear push increment truncate pop_last splice replace edit"
_kinds += " set_metadata replace_metadata edit_metadata"
_change = st.fixed_dictionaries(
    {"place": st.integers(-1, 4) | _json, "gone": st.integers(0, 3) | st.lists(_json) | _json},
    optional={"new": st.lists(_json, max_size=2) | _json},
)
_operation = st.fixed_dictionaries(
    {"op": st.sampled_from(_kinds.split()), "key": st.sampled_from(["l", "n"]) | _json},
    optional={
        "value": _json,
        "maxRecords": st.integers(-1, 3) | _json,
        "keepFirst": st.integers(-1, 3) | _json,
        "unique": st.text(max_size=3) | _json,
        "ifMissing": st.booleans() | _json,
        "by": st.integers() | st.floats() | _json,
        "keep": st.integers(-1, 3) | _json,
        "changes": st.lists(_change, max_size=3) | _json,
        "since": st.integers(-1, 3) | _json,
        "old": _json,
        "base": st.lists(_json, max_size=4) | _json,
        "appended": st.lists(_json, max_size=2) | _json,
        "places": st.lists(st.none() | st.integers(0, 5), max_size=4) | _json,
        "partial": st.booleans() | _json,
        "uncertain": st.booleans() | _json,
    },
)
_data = st.fixed_dictionaries(
    {"thread_id": st.just(THREAD), "age": st.floats(0, 10) | _json},
    optional={
        "at": st.floats(allow_nan=False, allow_infinity=False) | _json,
        "operations": st.lists(_operation | _json, max_size=3) | _json,
        "version": st.integers(0, 9) | _json,
        "counted": st.lists(st.just("l"), max_size=2) | _json,
        "user_data": st.just("") | _json,
        "metadata": st.just({}) | _json,
    },
)


def test_every_frame_gets_one_reply(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer, other = connect(service), connect(service)
    other.call("save", "other", user_data='{"state":{"a":1}}')

    @settings(
        max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.tuples(st.sampled_from(["merge", "save", "restore"]), _data), max_size=4))
    def send(requests: list[tuple[str, dict[str, Any]]]) -> None:
        asked = []
        for number, (action, data) in enumerate(requests):
            text = json.dumps({"id": str(number), "action": action, "data": data})
            if "NaN" in text or "Infinity" in text:
                continue
            peer.raw(text)
            asked.append(str(number))
        replies = [peer.receive() for _ in asked]
        assert sorted(reply["id"] for reply in replies) == sorted(asked)
        for reply in replies:
            assert reply["success"] is True or reply["error"]
            assert "log says why" not in reply.get("error", "")
        assert peer.call("restore", "another")["success"] is True

    send()
    assert other.restore("other") == '{"state":{"a":1}}'


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "rename", "key": "k"},
        {"op": "set", "key": "k"},
        push(1, keep=1),
        splice(0, []),
        {"op": "edit", "key": "k", "base": [1], "changes": [{"place": 1, "gone": 1, "new": []}]},
    ],
)
def test_one_wrong_operation_refuses_the_whole_merge(
    serve: Serve, connect: Connect, operation: dict[str, Any]
) -> None:
    peer = connect(serve())
    reply = merge(peer, push(1), operation)
    assert reply["success"] is False
    assert "operation" in reply["error"]
    assert peer.restore() == ""


def test_a_large_merge_costs_what_it_holds(serve: Serve, connect: Connect) -> None:
    """Ten times the operations take about ten times as long, not a hundred times."""
    peer = connect(serve())
    took = []
    for count in (2_000, 20_000):
        operations = []
        for number in range(count // 2):
            operations += [push(number, "a", maxRecords=100), push(number, "b", maxRecords=100)]
        start = time.process_time()
        assert merge(peer, *operations)["success"] is True
        took.append(time.process_time() - start)
    assert took[1] < 40 * took[0]
