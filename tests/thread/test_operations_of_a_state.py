"""What plain code cannot express: increment, change, truncate, pop_last, unique pushes."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from support.recording import RecordingStore, begin, put, stored

from flask_agentuity.document.operations import Increment, PopLast, Push, Truncate
from flask_agentuity.errors import StateNotSerializable, StateTypeError, StoreError


def start(**state: Any) -> RecordingStore:
    store = RecordingStore()
    put(store, state)
    return store


@pytest.mark.parametrize("read", [False, True])
def test_increments_of_several_requests_all_count(read: bool) -> None:
    store = start(count=1)
    threads = [begin(store) for _ in range(5)]
    for thread in threads:
        if read:
            assert thread.state["count"] == 1
        thread.state.increment("count")
        thread.state.increment("count", 2)
        thread.state.increment("new")
        if read:
            assert thread.state["count"] == 4
    for thread in threads:
        thread.save()
    assert stored(store) == {"count": 16, "new": 5}
    assert all(isinstance(one, Increment) for one in store.sent)


def test_an_increment_reads_nothing_and_is_seen_when_it_is_read() -> None:
    store = start(count=1)
    thread = begin(store)
    thread.state.increment("count", 4)
    assert store.reads == []
    assert thread.state["count"] == 5
    thread.save()
    assert store.sent == [Increment("count", 4)]
    thread.state["count"] *= 2
    thread.save()
    assert stored(store) == {"count": 10}


@pytest.mark.parametrize("value", ["text", True, None, [1]])
def test_an_increment_of_what_is_known_to_be_no_number_is_refused(value: Any) -> None:
    thread = begin(start(a=value))
    assert thread.state["a"] == value
    with pytest.raises(StateTypeError, match=r'state\["a"\]'):
        thread.state.increment("a")


@pytest.mark.parametrize("by", [True, "1", None, float("nan"), float("inf")])
def test_only_numbers_can_be_added(by: Any) -> None:
    thread = begin(start())
    with pytest.raises(ValueError, match="by="):
        thread.state.increment("a", by)
    with pytest.raises(StateNotSerializable):
        thread.state.increment("a", 2**64)
    assert not thread.dirty


def test_truncate_and_pop_last_read_nothing() -> None:
    store = start(messages=[1, 2, 3, 4], other=[1, 2])
    thread = begin(store)
    thread.state.truncate("messages", keep=3)
    thread.state.pop_last("messages")
    thread.state.push("messages", 9)
    thread.state.pop_last("other")
    thread.save()
    assert store.reads == []
    assert store.sent == [
        Truncate("messages", 3),
        PopLast("messages"),
        Push("messages", b"9"),
        PopLast("other"),
    ]
    assert stored(store) == {"messages": [1, 2, 9], "other": [1]}


def test_what_was_read_is_popped_and_nothing_that_came_later() -> None:
    store = start(messages=[1, 2])
    popping, pushing = begin(store), begin(store)
    assert popping.state["messages"] == [1, 2]
    popping.state.pop_last("messages")
    assert popping.state["messages"] == [1]
    pushing.state.push("messages", 3)
    pushing.save()
    popping.save()
    assert stored(store) == {"messages": [1, 3]}


def test_truncating_what_is_queued_is_seen_when_it_is_read() -> None:
    store = start(messages=[1, 2, 3])
    thread = begin(store)
    thread.state.push("messages", 4)
    thread.state.truncate("messages", keep=1)
    assert thread.state["messages"] == [1]
    thread.save()
    assert stored(store) == {"messages": [1]}


@pytest.mark.parametrize("keep", [-1, True, 1.0, None])
def test_only_a_number_of_items_can_be_kept(keep: Any) -> None:
    with pytest.raises(ValueError, match="keep"):
        begin(start()).state.truncate("a", keep)


@pytest.mark.parametrize("read", [False, True])
def test_a_unique_push_appends_once(read: bool) -> None:
    store = start(events=[{"id": 1, "text": "one"}])
    threads = [begin(store) for _ in range(3)]
    for thread in threads:
        if read:
            assert len(thread.state["events"]) == 1
    for thread in threads:
        thread.state.push("events", {"id": 1, "text": "again"}, unique="id")
        thread.state.push("events", {"id": 2, "text": "two"}, unique="id")
        thread.state.push("events", {"id": "1", "text": "text"}, unique="id")
        thread.save()
        thread.save()
    assert stored(store)["events"] == [
        {"id": 1, "text": "one"},
        {"id": 2, "text": "two"},
        {"id": "1", "text": "text"},
    ]


def test_a_unique_push_needs_the_field() -> None:
    thread = begin(start())
    for item in ({"other": 1}, "text", 5, ["id"]):
        with pytest.raises(ValueError, match="unique"):
            thread.state.push("a", item, unique="id")
    assert not thread.dirty


@pytest.mark.parametrize("read", [False, True])
def test_a_window_can_keep_the_first_items(read: bool) -> None:
    store = start(messages=["system", 1, 2])
    thread = begin(store)
    if read:
        assert len(thread.state["messages"]) == 3
    for item in (3, 4):
        thread.state.push("messages", item, max_records=3, keep_first=1)
    assert thread.state["messages"] == ["system", 3, 4]
    thread.save()
    assert stored(store) == {"messages": ["system", 3, 4]}


@pytest.mark.parametrize(("records", "first"), [(None, 1), (2, 3), (2, -1), (2, True), (2, "1")])
def test_the_first_items_are_a_part_of_the_window(records: Any, first: Any) -> None:
    with pytest.raises(ValueError, match="keep_first"):
        begin(start()).state.push("a", 1, records, keep_first=first)


def test_an_edit_beside_a_window_keeps_the_window() -> None:
    store = start(messages=[{"n": 1}, {"n": 2}, {"n": 3}])
    mine, theirs = begin(store), begin(store)
    mine.state["messages"][1]["seen"] = True
    mine.state.push("messages", {"n": 4}, max_records=3)
    assert mine.state["messages"] == [{"n": 2, "seen": True}, {"n": 3}, {"n": 4}]
    theirs.state.push("messages", {"n": 5})
    theirs.save()
    mine.save()
    assert stored(store)["messages"] == [{"n": 3}, {"n": 5}, {"n": 4}]


@pytest.mark.parametrize(
    "change", [lambda items: items.insert(0, 0), lambda items: items.pop(0), list.clear]
)
def test_a_list_that_becomes_shorter_or_longer_after_a_window_is_stored_as_it_is(
    change: Callable[[list[Any]], object],
) -> None:
    store = start(items=[None, []])
    thread = begin(store)
    thread.state.push("items", 1, max_records=2)
    change(thread.state["items"])
    expected = list(thread.state["items"])
    thread.save()
    assert stored(store)["items"] == expected


def test_a_change_is_applied_again_to_what_another_request_has_stored() -> None:
    store = start(budget=100)
    threads = [begin(store) for _ in range(3)]
    for thread in threads:
        assert thread.state.change("budget", lambda budget: max(0, budget - 40)) == 60
        assert thread.state["budget"] == 60
    for thread in threads:
        thread.save()
    assert stored(store) == {"budget": 0}


def test_changes_of_one_request_are_applied_in_their_order() -> None:
    store = start(a=1)
    thread, other = begin(store), begin(store)
    thread.state.change("a", lambda value: value + 1)
    thread.state.change("a", lambda value: value * 10)
    other.state.change("a", lambda value: value + 5)
    other.save()
    thread.save()
    assert stored(store) == {"a": 70}


def test_a_change_of_a_missing_key_gets_none_and_a_copy() -> None:
    store = start(a=[1])
    thread = begin(store)
    assert thread.state.change("new", lambda value: [value]) == [None]
    seen: list[Any] = []

    def spoil(value: list[int]) -> list[int]:
        seen.append(value)
        value.append(2)
        raise LookupError("half done")

    with pytest.raises(LookupError):
        thread.state.change("a", spoil)
    assert thread.state["a"] == [1]
    thread.save()
    assert stored(store) == {"a": [1], "new": [None]}


def test_a_change_followed_by_an_edit_is_merged() -> None:
    store = start(a={"n": 1})
    thread, other = begin(store), begin(store)
    thread.state.change("a", lambda value: value | {"mine": 1})
    thread.state["a"]["more"] = 2
    other.state["a"]["theirs"] = 3
    other.save()
    thread.save()
    assert stored(store) == {"a": {"n": 1, "theirs": 3, "mine": 1, "more": 2}}


def test_a_change_that_cannot_be_applied_again_is_merged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = start(budget=100, limits={"a": 1})
    thread, other = begin(store), begin(store)
    thread.state.change("budget", lambda budget: budget - 5)
    thread.state.change("limits", lambda limits: limits | {"b": limits["a"]})
    del other.state["budget"]
    other.state["limits"] = {"c": 3}
    other.save()
    thread.save()
    assert stored(store) == {"limits": {"c": 3}}
    assert 'state["budget"]' in caplog.text


@pytest.mark.parametrize("shorten", ["truncate", "pop_last"])
def test_a_key_can_be_deleted_after_it_was_shortened_without_reading(shorten: str) -> None:
    store = start(messages=[1, 2, 3], other=1)
    thread = begin(store)
    if shorten == "truncate":
        thread.state.truncate("messages", 2)
    else:
        thread.state.pop_last("messages")
    del thread.state["messages"]
    thread.save()
    assert stored(store) == {"other": 1}
    with pytest.raises(KeyError):
        del thread.state["messages"]


def test_copies_are_plain_and_share_nothing() -> None:
    thread = begin(start(a={"n": 1}, messages=[1]))
    state = thread.state
    for copied in (
        copy.copy(state),
        copy.deepcopy(state),
        state.copy(),
        pickle.loads(pickle.dumps(state)),
    ):
        assert type(copied) is dict
        assert copied == {"a": {"n": 1}, "messages": [1]}
        copied["a"]["n"] = 2
    assert json.dumps(state.copy())
    assert state["a"] == {"n": 1}
    assert not thread.dirty


def test_operations_that_need_no_reading_are_saved_after_a_failed_read() -> None:
    store = start(count=1, messages=[1, 2], other=5)
    store.read_errors = [StoreError("down")]
    thread = begin(store)
    assert thread.state.get("other") is None
    thread.state.increment("count")
    thread.state.pop_last("messages")
    thread.state.push("messages", 3)
    thread.save()
    assert stored(store) == {"count": 2, "messages": [1, 3], "other": 5}
