from __future__ import annotations

import threading
from typing import Any
from unittest.mock import ANY

import pytest
from support.recording import THREAD_ID, RecordingStore, Watcher, begin, put, stored

from flask_agentuity import Thread
from flask_agentuity.document.operations import Clear, Delete, Push, Replace, Set
from flask_agentuity.errors import (
    ServiceUnavailable,
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


@pytest.mark.parametrize("damaged", [b'{"cut off', b"5", b"null", b"[1]", b'"text"', b""])
def test_metadata_that_are_damaged_are_not_overwritten(damaged: bytes) -> None:
    store = RecordingStore()
    put(store, {"count": 7}, {"owner": "ada"})
    store.damaged_metadata = damaged
    thread, watcher = failing(store)
    thread.state.push("messages", 1)
    assert thread.metadata == {}
    assert thread.degraded
    assert THREAD_ID in str(watcher.errors[0])
    assert "is damaged (metadata: " in str(watcher.errors[0])
    assert len(watcher.errors) == 1
    thread.metadata["title"] = "new"
    assert thread.metadata == {"title": "new"}
    save_with_loss(thread, "metadata")
    assert store.merges == [([Push("messages", b"1")], None)]
    store.damaged_metadata = None
    assert begin(store).metadata == {"owner": "ada"}


def test_damaged_metadata_of_a_state_that_could_not_be_read() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]}, {"owner": "ada"})
    store.damaged, store.damaged_metadata = {"messages"}, b"5"
    thread, watcher = failing(store)
    assert thread.state.get("messages") is None
    assert thread.metadata == {}
    assert len(watcher.errors) == 1


def test_damaged_metadata_raise_each_time_where_the_app_wants_that() -> None:
    store = RecordingStore()
    put(store, {"count": 7}, {"owner": "ada"})
    store.damaged_metadata = b"5"
    thread = begin(store, Watcher("raise"))
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            thread.metadata  # noqa: B018
    assert thread.state["count"] == 7


def test_metadata_can_be_replaced_without_being_read() -> None:
    store = RecordingStore()
    put(store, {"count": 7}, {"owner": "ada"})
    store.damaged_metadata = b"5"
    thread = begin(store)
    thread.metadata = {"title": "new"}
    thread.save()
    store.damaged_metadata = None
    assert begin(store).metadata == {"title": "new"}


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
