from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from support.recording import THREAD_ID, RecordingStore, Watcher, begin, put, stored

from flask_agentuity import Thread
from flask_agentuity.document.operations import Clear, Push
from flask_agentuity.errors import (
    AgentuityError,
    OutcomeUnknown,
    ServiceUnavailable,
    StateNotSerializable,
    StateTooLarge,
    StoreError,
)
from flask_agentuity.thread.late_changes import forget_late_changes, has_late_changes
from flask_agentuity.thread.thread import contents_of

DOWN = ServiceUnavailable("The service is down.")


# -------------------------------------------------------------------------------- saves


def test_a_save_is_safe_to_repeat() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread = begin(store)
    thread.state.push("messages", 2)
    thread.state["a"] = {"n": 1}
    thread.metadata = {"owner": "ada"}
    thread.save()
    thread.save()
    assert len(store.merges) == 1
    assert not thread.dirty
    assert thread.state["messages"] == [1, 2]
    thread.state["messages"].append(3)
    thread.state["a"]["n"] = 2
    thread.state.push("messages", 4)
    thread.metadata["owner"] = "bob"
    thread.save()
    thread.save()
    assert len(store.merges) == 2
    assert stored(store) == {"messages": [1, 2, 3, 4], "a": {"n": 2}}
    assert begin(store).metadata == {"owner": "bob"}


def test_a_save_that_failed_can_be_repeated() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "old": 1})
    store.merge_errors = [DOWN, StoreError("busy")]
    watcher = Watcher()
    thread = begin(store, watcher)
    thread.state.push("messages", 2)
    del thread.state["old"]
    thread.state.setdefault("new", []).append(1)
    thread.metadata = {"owner": "ada"}
    for _ in range(2):
        with pytest.raises(StoreError):
            thread.save()
        assert thread.dirty
        assert not contents_of(thread).source.saved
    thread.save()
    assert contents_of(thread).source.saved
    assert stored(store) == {"messages": [1, 2], "new": [1]}
    assert begin(store).metadata == {"owner": "ada"}
    assert watcher.told.count("save_failed") == 2
    assert watcher.told.count("saved") == 1


def test_what_may_be_stored_is_not_sent_again() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    store.merge_errors = [OutcomeUnknown("The connection was lost.")]
    thread = begin(store)
    thread.state.push("messages", 2)
    thread.state["a"] = 1
    thread.metadata = {"owner": "ada"}
    with pytest.raises(OutcomeUnknown):
        thread.save()
    assert not thread.dirty
    thread.save()
    assert len(store.merges) == 1
    thread.state.push("messages", 3)
    thread.save()
    assert store.merges[1] == ([Push("messages", b"3")], None)


def test_a_value_that_json_cannot_hold_fails_every_save_until_it_is_gone() -> None:
    store = RecordingStore()
    thread = begin(store)
    thread.state["a"] = {"deep": [1]}
    thread.state.push("messages", 1)
    thread.state["a"]["deep"].append(float("nan"))
    for _ in range(2):
        with pytest.raises(StateNotSerializable) as caught:
            thread.save()
        assert caught.value.path == 'state["a"].deep[1]'
    assert thread.dirty
    assert store.merges == []
    thread.state["a"]["deep"].pop()
    thread.save()
    assert stored(store) == {"a": {"deep": [1]}, "messages": [1]}


def test_a_state_over_the_limit_leaves_what_is_stored_whole() -> None:
    store = RecordingStore(max_bytes=200)
    put(store, {"messages": ["x" * 100]})
    watcher = Watcher()
    thread = begin(store, watcher)
    thread.state.push("messages", "y" * 100)
    with pytest.raises(StateTooLarge):
        thread.save()
    assert isinstance(watcher.errors[0], StateTooLarge)
    assert stored(store) == {"messages": ["x" * 100]}
    del thread.state["messages"]
    thread.state["messages"] = ["z"]
    thread.save()
    assert stored(store) == {"messages": ["z"]}


def test_saving_an_untouched_thread_does_nothing() -> None:
    store = RecordingStore()
    thread = begin(store)
    assert not thread.dirty
    thread.save()
    assert store.calls == (0, 0)
    assert contents_of(thread).source.known_id is None


def test_a_new_thread_is_never_read() -> None:
    store = RecordingStore()
    thread = begin(store, is_new=True)
    assert thread.state.get("a") is None
    assert thread.metadata == {}
    assert thread.empty()
    thread.state["a"] = 1
    thread.save()
    assert store.calls == (0, 1)


