from __future__ import annotations

import threading
from typing import Any
from unittest.mock import ANY

import pytest
from recording import THREAD_ID, RecordingStore, Watcher, begin, put, stored

from flask_agentuity import Thread
from flask_agentuity.document.operations import Clear, Delete, Push, Replace, Set
from flask_agentuity.errors import (
    AgentuityError,
    OutcomeUnknown,
    ServiceUnavailable,
    StateNotSerializable,
    StateTooLarge,
    StoreError,
)

DOWN = ServiceUnavailable("The service is down.")


# ------------------------------------------------------------------------ reads that fail


def failing(store: RecordingStore, *errors: Exception | None) -> tuple[Thread, Watcher]:
    """Return a thread of which these reads fail."""
    store.read_errors = list(errors)
    watcher = Watcher()
    return begin(store, watcher), watcher


def save_with_loss(thread: Thread, *paths: str) -> None:
    with pytest.raises(StoreError) as caught:
        thread.save()
    assert "could not be read" in str(caught.value)
    for path in paths:
        assert path in str(caught.value)


def test_nothing_computed_from_an_unread_state_replaces_what_is_stored() -> None:
    store = RecordingStore()
    before = {"messages": [1, 2], "count": 7, "profile": {"name": "Ada"}}
    put(store, before, {"owner": "ada"})
    thread, watcher = failing(store, DOWN)
    state = thread.state
    assert state.get("messages", []) == []
    assert thread.degraded
    assert not thread.loaded
    state["count"] = state.get("count", 0) + 1
    state.setdefault("messages", []).append(3)
    state.setdefault("profile", {})["name"] = "Nobody"
    thread.metadata["owner"] = "nobody"
    assert thread.dirty
    save_with_loss(thread, 'state["messages"]', 'state["count"]', 'state["profile"]', "metadata")
    assert store.merges == []
    assert watcher.errors[0] is DOWN
    assert watcher.told == ["touched", "restore_failed", "save_failed"]
    assert len(store.reads) == 1
    assert stored(store) == before
    assert begin(store).metadata == {"owner": "ada"}


def test_what_was_changed_before_the_read_failed_is_saved() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7})
    thread, _ = failing(store, DOWN)
    thread.state["count"] = 8
    thread.state.push("messages", 2)
    thread.metadata = {"owner": "ada"}
    assert thread.state.get("other") is None
    assert thread.state["messages"] == [2]
    assert thread.state["count"] == 8
    thread.save()
    assert store.sent == [Set("count", b"8"), Push("messages", b"2")]
    assert stored(store) == {"messages": [1, 2], "count": 8}
    assert begin(store).metadata == {"owner": "ada"}


def test_a_clear_before_the_read_failed_is_saved() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7})
    thread, _ = failing(store, DOWN)
    thread.state.clear()
    assert thread.metadata == {}
    thread.save()
    assert store.sent == [Clear()]


def test_a_push_after_the_read_failed_is_saved() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread, _ = failing(store, DOWN)
    assert thread.state.get("messages") is None
    thread.state.push("messages", 2)
    thread.state.push("messages", 3, max_records=5)
    assert thread.state["messages"] == [2, 3]
    thread.save()
    assert store.sent == [Push("messages", b"2"), Push("messages", b"3", 5)]
    assert stored(store) == {"messages": [1, 2, 3]}
    thread.save()
    assert len(store.merges) == 1


def test_a_push_is_saved_beside_what_is_lost() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7})
    thread, _ = failing(store, DOWN)
    thread.state["count"] = thread.state.get("count", 0) + 1
    thread.state.push("messages", 2)
    save_with_loss(thread, 'state["count"]')
    assert stored(store) == {"messages": [1, 2], "count": 7}
    # It was told once.
    thread.save()


def test_an_append_beside_a_push_is_lost_and_told() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread, _ = failing(store, DOWN)
    messages = thread.state.setdefault("messages", [])
    thread.state.push("messages", 2)
    messages.append(3)
    save_with_loss(thread, 'state["messages"]')
    assert stored(store) == {"messages": [1, 2]}


def test_deletes_and_clears_after_the_read_failed_are_not_saved() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7})
    thread, _ = failing(store, DOWN)
    assert "count" not in thread.state
    thread.state.push("messages", 2)
    thread.state.clear()
    save_with_loss(thread, 'state["messages"]')
    assert stored(store) == {"messages": [1, 2], "count": 7}


def test_a_second_read_that_fails_saves_what_was_computed_from_the_first() -> None:
    store = RecordingStore(names_only=True)
    put(store, {"messages": [1], "count": 7, "old": 1}, {"owner": "ada"})
    thread, _ = failing(store, None, DOWN)
    thread.state["count"] += 1
    del thread.state["old"]
    assert thread.state.get("messages") is None
    assert thread.degraded
    thread.state.push("messages", 2)
    thread.state["count"] += 1
    save_with_loss(thread, 'state["count"]')
    assert stored(store) == {"messages": [1, 2], "count": 8}
    assert store.sent == [Replace("count", b"7", b"8", ANY), Delete("old"), Push("messages", b"2")]


def test_metadata_that_was_read_before_a_later_read_failed_is_no_change() -> None:
    store = RecordingStore(names_only=True)
    put(store, {"messages": [1], "count": 7}, {"owner": "ada"})
    thread, _ = failing(store, None, DOWN)
    assert thread.state["count"] == 7
    assert thread.state.get("messages") is None
    assert thread.metadata == {"owner": "ada"}
    thread.save()
    assert store.merges == []


