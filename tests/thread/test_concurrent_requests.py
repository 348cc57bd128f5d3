from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.recording import RecordingStore, begin, put, stored

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
    defaults: dict[str, Any] = {"list": [], "object": {}, "items": [1], "null": None}
    for key, default in defaults.items():
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
