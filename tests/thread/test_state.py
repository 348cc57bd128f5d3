from __future__ import annotations

import collections
import contextlib
import copy
import datetime
import enum
import json
import logging
import threading
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import ANY

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from recording import THREAD_ID, RecordingStore, Watcher, begin, put, stored

from flask_agentuity import ThreadState
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Clear, Delete, Push, Replace, Set
from flask_agentuity.errors import StateNotSerializable, StateTypeError, StoreError
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

# --------------------------------------------------------------- against a plain dictionary

KEYS = st.sampled_from(["a", "b", "messages", "ü", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
LISTS = st.lists(VALUES, max_size=4)
#: Over the limit up to which SQLite keeps a value in its row.
LONG = st.just("long " * 250)


def containers(value: Any) -> list[Any]:
    """Return every dictionary and list inside *value*, in one order for equal values."""
    found = []
    if isinstance(value, dict | list):
        found.append(value)
        for part in value.values() if isinstance(value, dict) else value:
            found.extend(containers(part))
    return found


def mutate(container: Any, how: int, value: Any) -> None:
    if isinstance(container, dict):
        if how % 3 == 0 or not container:
            container["new"] = value
        elif how % 3 == 1:
            del container[next(iter(container))]
        else:
            container[next(iter(container))] = value
    elif how % 6 == 0 or not container:
        container.append(value)
    elif how % 6 == 1:
        container.insert(0, value)
    elif how % 6 == 2:
        del container[-1]
    elif how % 6 == 3:
        container.reverse()
    elif how % 6 == 4:
        container.sort(key=lambda item: json.dumps(item, sort_keys=True))
    else:
        container[0] = value


class StateMachine(RuleBasedStateMachine):
    """Several requests, one after the other, on one thread; the model is a dictionary."""

    items = Bundle("items")

    def make_store(self) -> ThreadStore:
        raise NotImplementedError

    @initialize(
        state=st.dictionaries(KEYS, VALUES | LISTS | LONG, max_size=4),
        spelled_by_others=st.booleans(),
    )
    def start(self, state: dict[str, Any], spelled_by_others: bool) -> None:
        self.store = self.make_store()
        document = json.dumps({"state": state}, ensure_ascii=spelled_by_others)
        self.store.save(THREAD_ID, document.encode() if state else b"")
        self.model = copy.deepcopy(state)
        self.saved = copy.deepcopy(state)
        self.only_read = True
        self.thread = begin(self.store)

    @property
    def state(self) -> ThreadState:
        return self.thread.state

    def wrote(self) -> None:
        self.only_read = False

    @rule(key=KEYS, value=VALUES | LISTS | LONG)
    def assign(self, key: str, value: Any) -> None:
        self.wrote()
        self.state[key] = value
        self.model[key] = copy.deepcopy(value)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.state.get(key, "none") == self.model.get(key, "none")

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.wrote()
        if key in self.model:
            del self.model[key]
            del self.state[key]
        else:
            with pytest.raises(KeyError):
                del self.state[key]

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        self.wrote()
        assert self.state.pop(key, "none") == self.model.pop(key, "none")

    @rule(key=KEYS, value=VALUES | LISTS)
    def setdefault(self, key: str, value: Any) -> None:
        self.wrote()
        expected = self.model.setdefault(key, copy.deepcopy(value))
        assert self.state.setdefault(key, value) == expected

    @rule(key=KEYS, value=VALUES)
    def setdefault_and_append(self, key: str, value: Any) -> None:
        self.wrote()
        if isinstance(self.model.get(key, []), list):
            self.state.setdefault(key, []).append(value)
            self.model.setdefault(key, []).append(copy.deepcopy(value))

    @rule(values=st.dictionaries(KEYS, VALUES, max_size=3))
    def update(self, values: dict[str, Any]) -> None:
        self.wrote()
        self.state.update(values)
        self.model |= copy.deepcopy(values)

    @rule(key=KEYS, value=VALUES, max_records=st.none() | st.integers(1, 4), target=items)
    def push(self, key: str, value: Any, max_records: int | None) -> Any:
        self.wrote()
        value = copy.deepcopy(value)
        twin = copy.deepcopy(value)
        before = self.model.get(key, [])
        if not isinstance(before, list):
            with contextlib.suppress(StateTypeError):
                self.state.push(key, value, max_records)
            return None
        self.state.push(key, value, max_records)
        self.model[key] = [*before, twin]
        if max_records:
            del self.model[key][:-max_records]
        return (key, value, twin, self.thread)

    @rule(pushed=consumes(items), value=VALUES, how=st.integers(0, 5))
    def mutate_pushed(self, pushed: Any, value: Any, how: int) -> None:
        """Change an item after its push, before or after the push was saved."""
        if pushed is None:
            return
        key, item, twin, thread = pushed
        if thread is not self.thread or not isinstance(item, dict | list):
            return
        in_list = self.model.get(key)
        if not isinstance(in_list, list) or not any(part is twin for part in in_list):
            # It is in the list no more.
            return
        self.wrote()
        mutate(item, how, value)
        mutate(twin, how, copy.deepcopy(value))

    @rule(key=KEYS, which=st.integers(0, 50), how=st.integers(0, 5), value=VALUES)
    def mutate_in_place(self, key: str, which: int, how: int, value: Any) -> None:
        expected = containers(self.model.get(key))
        if not expected:
            return
        self.wrote()
        found = containers(self.state[key])
        # A dictionary's order is part of the encoding: the two must be alike in it too.
        assert found == expected
        which %= len(found)
        mutate(found[which], how, value)
        mutate(expected[which], how, copy.deepcopy(value))
        assert self.state[key] == self.model[key]

    @rule(key=KEYS, values=LISTS)
    def extend(self, key: str, values: list[Any]) -> None:
        if isinstance(self.model.get(key), list):
            self.wrote()
            self.state[key].extend(values)
            self.model[key].extend(copy.deepcopy(values))

    @rule(key=KEYS, values=LISTS)
    def add(self, key: str, values: list[Any]) -> None:
        if isinstance(self.model.get(key), list):
            self.wrote()
            self.state[key] += values
            self.model[key] = self.model[key] + copy.deepcopy(values)

    @rule(key=KEYS)
    def revert(self, key: str) -> None:
        """Take the value out and put an equal one back."""
        if key in self.model:
            value = self.state.pop(key)
            self.state[key] = copy.deepcopy(value)
            # The order of keys may change with it.
            self.model[key] = copy.deepcopy(self.model.pop(key))

    @rule()
    def clear(self) -> None:
        self.wrote()
        self.state.clear()
        self.model.clear()

    @rule()
    def iterate(self) -> None:
        assert dict(self.state) == self.model
        assert sorted(self.state) == sorted(self.model)

    @rule()
    def length(self) -> None:
        assert len(self.state) == len(self.model)

    @rule(key=KEYS)
    def contains(self, key: str) -> None:
        assert (key in self.state) == (key in self.model)

    @rule()
    def look_at_dirty(self) -> None:
        if self.model != self.saved:
            assert self.state.dirty
        if self.only_read:
            assert not self.state.dirty

    @rule()
    def save(self) -> None:
        self.thread.save()
        self.saved = copy.deepcopy(self.model)
        self.only_read = True
        assert not self.state.dirty
        assert dict(begin(self.store).state) == self.model

    @rule(save=st.booleans())
    def next_request(self, save: bool) -> None:
        if save:
            self.save()
        self.thread = begin(self.store)
        self.model = copy.deepcopy(self.saved)
        self.only_read = True

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.save()
            self.store.close()


class MemoryMachine(StateMachine):
    def make_store(self) -> ThreadStore:
        self.recording = RecordingStore()
        return self.recording

    @precondition(lambda self: self.only_read)
    @rule()
    def save_what_was_only_read(self) -> None:
        before = len(self.recording.merges)
        self.thread.save()
        assert len(self.recording.merges) == before


class NamesOnlyMachine(MemoryMachine):
    def make_store(self) -> ThreadStore:
        self.recording = RecordingStore(names_only=True)
        return self.recording


class SQLiteMachine(StateMachine):
    def make_store(self) -> ThreadStore:
        self._folder = TemporaryDirectory()
        return SQLiteStore(Path(self._folder.name) / "threads.db")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "_folder"):
            self._folder.cleanup()


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(MemoryMachine, 100), (NamesOnlyMachine, 100), (SQLiteMachine, 40)],
)
def test_a_state_is_what_a_dictionary_would_be(
    machine: type[StateMachine], examples: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "flask_agentuity")
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ----------------------------------------------------------- several requests at one time


