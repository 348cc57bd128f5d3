from __future__ import annotations

import contextlib
import copy
import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
from support.recording import THREAD_ID, RecordingStore, begin

from flask_agentuity import ThreadState
from flask_agentuity.document import packed
from flask_agentuity.errors import StateTypeError
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
    ("machine", "examples", "many_keys"),
    [
        (MemoryMachine, 100, packed.MANY_KEYS),
        (NamesOnlyMachine, 100, packed.MANY_KEYS),
        (SQLiteMachine, 40, packed.MANY_KEYS),
        (NamesOnlyMachine, 40, 0),
        (SQLiteMachine, 20, 0),
    ],
)
def test_a_state_is_what_a_dictionary_would_be(
    machine: type[StateMachine],
    examples: int,
    many_keys: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed, "MANY_KEYS", many_keys)
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
