from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.operation_json import operation_from_json, operation_to_json
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set
from flask_agentuity.errors import StateNotSerializable

text = st.text(max_size=4)
keys = st.sampled_from(["a", "b", "messages", "", "__proto__", 'é"\n\0😀']) | text
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.just(1.5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=3),
    max_leaves=8,
)
encoded = values.map(codec.encode)
changes = st.lists(
    st.builds(Set, keys, encoded, st.booleans())
    | st.builds(Delete, keys)
    | st.just(Clear())
    | st.builds(Push, keys, values.map(codec.encode_item), st.none() | st.integers(0, 4)),
    max_size=10,
)


@given(changes)
def test_the_wire_brings_an_operation_back(made: list[Operation]) -> None:
    for operation in made:
        message = json.loads(orjson.dumps(operation_to_json(operation)))
        read = operation_from_json(message)
        if isinstance(operation, Set):
            operation = Set(operation.key, operation.value)
        assert read == operation


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Set("k", b'{"a":1}'), b'{"op":"set","key":"k","value":{"a":1}}'),
        (Set("k", b"1", only_if_missing=True), b'{"op":"set","key":"k","value":1}'),
        (Delete("é"), '{"op":"delete","key":"é"}'.encode()),
        (Clear(), b'{"op":"clear"}'),
        (Push("k", b"[1]"), b'{"op":"push","key":"k","value":[1]}'),
        (Push("k", b"1", 3), b'{"op":"push","key":"k","value":1,"maxRecords":3}'),
        (Push("k", b"1", 0), b'{"op":"push","key":"k","value":1,"maxRecords":0}'),
    ],
)
def test_to_wire(operation: Operation, message: bytes) -> None:
    assert orjson.dumps(operation_to_json(operation)) == message


@pytest.mark.parametrize(
    ("message", "operation"),
    [
        ({"op": "set", "key": "k"}, Set("k", b"null")),
        ({"op": "push", "key": "k"}, Push("k", b"null")),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": -3}, Push("k", b"1", 0)),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": None}, Push("k", b"1", 0)),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": 1.5}, Push("k", b"1", 2)),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": " 2 "}, Push("k", b"1", 2)),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": "x"}, Push("k", b"1")),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": []}, Push("k", b"1")),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": True}, Push("k", b"1", 1)),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": 10**30}, Push("k", b"1", 10**30)),
        ({"op": "clear", "key": 5}, Clear()),
        ({"op": "incr", "key": "k"}, None),
        ({"op": None}, None),
        ({}, None),
    ],
)
def test_from_wire(message: dict[str, Any], operation: Operation | None) -> None:
    assert operation_from_json(message) == operation


@pytest.mark.parametrize(
    "message",
    [
        None,
        "set",
        [],
        5,
        {"op": "set"},
        {"op": "set", "key": 5},
        {"op": "push", "key": None},
        {"op": "delete", "key": ["a"]},
    ],
)
def test_from_wire_refuses_what_is_no_operation(message: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        operation_from_json(message)


def test_from_wire_names_the_place_of_a_value_that_is_too_deep() -> None:
    deep = json.loads("[" * 300 + "]" * 300)
    with pytest.raises(StateNotSerializable, match=r'state\["k"\]'):
        operation_from_json({"op": "set", "key": "k", "value": deep})
    with pytest.raises(StateNotSerializable, match=r'state\["k"\]\[-1\]'):
        operation_from_json({"op": "push", "key": "k", "value": deep})
