from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import orjson
import pytest
from support.recording import THREAD_ID, RecordingStore, Watcher, begin, put, stored

from flask_agentuity import ThreadState
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Clear, Delete, Push, Replace, Set
from flask_agentuity.errors import StateTypeError, StoreError
from flask_agentuity.stores import ThreadStore

# --------------------------------------------------------------------- what a request costs


def read_one(state: ThreadState) -> None:
    assert state["a"] == {"n": 1}


def read_all(state: ThreadState) -> None:
    assert dict(state)


def write(state: ThreadState) -> None:
    state["new"] = 1


def push(state: ThreadState) -> None:
    state.push("messages", "more")


def update(state: ThreadState) -> None:
    state.update(one=1, two=2)
    state |= {"three": 3}


def append(state: ThreadState) -> None:
    state["messages"].append("more")


def fill_in_and_append(state: ThreadState) -> None:
    state.setdefault("messages", []).append("more")


def fill_in_a_missing_one(state: ThreadState) -> None:
    state.setdefault("missing", []).append("more")


def ask_and_read(state: ThreadState) -> None:
    assert "messages" in state
    assert state["messages"]


def read_mutate_and_revert(state: ThreadState) -> None:
    state["a"]["n"] = 2
    state["a"]["n"] = 1
    state["messages"].append("more")
    state["messages"].pop()


def clear(state: ThreadState) -> None:
    state.clear()
    assert len(state) == 0
    assert "a" not in state
    assert state.get("messages") is None
    assert list(state) == []


def clear_and_fill(state: ThreadState) -> None:
    clear(state)
    state.setdefault("messages", []).append("first")
    assert dict(state) == {"messages": ["first"]}


def delete(state: ThreadState) -> None:
    del state["a"]


def take_out(state: ThreadState) -> None:
    assert state.pop("a") == {"n": 1}


def read_and_write(state: ThreadState) -> None:
    state["count"] += 1


def do_nothing(state: ThreadState) -> None:
    assert not state.loaded
    assert not state.dirty