class RequestsAtOnce(RuleBasedStateMachine):
    """Three requests on one thread, in any order; each says in its values who wrote them."""

    requests = st.sampled_from([0, 1, 2])
    lists = st.sampled_from(["messages", "seeded"])
    keys = st.sampled_from(["a", "b"])

    @initialize(names_only=st.booleans())
    def start(self, names_only: bool) -> None:
        self.store = RecordingStore(names_only=names_only)
        put(self.store, {"seeded": ["seed"]})
        self.threads = [begin(self.store) for _ in range(3)]
        self.waiting: list[dict[str, list[str]]] = [{}, {}, {}]
        self.written: list[dict[str, str]] = [{}, {}, {}]
        # What was looked at is edited from then on; test_edits.py tests what becomes of that.
        self.looked_at: list[set[str]] = [set(), set(), set()]
        self.appended: dict[str, list[str]] = {"messages": [], "seeded": ["seed"]}
        self.values: dict[str, str] = {}
        self.count = 0

    def token(self, request: int) -> str:
        self.count += 1
        return f"{request}-{self.count}"

    def note(self, request: int, key: str) -> str:
        token = self.token(request)
        self.waiting[request].setdefault(key, []).append(token)
        return token

    @rule(request=requests, key=lists)
    def push(self, request: int, key: str) -> None:
        self.threads[request].state.push(key, self.note(request, key))

    @rule(request=requests, key=lists)
    def append(self, request: int, key: str) -> None:
        self.threads[request].state.setdefault(key, []).append(self.note(request, key))

    @rule(request=requests)
    def assign_a_longer_list(self, request: int) -> None:
        state = self.threads[request].state
        state["seeded"] = [*state["seeded"], self.note(request, "seeded")]

    @rule(request=requests)
    def add_in_place(self, request: int) -> None:
        self.threads[request].state["seeded"] += [
            self.note(request, "seeded"),
            self.note(request, "seeded"),
        ]

    @rule(request=requests, key=lists)
    def read(self, request: int, key: str) -> None:
        found = self.threads[request].state.get(key, [])
        mine = self.waiting[request].get(key, [])
        assert found[len(found) - len(mine) :] == mine

    @rule(request=requests)
    def read_all(self, request: int) -> None:
        self.looked_at[request] |= dict(self.threads[request].state).keys()

    @rule(request=requests, key=keys)
    def write(self, request: int, key: str) -> None:
        if key in self.looked_at[request]:
            return
        self.written[request][key] = self.threads[request].state[key] = self.token(request)

    @rule(request=requests, key=keys)
    def read_a_value(self, request: int, key: str) -> None:
        found = self.threads[request].state.get(key)
        self.looked_at[request].add(key)
        if key in self.written[request]:
            assert found == self.written[request][key]

    @rule(request=requests)
    def fill_in(self, request: int) -> None:
        self.threads[request].state.setdefault("messages", [])

    @rule(request=requests)
    def save(self, request: int) -> None:
        self.threads[request].save()
        for key, tokens in self.waiting[request].items():
            self.appended[key].extend(tokens)
        self.values |= self.written[request]
        self.looked_at[request] |= self.written[request].keys()
        self.waiting[request].clear()
        self.written[request].clear()
        now = stored(self.store)
        assert now.get("messages", []) == self.appended["messages"]
        assert now["seeded"] == self.appended["seeded"]
        assert {key: now[key] for key in ("a", "b") if key in now} == self.values

    @rule(request=requests)
    def end(self, request: int) -> None:
        self.save(request)
        self.threads[request] = begin(self.store)
        self.looked_at[request].clear()

    @rule(request=requests)
    def fail(self, request: int) -> None:
        """A request that raises is not saved."""
        self.threads[request] = begin(self.store)
        self.looked_at[request].clear()
        self.waiting[request].clear()
        self.written[request].clear()

    def teardown(self) -> None:
        if hasattr(self, "threads"):
            for request in range(3):
                self.save(request)


