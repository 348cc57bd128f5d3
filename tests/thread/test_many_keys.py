"""A state with many keys has entries only for those that are changed, which does not show."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.recording import THREAD_ID, RecordingStore, begin

from flask_agentuity import Thread
from flask_agentuity.document import codec, packed
from flask_agentuity.document.operations import Edit, Operation, Replace, Set, Splice
from flask_agentuity.errors import AgentuityError, StoreError
from flask_agentuity.thread.contents import forget_unseen

STATE: dict[str, Any] = {
    "one": 1,
    "no": None,
    "yes": True,
    "text": "text",
    "long": "long " * 300,
    "list": [1, {"a": 1}],
    "nulls": [None],
    "empty": [],
    "object": {"a": [1]},
    "ключ": "😀",
}
KEYS = st.sampled_from([*STATE, "new", "newer", "a\ud800"])
VALUES = st.sampled_from([2, "text", None, [], [1], {"a": 1}, 1.5])


def mutate(state: Any, key: str, value: Any) -> None:
    found = state.get(key)
    if isinstance(found, list):
        found.append(value)
    elif isinstance(found, dict):
        found["new"] = value


def replace_first(state: Any, key: str, value: Any) -> None:
    if isinstance(found := state.get(key), list) and found:
        found[0] = value


def reassign(state: Any, key: str, value: Any) -> None:
    state[key] = state[key]


def delete(state: Any, key: str, value: Any) -> None:
    del state[key]


ACTIONS: dict[str, Callable[[Any, str, Any], Any]] = {
    "get": lambda state, key, value: copy.deepcopy(state.get(key)),
    "ask": lambda state, key, value: key in state,
    "assign": lambda state, key, value: state.__setitem__(key, copy.deepcopy(value)),
    "reassign": reassign,
    "delete": delete,
    "pop": lambda state, key, value: state.pop(key),
    "setdefault": lambda state, key, value: state.setdefault(key, copy.deepcopy(value)),
    "mutate": mutate,
    "put NaN": lambda state, key, value: replace_first(state, key, float("nan")),
    "push": lambda state, key, value: state.push(key, value),
    "push to few": lambda state, key, value: state.push(key, value, 2),
    "increment": lambda state, key, value: state.increment(key),
    "truncate": lambda state, key, value: state.truncate(key, 1),
    "pop_last": lambda state, key, value: state.pop_last(key),
    "change": lambda state, key, value: state.change(key, lambda before: [before]),
    "names": lambda state, key, value: list(state),
    "length": lambda state, key, value: len(state),
    "copy": lambda state, key, value: state.copy(),
    "dirty": lambda state, key, value: state.dirty,
    "clear": lambda state, key, value: state.clear(),
}
OTHERS = ["save", "refresh", "forget", "size", "serialize", "set by another", "fail"]
Step = tuple[str, str, Any]
STEPS = st.lists(st.tuples(st.sampled_from([*sorted(ACTIONS), *OTHERS]), KEYS, VALUES), max_size=12)


def take(thread: Thread, store: RecordingStore, step: Step) -> Any:
    """Do one thing with a thread, and return what the app finds."""
    name, key, value = step
    match name:
        case "save":
            thread.save()
        case "refresh":
            thread.refresh()
        case "forget":
            return forget_unseen(thread._contents)
        case "size":
            return thread.size
        case "serialize":
            return thread.get_serialized_state()
        case "set by another":
            other = begin(store)
            other.state[key] = copy.deepcopy(value)
            other.save()
        case "fail":
            store.read_errors = [StoreError("It is down.")]
        case _:
            return ACTIONS[name](thread.state, key, value)
    return None


def run(steps: list[Step], many_keys: int, *, names_only: bool, damaged: str | None) -> Any:
    """Return what a request finds, what it sends, and what is stored then."""
    store = RecordingStore(names_only=names_only)
    store.merge(THREAD_ID, [Set(key, codec.encode(STATE[key])) for key in STATE])
    store.forget_calls()
    store.damaged = {damaged} if damaged else set()
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "MANY_KEYS", many_keys)
        thread = begin(store)
        for step in [*steps, ("save", "", None)]:
            try:
                found.append((step[0], take(thread, store, step)))
            except (AgentuityError, LookupError, RuntimeError, TypeError, ValueError) as error:
                found.append((step[0], type(error), str(error)))
    found.append([without_version(one) for operations, _ in store.merges for one in operations])
    found.append(len(store.reads))
    store.damaged, store.read_errors = set(), []
    # A text, because NaN does not equal itself.
    text = repr([*found, store.restore(THREAD_ID)])
    # After a failed read, the order of keys is that in which they were used.
    return sorted(re.findall(r"\w+", text)) if thread.degraded else text


def without_version(operation: Operation) -> Operation:
    if isinstance(operation, Edit):
        return replace(operation, since=0, function=None)
    return replace(operation, since=0) if isinstance(operation, Replace | Splice) else operation


@given(STEPS, st.booleans(), st.none() | KEYS)
@example([("get", "list", 1), ("mutate", "list", 1), ("push", "list", 2)], False, None)
@example([("get", "nulls", 1), ("put NaN", "nulls", 1)], False, None)
@example([("get", "text", 1), ("ask", "one", 1), ("assign", "one", 2)], False, None)
@example([("get", "one", 1), ("forget", "", 1), ("assign", "one", 2)], False, None)
@example([("get", "one", 1), ("names", "", 1), ("get", "list", 1)], True, "list")
@example(
    [("delete", "text", 1), ("delete", "one", 1), ("assign", "text", 1), ("names", "", 1)],
    True,
    None,
)
def test_a_request_finds_and_sends_the_same(
    steps: list[Step], names_only: bool, damaged: str | None
) -> None:
    with_entries = run(steps, 100, names_only=names_only, damaged=damaged)
    assert run(steps, 0, names_only=names_only, damaged=damaged) == with_entries