# ------------------------------------------------------------------------------ metadata


def test_metadata_costs_a_read_only_when_it_is_read() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada"})
    thread = begin(store)
    thread.metadata = {"owner": "bob"}
    thread.save()
    assert store.calls == (0, 1)
    assert store.merges == [([], {"owner": "bob"})]
    thread = begin(store)
    assert thread.metadata == {"owner": "bob"}
    assert thread.state["a"] == 1
    thread.save()
    assert store.calls == (1, 1)


def test_metadata_is_kept_by_every_save_that_does_not_change_it() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada"})
    thread = begin(store)
    thread.state.clear()
    thread.state["b"] = 2
    thread.save()
    assert store.merges[0][1] is None
    assert begin(store).metadata == {"owner": "ada"}


def test_metadata_beside_a_cleared_state_is_read() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada"})
    thread = begin(store)
    thread.state.clear()
    thread.metadata["more"] = 1
    thread.save()
    assert len(store.reads) == 1
    assert store.merges == [([Clear()], {"owner": "ada", "more": 1})]


def test_metadata_assigned_as_it_is_stored_is_no_change() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada"})
    thread = begin(store)
    assert thread.metadata == {"owner": "ada"}
    thread.metadata = {"owner": "ada"}
    thread.save()
    assert store.merges == []


def test_metadata_has_no_attributes_that_would_not_be_saved() -> None:
    thread = begin(RecordingStore())
    with pytest.raises(AttributeError):
        thread.metadata.title = "Holidays"  # type: ignore[attr-defined]


def test_metadata_can_be_emptied_without_reading() -> None:
    store = RecordingStore()
    put(store, {"a": 1}, {"owner": "ada"})
    thread = begin(store)
    thread.metadata = {}
    thread.save()
    assert store.merges == [([], {})]
    assert begin(store).metadata == {}


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": {1, 2}}, {1: "a"}])
def test_metadata_that_json_cannot_hold_is_refused(value: Any) -> None:
    store = RecordingStore()
    put(store, {}, {"owner": "ada"})
    thread = begin(store)
    with pytest.raises(StateNotSerializable) as caught:
        thread.metadata = value
    assert caught.value.path.startswith("metadata[")
    assert thread.metadata == {"owner": "ada"}
    metadata = thread.metadata
    key = next(iter(value))
    for change in (
        lambda: metadata.update(value),
        lambda: metadata.update({"before": 1, **value}),
        lambda: metadata.__setitem__(key, value[key]),
        lambda: metadata.setdefault(key, value[key]),
        lambda: metadata.__ior__(value),
    ):
        with pytest.raises(StateNotSerializable) as caught:
            change()
        assert caught.value.path.startswith("metadata[")
    assert not thread.dirty
    metadata["inside"] = {}
    metadata["inside"].update(value)
    assert thread.dirty
    with pytest.raises(StateNotSerializable):
        thread.save()
    assert store.merges == []


def test_metadata_is_a_dictionary_whose_copies_are_plain() -> None:
    store = RecordingStore()
    put(store, {}, {"owner": "ada"})
    metadata = begin(store).metadata
    assert isinstance(metadata, dict)
    assert metadata.setdefault("owner", "bob") == "ada"
    metadata |= {"title": "b"}
    for copied in (
        metadata.copy(),
        copy.copy(metadata),
        copy.deepcopy(metadata),
        pickle.loads(pickle.dumps(metadata)),
        json.loads(json.dumps(metadata)),
    ):
        assert type(copied) is dict
        assert copied == metadata == {"owner": "ada", "title": "b"}


def test_copies_of_metadata_share_nothing_with_it() -> None:
    metadata = begin(RecordingStore()).metadata
    metadata["tags"] = ["a"]
    for copied in (metadata.copy(), copy.copy(metadata), copy.deepcopy(metadata)):
        copied["tags"].append("b")
    assert metadata == {"tags": ["a"]}


# ------------------------------------------------------------------------------- destroy