def test_no_append_of_requests_at_once_is_lost_or_doubled() -> None:
    run_state_machine_as_test(
        RequestsAtOnce, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
    )


@pytest.mark.parametrize("names_only", [False, True])
def test_two_first_requests_that_fill_in_a_default_and_append_both_survive(
    names_only: bool,
) -> None:
    store = RecordingStore(names_only=names_only)
    first, second = begin(store), begin(store)
    first.state.setdefault("messages", []).append("one")
    second.state.setdefault("messages", []).append("two")
    first.save()
    second.save()
    assert stored(store) == {"messages": ["one", "two"]}


@pytest.mark.parametrize("default", [[], ["hello"], {}, None])
def test_a_default_that_was_only_filled_in_replaces_nothing(default: Any) -> None:
    store = RecordingStore()
    asking, writing = begin(store), begin(store)
    asking.state.setdefault("messages", default)
    writing.state.push("messages", "kept")
    writing.save()
    asking.save()
    assert stored(store) == {"messages": ["kept"]}


def test_a_default_that_was_filled_in_is_stored_where_nothing_is() -> None:
    store = RecordingStore()
    thread = begin(store)
    for key, default in {"list": [], "object": {}, "items": [1], "null": None}.items():
        thread.state.setdefault(key, default)
    thread.save()
    assert stored(store) == {"list": [], "object": {}, "items": [1], "null": None}


