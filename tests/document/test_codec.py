from __future__ import annotations

import copy
import enum
import json
import math
import pickle
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.well_formed import well_formed
from flask_agentuity.errors import StateNotSerializable, StateTooLarge, StoreError

THREAD = "thrd_0123456789abcdef0123456789abcdef"

any_text = st.text(st.characters(exclude_categories=[]), max_size=6)
text = st.text(max_size=6)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    leaves,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=4),
    max_leaves=12,
)
states = st.dictionaries(text, values.map(codec.encode), max_size=5)


class Colour(enum.IntEnum):
    RED = 1


@dataclass
class Point:
    x: int


class Text(str):
    pass


#: Anything that an app might put into a state, of which JSON holds a part only.
anything = st.recursive(
    leaves
    | st.integers()
    | st.floats()
    | any_text
    | st.binary(max_size=2)
    | st.sampled_from([Colour.RED, Point(1), Decimal("1"), datetime(2030, 1, 1), object, {1}]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(any_text | st.integers() | st.none(), children, max_size=3)
    ),
    max_leaves=8,
)


def as_lists(value: Any) -> Any:
    """Return *value* as it comes back: with lists for tuples, and with well-formed texts."""
    if isinstance(value, list | tuple):
        return [as_lists(item) for item in value]
    if isinstance(value, dict):
        return {as_lists(key): as_lists(item) for key, item in value.items()}
    return well_formed(value) if isinstance(value, str) else value


def is_json(value: Any) -> bool:
    """Whether JSON in UTF-8 holds *value*: written apart from the code that is tested."""
    match value:
        case None | bool():
            return True
        case int():
            return -(2**63) <= value < 2**64 and not isinstance(value, enum.Enum)
        case float():
            return math.isfinite(value)
        case str():
            return True
        case list() | tuple():
            return all(map(is_json, value))
        case dict():
            return all(type(key) is str and is_json(key) for key in value) and all(
                map(is_json, value.values())
            )
    return False


def nested(depth: int, kind: type = list) -> Any:
    value: Any = [] if kind is list else {}
    for _ in range(depth - 1):
        value = [value] if kind is list else {"k": value}
    return value


@given(values)
def test_what_is_encoded_comes_back(value: Any) -> None:
    encoded = codec.encode(value)
    assert codec.decode(encoded) == json.loads(encoded) == value
    assert b"\n" not in encoded
    assert codec.is_list(encoded) is isinstance(value, list)


@given(anything)
def test_encode_refuses_exactly_what_does_not_come_back(value: Any) -> None:
    try:
        encoded = codec.encode(value)
    except StateNotSerializable as error:
        assert not is_json(value)
        assert error.path.startswith("state")
    else:
        # An enum's member that equals its number may be either; it is checked below.
        assert codec.decode(encoded) == as_lists(value)
        assert is_json(value) or "Colour" in repr(value)
    try:
        item = codec.encode_item(value)
    except StateNotSerializable as error:
        assert not is_json(value)
        assert error.path.startswith("state[-1]")
    else:
        assert codec.decode(item) == as_lists(value)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (float("nan"), "state", "JSON has no value for nan"),
        (float("inf"), "state", "JSON has no value for inf"),
        ([1, -float("inf")], "state[1]", "JSON has no value for -inf"),
        (2**64, "state", "beyond 64 bits"),
        (-(2**63) - 1, "state", "beyond 64 bits"),
        ({"a": {5: 1, "5": 2}}, 'state["a"][5]', "must be a string, not int"),
        ({None: 1}, "state[None]", "must be a string, not NoneType"),
        ({"a": [0, 1, 2, {"b": {1}}]}, 'state["a"][3].b', "JSON has no type for set"),
        ({"a": {"not a name": b""}}, 'state["a"]["not a name"]', "JSON has no type for bytes"),
        ({"a": {"": object()}}, 'state["a"][""]', "JSON has no type for object"),
        ({"a": Point(1)}, 'state["a"]', "JSON has no type for Point"),
        ((1, (2, datetime(2030, 1, 1))), "state[1][1]", "JSON has no type for datetime"),
        (uuid4(), "state", "JSON has no type for UUID"),
        (Decimal("1.5"), "state", "JSON has no type for Decimal"),
        ([nested(300)], "state[0][0]", "nests deeper than 254"),
        ({Text("a"): 1}, "state['a']", "must be a string, not Text"),
    ],
)
def test_a_refusal_names_the_place(value: Any, path: str, reason: str) -> None:
    with pytest.raises(StateNotSerializable) as caught:
        codec.encode(value)
    assert caught.value.path.startswith(path)
    assert reason in caught.value.reason
    assert caught.value.path in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_a_refusal_starts_at_the_given_path() -> None:
    path = codec.child_path("state", "messages")
    with pytest.raises(StateNotSerializable) as caught:
        codec.encode_item({"text": {1}}, path)
    assert caught.value.path == 'state["messages"][-1].text'
    with pytest.raises(StateNotSerializable, match=r'metadata\["m"\]'):
        codec.encode({"m": {1}}, "metadata")