@pytest.mark.parametrize("names_only", [False, True])
@pytest.mark.parametrize(
    ("view", "reads", "sent"),
    [
        (do_nothing, 0, []),
        (read_one, 1, []),
        (read_all, 1, []),
        (write, 0, [Set("new", b"1")]),
        (push, 0, [Push("messages", b'"more"')]),
        (update, 0, [Set("one", b"1"), Set("two", b"2"), Set("three", b"3")]),
        (append, 1, [Push("messages", b'"more"')]),
        (fill_in_and_append, 1, [Push("messages", b'"more"')]),
        (fill_in_a_missing_one, 1, [Push("missing", b'"more"')]),
        (ask_and_read, 1, []),
        (read_mutate_and_revert, None, []),
        (clear, 0, [Clear()]),
        (clear_and_fill, 0, [Clear(), Set("messages", b'["first"]')]),
        (delete, 1, [Delete("a")]),
        (take_out, 1, [Delete("a")]),
        (read_and_write, 1, [Replace("count", b"7", b"8", ANY)]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_calls_and_operations_that_a_request_costs(
    view: Callable[[ThreadState], None], reads: int | None, sent: list[Any], names_only: bool
) -> None:
    store = RecordingStore(names_only=names_only)
    put(store, {"a": {"n": 1}, "messages": ["one"], "count": 7, "unused": [1, 2, 3]}, {"m": 1})
    thread = begin(store)
    view(thread.state)
    thread.save()
    assert store.sent == sent
    assert len(store.merges) == bool(sent)
    if reads is not None:
        assert len(store.reads) == reads
    if not names_only:
        assert len(store.reads) <= 1


def test_reading_twice_reads_the_store_once_also_from_two_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = RecordingStore()
    put(store, {"a": 1})
    entered, go_on = threading.Event(), threading.Event()
    watcher = Watcher()
    thread = begin(store, watcher)
    slow = store.read

    def read(*arguments: Any) -> Snapshot | None:
        entered.set()
        assert go_on.wait(30)
        return slow(*arguments)

    monkeypatch.setattr(store, "read", read)
    found: list[Any] = []
    readers = [threading.Thread(target=lambda: found.append(thread.state["a"])) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert entered.wait(30)
    go_on.set()
    for reader in readers:
        reader.join(30)
    assert found == [1, 1, 1, 1]
    assert len(store.reads) == 1
    assert watcher.told.count("restored") == 1
    assert watcher.told.count("touched") == 1


def test_what_another_thread_of_the_request_changes_during_a_save_is_saved_by_the_next() -> None:
    store = RecordingStore()
    put(store, {"a": 1, "b": 2, "messages": []})
    thread = begin(store)
    assert thread.state["a"] == 1

    def change() -> None:
        thread.state.push("messages", "during")
        del thread.state["a"]
        thread.state["b"] = 3

    other = threading.Thread(target=change)

    def during_merge() -> None:
        store.during_merge = lambda: None
        other.start()
        # Whether it waits for the save or runs beside it is not what is tested.
        other.join(0.2)

    store.during_merge = during_merge
    thread.state.push("messages", "before")
    thread.save()
    other.join(30)
    thread.save()
    assert stored(store) == {"b": 3, "messages": ["before", "during"]}


# --------------------------------------------------------------- spelled by other programs


class ForeignStore(ThreadStore):
    """Keeps one document as another program has written it."""

    def __init__(self, document: str) -> None:
        self.document = document.encode()
        self.merged: list[Any] = []

    def restore(self, thread_id: str) -> bytes | None:
        return self.document

    def save(self, thread_id: str, document: bytes, metadata: Any = None) -> None:
        raise AssertionError

    def delete(self, thread_id: str) -> None:
        raise AssertionError

    def merge(self, thread_id: str, operations: Any, metadata: Any = None) -> None:
        self.merged.extend(operations)


class RawStore(ForeignStore):
    """Hands the values out as they are spelled."""

    def read(self, thread_id: str, keys: Any = None) -> Snapshot | None:
        return Snapshot({"value": self.document})


SPELLINGS = [
    "1E5",
    "1e23",
    "-0.0",
    "1.0",
    "100000000000000000000000",
    '"\\u00e9\\ud83d\\ude00\\/"',
    ' { "b" : 1,\n\t"a" : [ 1 , 2 ] } ',
    "[ 1, 2.50, 1e2 ]",
    '{"a":1,"a":2}',
]


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_value_that_another_program_spelled_is_unchanged_when_it_was_only_read(
    spelled: str,
) -> None:
    for store in (ForeignStore(f'{{"state":{{"value":{spelled}}}}}'), RawStore(spelled)):
        thread = begin(store)
        # As orjson reads it; a document with a large integer is read exactly.
        assert thread.state["value"] in (orjson.loads(spelled), json.loads(spelled))
        assert dict(thread.state)
        thread.save()
        assert store.merged == []


@pytest.mark.parametrize("spelled", ["[ 1, 2.50, 1e2 ]", '["\\u00e9"]', "[ ]", "[1E5 ]"])
def test_an_append_to_a_list_that_another_program_spelled_is_an_append(spelled: str) -> None:
    store = RawStore(spelled)
    thread = begin(store)
    thread.state["value"].append({"new": 1})
    thread.save()
    assert store.merged == [Push("value", b'{"new":1}')]


# ------------------------------------------------------------------- the smallest operations


def test_a_key_taken_out_and_put_back_is_no_change() -> None:
    store = RecordingStore()
    put(store, {"a": [1, 2], "b": 3})
    thread = begin(store)
    thread.state["a"] = thread.state.pop("a")
    thread.save()
    assert store.merges == []
    thread.state["a"] = [*thread.state.pop("a"), 3]
    thread.save()
    assert store.sent == [Push("a", b"3")]


# ------------------------------------------------------------------- items pushed and kept


def test_an_item_changed_after_its_push_was_saved_is_saved_again() -> None:
    store = RecordingStore()
    put(store, {"messages": [{"id": 0}]})
    thread = begin(store)
    answer = {"id": 1, "text": ""}
    thread.state.push("messages", answer)
    thread.save()
    assert store.calls == (0, 1)
    answer["text"] = "hello"
    assert thread.state.dirty
    thread.save()
    assert stored(store) == {"messages": [{"id": 0}, {"id": 1, "text": "hello"}]}
    thread.save()
    assert len(store.merges) == 2


def test_equal_items_keep_their_order_when_one_of_them_changes() -> None:
    store = RecordingStore()
    thread = begin(store)
    first: dict[str, int] = {}
    thread.state.push("messages", first)
    thread.state.push("messages", {})
    thread.save()
    first["changed"] = 1
    thread.save()
    assert stored(store) == {"messages": [{"changed": 1}, {}]}


def test_a_list_read_after_the_save_holds_the_pushed_item_itself() -> None:
    store = RecordingStore()
    thread = begin(store)
    item: dict[str, int] = {}
    thread.state.push("messages", item)
    thread.save()
    item["before"] = 1
    assert thread.state["messages"] == [{"before": 1}]
    item["after"] = 2
    assert thread.state["messages"] == [{"before": 1, "after": 2}]
    thread.save()
    assert stored(store) == {"messages": [{"before": 1, "after": 2}]}


def test_an_item_that_a_window_pushed_out_takes_no_other_items_place() -> None:
    store = RecordingStore()
    thread = begin(store)
    gone: dict[str, int] = {}
    thread.state.push("messages", gone)
    thread.state.push("messages", {}, max_records=1)
    thread.save()
    gone["changed"] = 1
    thread.save()
    assert stored(store) == {"messages": [{}]}


def test_several_changes_of_one_list_are_pushes_in_their_order() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread = begin(store)
    thread.state.push("messages", 2)
    thread.state["messages"].append(3)
    thread.state.push("messages", 4, max_records=10)
    thread.state["messages"].extend([5, 6])
    thread.state["messages"] += [7]
    thread.save()
    assert store.sent == [
        Push("messages", b"2"),
        Push("messages", b"3"),
        Push("messages", b"4", 10),
        *(Push("messages", b"%d" % number) for number in (5, 6, 7)),
    ]
    assert stored(store) == {"messages": [1, 2, 3, 4, 5, 6, 7]}


def test_adding_in_place_is_an_append_beside_a_window_and_a_default() -> None:
    store = RecordingStore()
    put(store, {"messages": [1, 2, 3]})
    one, two = begin(store), begin(store)
    for thread, item in ((one, 4), (two, 5)):
        thread.state.push("messages", item, max_records=3)
        thread.state["messages"] += [item * 10]
        thread.state.setdefault("new", [])
        thread.state["new"] += [item]
    one.save()
    two.save()
    assert stored(store) == {"messages": [4, 40, 5, 50], "new": [4, 5]}


def test_a_window_keeps_the_last_items_also_when_the_list_is_in_hand() -> None:
    store = RecordingStore()
    put(store, {"messages": [1, 2, 3]})
    thread = begin(store)
    assert thread.state["messages"] == [1, 2, 3]
    thread.state["messages"].append(4)
    thread.state.push("messages", 5, max_records=2)
    assert thread.state["messages"] == [4, 5]
    thread.save()
    assert store.sent == [Push("messages", b"4"), Push("messages", b"5", 2)]
    assert stored(store) == {"messages": [4, 5]}


def test_a_push_after_an_assignment_or_a_delete_starts_afresh() -> None:
    store = RecordingStore()
    put(store, {"a": [1], "b": [1], "c": [1]})
    thread = begin(store)
    thread.state["a"] = []
    thread.state.push("a", 2)
    del thread.state["b"]
    thread.state.push("b", 2)
    thread.state.push("c", 2)
    thread.state["c"] = [3]
    thread.save()
    assert stored(store) == {"a": [2], "b": [2], "c": [3]}
    assert store.sent == [
        Set("a", b"[2]"),
        Delete("b"),
        Push("b", b"2"),
        Set("c", b"[3]"),
    ]


def test_a_long_value_is_sent_as_what_was_added_to_it() -> None:
    store = RecordingStore()
    put(store, {"messages": [{"text": "x" * 100}] * 500})
    thread = begin(store)
    thread.state["messages"].append({"text": "y"})
    thread.save()
    assert store.sent == [Push("messages", b'{"text":"y"}')]


# ---------------------------------------------------------------------- pushes onto others


@pytest.mark.parametrize("value", [{"a": 1}, "text", 5, None, True])
def test_a_push_onto_what_is_known_to_be_no_list_is_refused(value: Any) -> None:
    store = RecordingStore()
    put(store, {"a": value})
    for read in (True, False):
        thread = begin(store)
        if read:
            assert thread.state["a"] == value
        else:
            assert len(thread.state) == 1
        with pytest.raises(StateTypeError, match=r'state\["a"\]'):
            thread.state.push("a", 1)
        with pytest.raises(TypeError):
            thread.state.push("a", 1)
        assert thread.state["a"] == value
        thread.save()
        assert store.merges == []


def test_a_push_onto_what_turns_out_to_be_no_list_is_skipped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = RecordingStore()
    put(store, {"a": {"n": 1}})
    reading, writing = begin(store), begin(store)
    for thread in (reading, writing):
        thread.state.push("a", 1)
        thread.state["b"] = 2
    assert reading.state["a"] == {"n": 1}
    assert 'state["a"]' in caplog.text
    assert THREAD_ID in caplog.text
    reading.save()
    assert store.sent == [Set("b", b"2")]
    caplog.clear()
    writing.save()
    assert 'state["a"]' in caplog.text
    assert THREAD_ID in caplog.text
    assert stored(store) == {"a": {"n": 1}, "b": 2}


@pytest.mark.parametrize("max_records", [0, -1, True, 1.0, "3", [1]])
def test_a_window_that_is_no_positive_integer_is_refused(max_records: Any) -> None:
    thread = begin(RecordingStore())
    with pytest.raises(ValueError, match="positive integer"):
        thread.state.push("a", 1, max_records)
    assert not thread.dirty


# ------------------------------------------------------------------------- other members


def test_what_is_known_of_a_state_is_shown() -> None:
    store = RecordingStore()
    put(store, {"a": 1})
    thread = begin(store)
    state = thread.state
    assert repr(state) == f"<ThreadState of {THREAD_ID}, not read>"
    assert not state.loaded
    assert state == {"a": 1}
    assert state.loaded
    assert repr(state) == f"<ThreadState of {THREAD_ID}, read>"
    cleared = begin(store).state
    cleared.clear()
    assert cleared.loaded
    store.read_errors = [StoreError("down")]
    unread = begin(store)
    degraded = unread.state
    assert dict(degraded) == {}
    assert not degraded.loaded
    assert repr(degraded) == f"<ThreadState of {THREAD_ID}, degraded>"