def test_a_default_after_a_delete_replaces_what_was_there() -> None:
    store = RecordingStore()
    put(store, {"messages": [1]})
    thread = begin(store)
    del thread.state["messages"]
    thread.state.setdefault("messages", [2])
    thread.save()
    assert stored(store) == {"messages": [2]}


def test_a_request_that_only_reads_a_key_leaves_it_to_the_others() -> None:
    store = RecordingStore()
    put(store, {"a": {"n": 1}, "messages": [1]})
    reading, writing = begin(store), begin(store)
    assert dict(reading.state) == {"a": {"n": 1}, "messages": [1]}
    writing.state["a"] = {"n": 2}
    writing.state.push("messages", 2)
    writing.save()
    reading.state["b"] = 3
    reading.save()
    assert stored(store) == {"a": {"n": 2}, "messages": [1, 2], "b": 3}


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


def test_reading_twice_reads_the_store_once_also_from_two_threads() -> None:
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

    store.read = read  # type: ignore[method-assign]
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
        assert thread.state["value"] == orjson.loads(spelled)
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


# ----------------------------------------------------------------- what JSON cannot hold


class Colour(enum.Enum):
    RED = "red"


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> Any:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


BAD: list[tuple[Any, str]] = [
    (float("nan"), ""),
    (float("inf"), ""),
    (float("-inf"), ""),
    ({1, 2}, ""),
    (datetime.datetime(2026, 1, 1), ""),
    (datetime.date(2026, 1, 1), ""),
    (uuid.UUID(int=1), ""),
    (Colour.RED, ""),
    (b"bytes", ""),
    (object(), ""),
    (2**64, ""),
    (-(2**63) - 1, ""),
    ("\ud83d", ""),
    ({"\ud83d": 1}, '["\\ud83d"]'),
    ({5: 1, "5": 2}, "[5]"),
    ({None: 1}, "[None]"),
    ({"deep": [0, {"x": float("nan")}]}, ".deep[1].x"),
    ([None, {"two words": {1}}], '[1]["two words"]'),
    (deep(300), "[0]"),
    (cycle(), ".list[0]"),
]


@pytest.mark.parametrize(("value", "where"), BAD, ids=range(len(BAD)))
def test_what_json_cannot_hold_is_refused_with_its_path(value: Any, where: str) -> None:
    where = where.replace('"\\ud83d"', repr("\ud83d"))
    store = RecordingStore()
    put(store, {"a": [1], "box": {}})
    thread = begin(store)

    def refused(path: str, act: Callable[[], object]) -> None:
        with pytest.raises(StateNotSerializable) as caught:
            act()
        assert caught.value.path.startswith(path + where), caught.value.path
        assert path in str(caught.value)

    refused('state["a"]', lambda: thread.state.__setitem__("a", value))
    refused('state["new"]', lambda: thread.state.setdefault("new", value))
    refused('state["a"][-1]', lambda: thread.state.push("a", value))
    refused('state["b"]', lambda: thread.state.update(b=value))
    assert not thread.dirty
    # Hidden where it is not seen before the save.
    thread.state["a"].append(value)
    refused('state["a"][1]', thread.save)
    thread.state["a"].pop()
    thread.state["box"]["in"] = value
    refused('state["box"].in', thread.save)
    del thread.state["box"]["in"]
    kept: list[Any] = []
    thread.state.push("unread", kept)
    kept.append(value)
    refused('state["unread"][-1][0]', thread.save)
    kept.pop()
    thread.save()
    assert stored(store) == {"a": [1], "box": {}, "unread": [[]]}