def test_a_value_that_is_damaged_is_not_overwritten() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7, "fine": 1})
    store.damaged = {"messages"}
    thread, watcher = failing(store)
    thread.state["count"] += 1
    assert thread.state.get("messages", []) == []
    assert THREAD_ID in str(watcher.errors[0])
    assert 'state["messages"]' in str(watcher.errors[0])
    thread.state["messages"] = ["new"]
    save_with_loss(thread, 'state["messages"]')
    assert store.sent == [Replace("count", b"7", b"8", ANY)]
    store.damaged.clear()
    assert stored(store) == {"messages": [1], "count": 8, "fine": 1}


def test_an_item_changed_after_its_push_was_saved_is_saved_without_reading() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread, watcher = failing(store, DOWN)
    item = {"text": ""}
    thread.state.push("messages", item)
    thread.save()
    item["text"] = "more"
    assert thread.dirty
    thread.save()
    assert store.reads == []
    store.read_errors.clear()
    assert stored(store) == {"messages": [1, {"text": "more"}]}
    assert "restore_failed" not in watcher.told


def test_an_item_pushed_before_the_failed_read_and_changed_after_it_is_told_as_lost() -> None:
    store = RecordingStore()
    thread, _ = failing(store, DOWN)
    item = {"text": ""}
    thread.state.push("messages", item)
    assert thread.state.get("count") is None
    item["text"] = "more"
    save_with_loss(thread, 'state["messages"]')
    assert stored(store) == {"messages": [{"text": ""}]}


def test_raising_the_failure_leaves_everything_for_the_next_read() -> None:
    store = RecordingStore()
    put(store, {"messages": [1], "count": 7}, {"owner": "ada"})
    store.read_errors = [DOWN, DOWN, DOWN]
    watcher = Watcher("raise")
    thread = begin(store, watcher)
    thread.state.push("messages", 2)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            thread.state["messages"]
    with pytest.raises(ServiceUnavailable):
        _ = thread.metadata
    assert not thread.degraded
    assert thread.state["messages"] == [1, 2]
    assert thread.metadata == {"owner": "ada"}
    thread.state["count"] += 1
    thread.save()
    assert stored(store) == {"messages": [1, 2], "count": 8}
    assert watcher.told.count("restore_failed") == 3


def test_who_is_told_of_a_failed_read_may_look_at_the_thread() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread, watcher = failing(store, *[DOWN] * 50)
    seen: list[Any] = []

    def look(thread: Thread) -> None:
        try:
            seen.append(dict(thread.state))
        except StoreError as error:
            seen.append(error)

    watcher.on["restore_failed"] = look
    assert thread.state.get("messages") is None
    assert len(store.reads) == 1
    assert seen == [DOWN]


def test_who_is_told_that_a_thread_was_read_may_look_at_it() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]}, {"owner": "ada"})
    watcher = Watcher()
    seen: list[Any] = []
    watcher.on["restored"] = lambda thread: seen.append((dict(thread.state), thread.metadata))
    thread = begin(store, watcher)
    assert thread.state["messages"] == [1]
    assert seen == [({"messages": [1]}, {"owner": "ada"})]
    assert len(store.reads) == 1
    assert watcher.told.count("restored") == 1


def test_a_look_at_a_thread_that_is_read_and_a_save_do_not_wait_for_each_other() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]}, {"owner": "ada"})
    watcher = Watcher()
    thread = begin(store, watcher)
    thread.state.push("messages", 2)
    saving = threading.Thread(target=thread.save, daemon=True)

    def look(thread: Thread) -> None:
        saving.start()
        saving.join(0.2)
        assert thread.metadata == {"owner": "ada"}

    watcher.on["restored"] = look
    reading = threading.Thread(target=lambda: thread.state["messages"], daemon=True)
    reading.start()
    reading.join(30)
    saving.join(30)
    assert not reading.is_alive()
    assert not saving.is_alive()
    assert stored(store) == {"messages": [1, 2]}


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
        assert not thread.saved
    thread.save()
    assert thread.saved
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
    assert not thread.touched


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
    thread.metadata.update(value)
    assert thread.dirty
    with pytest.raises(StateNotSerializable):
        thread.save()
    assert store.merges == []


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
    assert thread.destroyed
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
    assert not thread.destroyed
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


def test_what_is_changed_too_late_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store = RecordingStore()
    thread = begin(store)
    thread.state["a"] = 1
    thread.metadata["m"] = 1
    thread.save()
    thread.warn_of_unsaved()
    assert caplog.records == []
    thread.state["a"] = 2
    assert thread.dirty
    thread.warn_of_unsaved()
    assert THREAD_ID in caplog.text
    assert caplog.records[0].levelname == "ERROR"


def test_metadata_changed_too_late_is_told(caplog: pytest.LogCaptureFixture) -> None:
    thread = begin(RecordingStore())
    thread.metadata["m"] = 1
    thread.save()
    thread.warn_of_unsaved()
    assert caplog.records == []
    thread.metadata["m"] = 2
    thread.warn_of_unsaved()
    assert THREAD_ID in caplog.text


def test_changes_after_destroy_are_told(caplog: pytest.LogCaptureFixture) -> None:
    for change in (
        lambda thread: thread.state.update(a=1),
        lambda thread: thread.metadata.update(a=1),
    ):
        thread = begin(RecordingStore())
        thread.destroy()
        thread.warn_of_unsaved()
        assert caplog.records == []
        change(thread)
        thread.warn_of_unsaved()
        assert "after destroy()" in caplog.text
        caplog.clear()
