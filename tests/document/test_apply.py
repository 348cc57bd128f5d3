from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations, find_operations
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set

text = st.text(max_size=4)
keys = st.sampled_from(["a", "b", "messages", "", "__proto__", 'é"\n\0😀']) | text
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.just(1.5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=3),
    max_leaves=8,
)
encoded = values.map(codec.encode)
states = st.dictionaries(keys, encoded, max_size=5)
changes = st.lists(
    st.builds(Set, keys, encoded, st.booleans())
    | st.builds(Delete, keys)
    | st.just(Clear())
    | st.builds(Push, keys, values.map(codec.encode_item), st.none() | st.integers(0, 4)),
    max_size=10,
)


@st.composite
def grown(draw: st.DrawFn) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two states, of which the second has lists of the first with more at their ends."""
    before = draw(states)
    after = dict(before)
    for key, value in before.items():
        if codec.is_list(value) and draw(st.booleans()):
            after[key] = codec.encode(codec.decode(value) + draw(st.lists(values, max_size=3)))
    return before, {**after, **draw(states)}


def plainly(
    state: dict[str, bytes], operations: list[Operation]
) -> tuple[dict[str, Any], list[Push]]:
    """Apply *operations* one by one on decoded values: a second, simple-minded opinion."""
    plain = {key: codec.decode(value) for key, value in state.items()}
    skipped = []
    for operation in operations:
        match operation:
            case Set(key, value, only_if_missing):
                if not (only_if_missing and key in plain):
                    plain[key] = codec.decode(value)
            case Delete(key):
                plain.pop(key, None)
            case Clear():
                plain.clear()
            case Push(key, value, max_records):
                items = plain.setdefault(key, [])
                if not isinstance(items, list):
                    skipped.append(operation)
                    continue
                items.append(codec.decode(value))
                if max_records is not None:
                    del items[: max(0, len(items) - max_records)]
    return plain, skipped


@given(states, changes)
def test_apply_does_what_one_would_do_by_hand(
    state: dict[str, bytes], made: list[Operation]
) -> None:
    expected, skipped = plainly(state, made)
    assert apply_operations(state, made).skipped == skipped
    decoded = {key: codec.decode(value) for key, value in state.items()}
    assert decoded == expected
    assert list(decoded) == list(expected)
    assert all(codec.encode(decoded[key]) == value for key, value in state.items())


@given(states, changes, st.integers(0, 10))
def test_apply_may_be_cut_anywhere(
    state: dict[str, bytes], made: list[Operation], cut: int
) -> None:
    whole, parts = dict(state), dict(state)
    skipped = apply_operations(whole, made).skipped
    first, second = apply_operations(parts, made[:cut]), apply_operations(parts, made[cut:])
    assert first.skipped + second.skipped == skipped
    assert list(parts.items()) == list(whole.items())


@given(states, states)
def test_find_and_apply_are_inverse(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    state = dict(before)
    assert apply_operations(state, find_operations(before, after)).skipped == []
    assert state == after


@given(grown())
def test_find_and_apply_are_inverse_where_lists_grow(
    pair: tuple[dict[str, bytes], dict[str, bytes]],
) -> None:
    before, after = pair
    found = find_operations(before, after)
    state = dict(before)
    assert apply_operations(state, found).skipped == []
    assert state == after


@given(states)
def test_nothing_is_found_where_nothing_changed(state: dict[str, bytes]) -> None:
    assert find_operations(state, dict(state)) == []


@given(states, keys, st.lists(values, min_size=1, max_size=4), st.lists(values, max_size=4))
def test_an_append_is_pushes(
    state: dict[str, bytes], key: str, more: list[Any], stored: list[Any]
) -> None:
    before = {**state, key: codec.encode(stored)}
    after = {**before, key: codec.encode(stored + more)}
    assert find_operations(before, after) == [Push(key, codec.encode(item)) for item in more]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {"l": b"[1]"}, [Set("l", b"[1]")]),
        ({"l": b"[1]"}, {"l": b"[]"}, [Set("l", b"[]")]),
        ({"l": b"[1]"}, {"l": b"[12]"}, [Set("l", b"[12]")]),
        ({"l": b"[]"}, {"l": b"[1]"}, [Push("l", b"1")]),
        ({"l": b"[1]"}, {"l": b'[1,"a",[2]]'}, [Push("l", b'"a"'), Push("l", b"[2]")]),
        ({"l": b"1"}, {"l": b"[1]"}, [Set("l", b"[1]")]),
        ({"l": b"[1]"}, {"l": b'"["'}, [Set("l", b'"["')]),
        ({"a": b"1", "b": b"2"}, {}, [Delete("a"), Delete("b")]),
        ({"a": b"1"}, {"a": b"1.0"}, [Set("a", b"1.0")]),
    ],
)
def test_find(before: dict[str, bytes], after: dict[str, bytes], found: list[Operation]) -> None:
    assert find_operations(before, after) == found


@given(states, changes, st.integers(0, 5))
def test_what_another_request_added_survives(
    state: dict[str, bytes], theirs: list[Operation], count: int
) -> None:
    """Pushes and keys of two requests that started from one state are all there."""
    ours = {**state, "messages": b"[]"}
    mine = {**ours, "mine": b"1", "messages": codec.encode(list(range(count)))}
    theirs = [Push("messages", b"-1"), Set("yours", b"2")]
    apply_operations(ours, theirs)
    apply_operations(ours, find_operations({**state, "messages": b"[]"}, mine))
    assert codec.decode(ours["messages"]) == [-1, *range(count)]
    assert (ours["mine"], ours["yours"]) == (b"1", b"2")


def test_many_pushes_join_their_list_once() -> None:
    state = {"l": codec.encode(["x" * 100] * 10_000)}
    made: list[Operation] = [Push("l", b"%d" % number) for number in range(50_000)]
    assert apply_operations(state, made).skipped == []
    assert codec.decode(state["l"])[10_000:] == list(range(50_000))