@pytest.mark.parametrize("key", [5, None, 1.5, ("a",), b"a", "\ud83d"])
def test_keys_that_are_no_text_are_refused_where_they_would_be_written(key: Any) -> None:
    thread = begin(RecordingStore())
    for write in (
        lambda: thread.state.__setitem__(key, 1),
        lambda: thread.state.push(key, 1),
        lambda: thread.state.setdefault(key, 1),
        lambda: thread.state.update({key: 1}),
    ):
        with pytest.raises(StateNotSerializable) as caught:
            write()
        assert repr(key) in caught.value.path
    assert key not in thread.state
    assert thread.state.get(key) is None
    with pytest.raises(KeyError):
        del thread.state[key]
    assert not thread.dirty


@pytest.mark.parametrize("how", ["push", "setdefault", "assign"])
def test_a_list_that_is_emptied_again_stays(any_store: RecordingStore, how: str) -> None:
    thread = begin(any_store)
    state = thread.state
    if how == "push":
        state.push("a", 1)
    elif how == "setdefault":
        state.setdefault("a", []).append(1)
    else:
        state["a"] = [1]
    state["a"].pop()
    assert state == {"a": []}
    thread.save()
    assert stored(any_store) == {"a": []}
    # And it takes away nothing that another request has put there meanwhile.
    put(any_store, {"a": [2]})
    if how != "assign":
        empty = RecordingStore()
        other = begin(empty)
        other.state.push("a", 1)
        other.state["a"].pop()
        other.save()
        assert empty.sent == [Set("a", b"[]", only_if_missing=True)]


class StoreThatKnows(RecordingStore):
    """Says which values hold no null, as the stores with files and servers do."""

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        snapshot = super().read(thread_id, keys)
        if snapshot:
            encoded = snapshot.encoded.items()
            snapshot.without_null = {key for key, value in encoded if b"null" not in (value or b"")}
        return snapshot


@pytest.fixture(params=[RecordingStore, StoreThatKnows])
def any_store(request: pytest.FixtureRequest) -> RecordingStore:
    store: RecordingStore = request.param()
    return store


def test_a_null_that_was_stored_may_stay_and_nan_may_not_take_its_place(
    any_store: RecordingStore,
) -> None:
    put(any_store, {"a": [None]})
    thread = begin(any_store)
    thread.state["a"].append(None)
    thread.save()
    assert stored(any_store) == {"a": [None, None]}
    thread.state["a"][0] = float("nan")
    with pytest.raises(StateNotSerializable):
        thread.save()


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("how", ["append", "push", "assign", "setdefault", "replace"])
def test_nan_may_not_take_the_place_of_a_null_that_is_new(
    any_store: RecordingStore, how: str, saved: bool
) -> None:
    """The store knew of no null, and there is one now."""
    put(any_store, {"a": [1, 2]})
    thread = begin(any_store)
    state = thread.state
    if how == "setdefault":
        assert state["a"] == [1, 2]
        del state["a"]
        state.setdefault("a", [None])
    elif how == "assign":
        state["a"] = [None]
    elif how == "push":
        assert state["a"] == [1, 2]
        state.push("a", None)
    elif how == "append":
        state["a"].append(None)
    else:
        state["a"][-1] = None
    if saved:
        thread.save()
        assert stored(any_store)["a"][-1] is None
    state["a"][-1] = float("nan")
    with pytest.raises(StateNotSerializable):
        thread.save()


def test_tuples_and_dictionaries_of_other_kinds_come_back_plain() -> None:
    store = RecordingStore()
    thread = begin(store)
    thread.state["a"] = (1, (2, collections.defaultdict(list, x=[])))
    thread.state.push("a", 3)
    thread.save()
    assert stored(store) == {"a": [1, [2, {"x": []}], 3]}


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