def test_the_first_of_several_faults_is_named() -> None:
    with pytest.raises(StateNotSerializable) as caught:
        codec.encode({"a": 1, "b": [{"c": float("nan")}, {1}], "d": object()})
    assert caught.value.path == 'state["b"][0].c'


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("depth", [255, 256, 1_000, 1_024, 1_025, 100_000])
def test_too_deep_is_refused_at_any_depth(kind: type, depth: int) -> None:
    value = nested(depth, kind)
    for encode in (codec.encode, codec.encode_item):
        with pytest.raises(StateNotSerializable) as caught:
            encode(value)
        assert "nests deeper" in caught.value.reason
        assert len(caught.value.path) < 300


def test_the_deepest_is_taken_and_one_level_less_as_an_item() -> None:
    assert codec.decode(codec.encode(nested(254))) == nested(254)
    assert codec.decode(codec.encode_item(nested(253))) == nested(253)
    with pytest.raises(StateNotSerializable):
        codec.encode_item(nested(254))


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StateNotSerializable, match="contains itself"):
        codec.encode({"a": loop})


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_deep_document_is_damage_not_a_crash(opening: str) -> None:
    document = '{"state":{"a":' + opening * 100_000
    with pytest.raises(StoreError, match=THREAD):
        codec.split_document(document, THREAD)


def test_a_document_deeper_than_can_be_written_again_is_damage() -> None:
    for depth in range(250, 300):
        document = '{"a":' + "[" * depth + "]" * depth + "}"
        try:
            snapshot = codec.split_document(document, THREAD)
        except StoreError as error:
            assert THREAD in str(error)
            assert depth > codec.MAX_DEPTH
        else:
            assert snapshot is not None
            assert snapshot.encoded["a"] == b"[" * depth + b"]" * depth


@pytest.mark.parametrize("key", [5, None, b"a", Text("a"), ("a",), 1.5, True])
def test_a_key_is_a_plain_string(key: Any) -> None:
    with pytest.raises(StateNotSerializable, match=type(key).__name__):
        codec.encode_key(key)


@given(any_text)
def test_a_key_is_any_text(key: str) -> None:
    assert json.loads(codec.encode_key(key)) == well_formed(key)


@given(states, st.dictionaries(text, values, max_size=3))
def test_a_document_is_taken_apart_as_it_was_put_together(
    state: dict[str, bytes], metadata: dict[str, Any]
) -> None:
    encoded = codec.encode(metadata)
    document = codec.join_document(state, encoded)
    snapshot = codec.split_document(document, THREAD)
    if snapshot is None:
        assert (state, metadata, document) == ({}, {}, b"")
        return
    assert list(snapshot.encoded.items()) == list(state.items())
    assert snapshot.metadata == encoded
    assert snapshot.decoded == {key: codec.decode(value) for key, value in state.items()}


@given(states, st.dictionaries(text, values, max_size=3))
def test_the_size_is_known_without_the_document(
    state: dict[str, bytes], metadata: dict[str, Any]
) -> None:
    encoded = codec.encode(metadata)
    entries = sum(codec.entry_size(codec.encode_key(key), len(state[key])) for key in state)
    size = codec.document_size(entries, len(encoded))
    assert size == len(codec.join_document(state, encoded))


@given(states, states)
def test_a_flat_state_and_keys_beside_an_envelope_are_kept(
    state: dict[str, bytes], beside: dict[str, bytes]
) -> None:
    for key in ("state", "metadata"):
        state.pop(key, None)
        beside.pop(key, None)
    flat = b"{%b}" % b",".join(codec.encode_key(key) + b":" + state[key] for key in state)
    snapshot = codec.split_document(flat, THREAD)
    assert (snapshot.encoded if snapshot else {}) == state
    envelope = {"state": codec.decode(flat), **{k: codec.decode(beside[k]) for k in beside}}
    snapshot = codec.split_document(codec.encode(envelope), THREAD)
    assert (snapshot.encoded if snapshot else {}) == {**state, **beside}