def test_destroy_deletes_and_nothing_brings_the_thread_back() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]}, {"owner": "ada"})
    watcher = Watcher()
    thread = begin(store, watcher)
    kept = thread.state
    kept["a"] = 1
    messages = kept["messages"]
    metadata = thread.metadata
    heard: list[Any] = []
    thread.add_event_listener("destroyed", lambda *arguments: heard.append(arguments))
    thread.destroy()
    thread.destroy()
    assert store.deletes == [THREAD_ID]
    assert heard == [("destroyed", thread)]
    assert watcher.told[-1] == "destroyed"
    assert contents_of(thread).source.destroyed
    messages.append(2)
    metadata["b"] = 2
    kept.push("messages", 3)
    thread.state["again"] = 1
    thread.metadata["again"] = 1
    thread.metadata = {"again": 2}
    assert not thread.dirty
    thread.save()
    assert store.merges == []
    assert stored(store) == {}


def test_a_destroyed_thread_is_empty_and_not_read() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]}, {"owner": "ada"})
    thread = begin(store)
    thread.destroy()
    assert dict(thread.state) == {}
    assert thread.metadata == {}
    assert thread.get_serialized_state() == ""
    assert store.reads == []


def test_a_thread_that_could_not_be_deleted_is_not_destroyed() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    watcher = Watcher()
    thread = begin(store, watcher)
    thread.state.push("messages", 2)
    works = store.delete

    def fail(thread_id: str) -> None:
        raise DOWN

    store.delete = fail  # type: ignore[method-assign]
    with pytest.raises(ServiceUnavailable):
        thread.destroy()
    assert not contents_of(thread).source.destroyed
    assert "destroyed" not in watcher.told
    store.delete = works  # type: ignore[method-assign]
    thread.save()
    assert stored(store) == {"messages": [1, 2]}


def test_a_new_thread_is_only_deleted_where_it_was_saved() -> None:
    store = RecordingStore()
    thread = begin(store, is_new=True)
    thread.state["a"] = 1
    thread.destroy()
    assert store.deletes == []
    thread = begin(store, is_new=True)
    thread.state["a"] = 1
    thread.save()
    thread.destroy()
    assert store.deletes == [THREAD_ID]


def test_a_new_thread_whose_save_may_have_come_through_is_deleted() -> None:
    store = RecordingStore()
    for error in (OutcomeUnknown("lost"), StoreError("timed out")):
        store.merge_errors = [error]
        thread = begin(store, is_new=True)
        thread.state["a"] = 1
        with pytest.raises(AgentuityError):
            thread.save()
        thread.destroy()
    assert store.deletes == [THREAD_ID, THREAD_ID]


# ------------------------------------------------------------------------- other members


def test_a_thread_says_what_it_holds_as_one_document() -> None:
    store = RecordingStore()
    thread = begin(store)
    assert thread.get_serialized_state() == ""
    assert thread.empty()
    put(store, {"a": "é"}, {"m": 1})
    thread = begin(store)
    thread.state.push("messages", 1)
    assert thread.get_serialized_state() == '{"state":{"a":"é","messages":[1]},"metadata":{"m":1}}'
    assert not thread.empty()
    assert thread.loaded
    thread.state.clear()
    assert not thread.empty()
    thread.metadata.clear()
    assert thread.empty()
    assert thread.get_serialized_state() == ""


def test_listeners_can_be_removed_and_only_known_events_are_heard() -> None:
    thread = begin(RecordingStore())

    def listener(event: str, thread: Thread) -> None:
        raise AssertionError

    thread.add_event_listener("destroyed", listener)
    thread.remove_event_listener("destroyed", listener)
    thread.remove_event_listener("destroyed", listener)
    thread.destroy()
    for method in (thread.add_event_listener, thread.remove_event_listener):
        with pytest.raises(ValueError, match=r"'saved'.*'destroyed'"):
            method("saved", listener)


def test_changes_since_the_last_save_are_known() -> None:
    thread = begin(RecordingStore())
    contents = contents_of(thread)
    thread.state["a"] = 1
    thread.metadata["m"] = 1
    thread.save()
    assert not has_late_changes(contents)
    thread.state["a"] = 2
    assert thread.dirty
    assert has_late_changes(contents)
    forget_late_changes(contents)
    assert not has_late_changes(contents)
    thread.save()
    thread.metadata["m"] = 2
    assert has_late_changes(contents)


def test_changes_after_destroy_are_known() -> None:
    changes: list[Callable[[Thread], None]] = [
        lambda thread: thread.state.update(a=1),
        lambda thread: thread.metadata.update(a=1),
    ]
    for change in changes:
        thread = begin(RecordingStore())
        thread.state["before"] = 1
        thread.destroy()
        assert not has_late_changes(contents_of(thread))
        change(thread)
        assert has_late_changes(contents_of(thread))
