"""Which view a full save is based on, and what it has changed of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import (
    Delete,
    Edit,
    EditMetadata,
    Operation,
    Push,
)
from flask_agentuity.service.full_saves import choose_view, find_changes
from flask_agentuity.service.javascript import align
from flask_agentuity.service.views import View

from .runtime import spelled


def encoded(state: dict[str, Any]) -> dict[str, bytes]:
    return {key: codec.encode(value) for key, value in state.items()}


def view(state: dict[str, Any], *, saved: bool = False, metadata: bytes = b"{}") -> View:
    return View(encoded(state), metadata, 7, 0.0, saved)


def chosen(
    views: list[dict[str, Any]], state: dict[str, Any], metadata: bytes | None = None
) -> dict[str, Any] | None:
    """Return the state of the view that is chosen, the latest being the last."""
    made = [view(each) for each in views]
    found = choose_view(made, encoded(state), metadata)
    return None if found is None else views[made.index(found)]


A, B, C = ({"role": "user", "content": text} for text in "abc")


def test_without_a_view_there_is_none() -> None:
    assert choose_view([], {"a": b"1"}, None) is None


@pytest.mark.parametrize(
    ("views", "state", "expected"),
    [
        # One after another: the latest.
        ([[], [A]], [A, B], [A]),
        ([[A], [A, B]], [A, B, C], [A, B]),
        # Several under way: what one has not seen was not removed by it.
        ([[A], [A, B]], [A, C], [A]),
        ([[], [A], [A, B]], [C], []),
        # Read by another request before; this one has seen more, and removes some of it.
        ([[], [A, B]], [A, C], [A, B]),
        ([[A], [A, B, C]], [A, B], [A, B, C]),
        # It leaves exactly what was there before: the runtime saves what has changed.
        ([[A], [A, B]], [A], [A, B]),
        ([[], [A, B]], [], [A, B]),
        # Removed by others in between: not added again.
        ([[A, B], [B]], [A, B, C], [A, B]),
        # A window: the first one goes, another one comes.
        ([[A], [A, B]], [B, C], [A, B]),
    ],
)
def test_the_view_of_a_list(views: list[Any], state: list[Any], expected: list[Any]) -> None:
    assert chosen([{"l": each} for each in views], {"l": state}) == {"l": expected}


@pytest.mark.parametrize(
    ("views", "state", "expected"),
    [
        # A counter is no reason to take what was not seen for removed.
        ([{"n": 1, "l": [A]}, {"n": 2, "l": [A, B]}], {"n": 2, "l": [A]}, 0),
        ([{"l": [A]}, {"n": 1, "l": [A, B]}], {"n": 1, "l": [A]}, 0),
        # The view of which the fewest values were changed.
        ([{"n": 1, "name": "x"}, {"n": 2, "name": "y"}], {"n": 3, "name": "x"}, 0),
        ([{"n": 1, "name": "x"}, {"n": 2, "name": "y"}], {"n": 3, "name": "y"}, 1),
        ([{"n": 1}, {"n": 2}], {"n": 3}, 1),
        # In objects as well.
        ([{"o": {"l": [A]}}, {"o": {"l": [A, B]}}], {"o": {"l": [A, C]}}, 0),
        ([{"o": {"l": []}}, {"o": {"l": [A, B]}}], {"o": {"l": [A, C]}}, 1),
        ([{"o": {}}, {"o": {"l": [A]}}], {"o": {"l": [C]}}, 0),
        # Items with ids that have changed are the same items.
        (
            [{"l": []}, {"l": [{"id": 1, "c": ""}]}],
            {"l": [{"id": 1, "c": "x"}]},
            1,
        ),
        # Other keys, and a list instead of something else.
        ([{"a": [A]}, {"b": [B]}], {"a": [A, C]}, 0),
        ([{"a": 1}, {"a": [A]}], {"a": [A, B]}, 1),
        # JavaScript has spelled 2.0 in another way; that is no change.
        ([{"n": 2.0, "l": [1.0]}, {"n": 5, "l": [1.0, 7]}], {"n": 2, "l": [1, 3]}, 0),
    ],
)
def test_the_view_of_a_state(
    views: list[dict[str, Any]], state: dict[str, Any], expected: int
) -> None:
    assert chosen(views, state) == views[expected]


def test_only_the_metadata_has_changed() -> None:
    views = [{"l": [A]}, {"l": [A, B]}]
    assert chosen(views, views[0], b'{"m":1}') == views[0]
    assert chosen(views, views[1], b'{"m":1}') == views[1]


def test_a_save_that_is_repeated_is_based_on_itself() -> None:
    read, saved = view({"l": []}), view({"l": [A]}, saved=True)
    assert choose_view([read, saved], encoded({"l": [A]}), None) is saved
    assert choose_view([read, saved], encoded({"l": [A, B]}), None) is saved
    assert choose_view([read, saved], encoded({"l": [B]}), None) is read


def test_what_was_deleted_is_not_the_base_of_what_begins_again() -> None:
    old, nothing = view({"tools": ["x", "y"], "l": [A]}), view({})
    new = encoded({"tools": ["x", "y"], "l": [B]})
    assert choose_view([old, nothing], new, None) is nothing
    # It has all that the thread had, and so comes from a request that had seen it.
    late = encoded({"tools": ["x", "y"], "l": [A, B]})
    assert choose_view([old, nothing], late, None) is old


# What has changed


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    return find_changes(view(before), encoded(after), None)


def test_what_a_save_has_changed() -> None:
    before = {"same": {"a": [1.0]}, "gone": 1, "l": [A], "n": 1, "o": {"a": 1}, "edited": [A, B, C]}
    after = {
        "same": {"a": [1]},
        "l": [A, B],
        "n": 2,
        "o": {"a": 1, "b": 2},
        "edited": [A, C],
        "new": 5,
    }
    gone, push, number, part, edited, new = changes(before, after)
    assert gone == Delete("gone")
    assert push == Push("l", codec.encode(B))
    assert number == Edit("n", b"1", b"2", since=7)
    assert part == Edit("o", b'{"a":1}', b'{"a":1,"b":2}', since=7)
    assert isinstance(edited, Edit)
    assert (edited.key, edited.since) == ("edited", 7)
    assert edited.changes is not None and len(edited.changes) == 1
    assert new == Edit("new", None, b"5", since=7)


def test_an_empty_save_removes_what_was_seen() -> None:
    assert find_changes(view({"a": 1, "l": [A]}), {}, None) == [Delete("a"), Delete("l")]


def test_metadata_is_edited() -> None:
    base = view({}, metadata=b'{"a":1.0,"b":2}')
    assert find_changes(base, {}, None) == []
    assert find_changes(base, {}, b'{"b":2,"a":1}') == []
    assert find_changes(base, {}, b'{"b":3,"a":1}') == [
        EditMetadata(b'{"a":1.0,"b":2}', b'{"b":3,"a":1.0}')
    ]


text = st.sampled_from(["a", "b", "10", "9", "é"])
numbers = st.integers(-3, 3) | st.sampled_from([0.0, 1.0, -2.0, 1e20, 2**53, 1.5])
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=3),
    max_leaves=8,
)
states = st.dictionaries(text, values, max_size=4)


@settings(deadline=None)
@given(states)
def test_what_javascript_only_reads_and_writes_has_not_changed(state: dict[str, Any]) -> None:
    returned = codec.decode(json.dumps(spelled(state)))
    assert align(state, returned) is state
    assert find_changes(view(state), encoded(returned), None) == []


@settings(deadline=None)
@given(states, states)
def test_the_changes_turn_the_view_into_what_was_saved(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    after = codec.decode(json.dumps(spelled(after)))
    state = encoded(before)
    applied = apply_operations(state, find_changes(view(before), encoded(after), None))
    assert not applied.conflicts
    result = {key: codec.decode(value) for key, value in state.items()}
    assert json.dumps(spelled(result), sort_keys=True) == json.dumps(spelled(after), sort_keys=True)


@settings(deadline=None)
@given(states, states)
def test_a_changed_value_keeps_its_type(before: dict[str, Any], after: dict[str, Any]) -> None:
    aligned = align(before, after)
    assert align(after, aligned) is after
    # Objects with the same members are the same, in whatever order.
    spelled_after = json.dumps(spelled(after), sort_keys=True)
    assert json.dumps(spelled(aligned), sort_keys=True) == spelled_after