@pytest.mark.parametrize("nothing", [None, "", b"", "null", "{}", '{"state":{},"metadata":null}'])
def test_nothing_is_none(nothing: str | None) -> None:
    assert codec.split_document(nothing, THREAD) is None


@pytest.mark.parametrize("broken", ["{", "5", "[]", '"x"', "true", b"\xff", b'{"a":"\xff"}'])
def test_damage_names_the_thread(broken: str | bytes) -> None:
    with pytest.raises(StoreError, match=THREAD):
        codec.split_document(broken, THREAD)


@given(st.lists(values, max_size=6), st.lists(values, max_size=6))
def test_an_append_is_seen_and_nothing_else_is(before: list[Any], more: list[Any]) -> None:
    old, new = codec.encode(before), codec.encode(before + more)
    assert codec.appended(old, new) == [codec.encode(item) for item in more]
    found = codec.appended(old, codec.encode(more))
    if found is not None:
        assert before + [codec.decode(item) for item in found] == more
        assert codec.join_list(codec.items_of(old) + found) == codec.encode(more)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"[1]", b"[12]"),
        (b"[1]", b"[1.5]"),
        (b"[1,2]", b"[1]"),
        (b"[]", b"{}"),
        (b"[]", b'"["'),
        (b"[[1]]", b"[[1,2]]"),
        (b"[1]", b"1"),
    ],
)
def test_what_only_looks_like_an_append_is_none(before: bytes, after: bytes) -> None:
    assert codec.appended(before, after) is None


@given(st.lists(values, max_size=6))
def test_a_list_is_its_items(items: list[Any]) -> None:
    encoded = [codec.encode_item(item) for item in items]
    assert codec.join_list(encoded) == codec.encode(items)
    assert codec.items_of(codec.encode(items)) == encoded


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_over_the_limit_is_refused_unless_it_shrinks(size: int, limit: int, before: int) -> None:
    if size <= limit or size < before:
        codec.require_size(size, limit, THREAD, before)
    else:
        with pytest.raises(StateTooLarge) as caught:
            codec.require_size(size, limit, THREAD, before)
        assert (caught.value.size, caught.value.limit) == (size, limit)


def test_errors_survive_pickling() -> None:
    for error in (
        StateTooLarge(1_048_577, 1_048_576, THREAD),
        StateNotSerializable('state["a"]', "JSON has no type for set"),
    ):
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), vars(copied)) == (str(error), vars(error))
        assert str(copy.copy(error)) == str(error)


def test_checking_finds_what_encoding_unchecked_let_pass() -> None:
    value = {"a": [1, float("nan")]}
    encoded = codec.encode_unchecked(value)
    assert encoded == b'{"a":[1,null]}'
    with pytest.raises(StateNotSerializable) as caught:
        codec.check(value, encoded)
    assert caught.value.path == 'state["a"][1]'
    codec.check((1, (2,)), codec.encode_unchecked((1, (2,))))


@given(st.binary(max_size=12), st.binary(max_size=12), st.binary(max_size=12))
def test_common_ends(start: bytes, middle: bytes, end: bytes) -> None:
    first, second = start + middle + end, start + end
    prefix = codec.common_prefix(first, second)
    assert first[:prefix] == second[:prefix]
    assert prefix >= len(start)
    assert prefix == len(second) or first[prefix : prefix + 1] != second[prefix : prefix + 1]
    limit = len(second) - len(start)
    suffix = codec.common_suffix(first, second, limit)
    assert suffix == limit == len(end)
    assert codec.common_suffix(middle + end, end, len(end)) == len(end)
    assert codec.common_suffix(b"1" + end, b"2" + end, len(end) + 1) == len(end)


@given(st.lists(values, max_size=5))
def test_the_length_of_a_run_is_that_of_its_items_with_commas(items: list[Any]) -> None:
    encoded = codec.encode_each(items)
    assert codec.run_length(items) == len(b",".join(encoded))
    assert codec.join_list(encoded) == codec.encode(items)
    assert codec.items_of(codec.encode(items)) == encoded


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [(1, 1, True), (1, 1.0, False), (1, True, False), (0.0, -0.0, False), ([1], (1,), True)],
)
def test_is_same(first: Any, second: Any, same: bool) -> None:
    assert codec.is_same(first, second) is same


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, True), (2**64 - 1, True), (2**64, False), (-(2**63), True), (-(2**63) - 1, False)],
)
def test_is_integer(value: int, expected: bool) -> None:
    assert codec.is_integer(value) is expected
