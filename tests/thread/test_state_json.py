from __future__ import annotations

import collections
import datetime
import enum
import uuid
from collections.abc import Callable, Collection
from typing import Any

import pytest
from support.recording import RecordingStore, begin, put, stored

from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StateNotSerializable

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
    ({5: 1, "5": 2}, "[5]"),
    ({None: 1}, "[None]"),
    ({"deep": [0, {"x": float("nan")}]}, ".deep[1].x"),
    ([None, {"two words": {1}}], '[1]["two words"]'),
    (deep(300), "[0]"),
    (cycle(), ".list[0]"),
]


@pytest.mark.parametrize(("value", "where"), BAD, ids=range(len(BAD)))
def test_what_json_cannot_hold_is_refused_with_its_path(value: Any, where: str) -> None:
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


@pytest.mark.parametrize("key", [5, None, 1.5, ("a",), b"a"])
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
