from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.edit_json import (
    LARGEST_INTEGER,
    LARGEST_VERSION,
    edit_from_json,
    edits_from_json,
)
from flask_agentuity.document.operation_json import operation_from_json, operation_to_json
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from flask_agentuity.errors import StateNotSerializable

text = st.text(max_size=4)
keys = st.sampled_from(["a", "b", "messages", "", "__proto__", 'é"\n\0😀']) | text
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.just(1.5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=3),
    max_leaves=8,
)
encoded = values.map(codec.encode)
items = values.map(codec.encode_item)
basic = (
    st.builds(Set, keys, encoded)
    | st.builds(Delete, keys)
    | st.just(Clear())
    | st.builds(Push, keys, items, st.none() | st.integers(0, 4))
)
counts = st.integers(0, LARGEST_INTEGER)
versions = st.integers(0, LARGEST_VERSION)
metadata = st.dictionaries(text, values, max_size=3).map(codec.encode)


@st.composite
def list_changes(draw: st.DrawFn, base: list[bytes]) -> tuple[Change, ...]:
    found = []
    place = 0
    while place < len(base) and draw(st.booleans()):
        place += draw(st.integers(0, len(base) - place - 1))
        gone = base[place : place + draw(st.integers(1, 2))]
        found.append(Change(place, tuple(gone), tuple(draw(st.lists(items, max_size=2)))))
        place += len(gone)
    return tuple(found)


@st.composite
def splices(draw: st.DrawFn) -> Splice:
    base = draw(st.lists(items, max_size=6))
    return Splice(draw(keys), draw(list_changes(base)), draw(versions))


@st.composite
def list_edits(draw: st.DrawFn) -> Edit:
    base = draw(st.lists(items, max_size=6))
    found = draw(list_changes(base))
    appended = tuple(draw(st.lists(items, max_size=2)))
    value = list(base)
    for change in reversed(found):
        value[change.place : change.place + len(change.gone)] = change.new
    places = draw(
        st.none() | st.lists(st.none() | counts, min_size=len(base), max_size=len(base)).map(tuple)
    )
    return Edit(
        draw(keys),
        codec.join_list(base),
        codec.join_list([*value, *appended]),
        found,
        appended,
        draw(versions),
        places,
        draw(st.booleans()),
        draw(st.booleans()),
    )


objects = st.dictionaries(text, values, min_size=1, max_size=3)
unique_pushes = objects.flatmap(
    lambda item: st.builds(
        Push,
        keys,
        st.just(codec.encode_item(item)),
        st.none() | counts,
        counts,
        st.sampled_from(list(item)),
    )
)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
edits = (
    basic
    | st.builds(Set, keys, encoded, st.booleans())
    | st.builds(Push, keys, items, st.none() | counts, counts)
    | unique_pushes
    | st.builds(Increment, keys, numbers)
    | st.builds(Truncate, keys, counts)
    | st.builds(PopLast, keys)
    | splices()
    | st.builds(Replace, keys, st.none() | encoded, encoded, versions)
    | st.builds(Edit, keys, st.none() | encoded, encoded, since=versions, uncertain=st.booleans())
    | list_edits()
    | st.builds(SetMetadata, metadata)
    | st.builds(ReplaceMetadata, metadata, metadata)
    | st.builds(EditMetadata, metadata, metadata)
)


@settings(deadline=None)
@given(basic)
def test_what_the_runtime_knows_comes_back(operation: Operation) -> None:
    message = json.loads(orjson.dumps(operation_to_json(operation)))
    assert operation_from_json(message) == operation


@settings(deadline=None)
@given(edits)
def test_every_operation_comes_back(operation: Operation) -> None:
    message = orjson.loads(orjson.dumps(operation_to_json(operation)))
    assert edit_from_json(message) == operation


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Set("k", b'{"a":1}'), b'{"op":"set","key":"k","value":{"a":1}}'),
        (
            Set("k", b"1", only_if_missing=True),
            b'{"op":"set","key":"k","value":1,"ifMissing":true}',
        ),
        (Delete("é"), '{"op":"delete","key":"é"}'.encode()),
        (Clear(), b'{"op":"clear"}'),
        (Push("k", b"[1]"), b'{"op":"push","key":"k","value":[1]}'),
        (Push("k", b"1", 3), b'{"op":"push","key":"k","value":1,"maxRecords":3}'),
        (Push("k", b"1", 0), b'{"op":"push","key":"k","value":1,"maxRecords":0}'),
        (
            Push("k", b'{"id":1}', 3, 1, "id"),
            b'{"op":"push","key":"k","value":{"id":1},"maxRecords":3,"keepFirst":1,"unique":"id"}',
        ),
        (Increment("k", 2.5), b'{"op":"increment","key":"k","by":2.5}'),
        (Truncate("k", 0), b'{"op":"truncate","key":"k","keep":0}'),
        (PopLast("k"), b'{"op":"pop_last","key":"k"}'),
        (
            Splice("k", (Change(1, (b"1", b"2"), ()),), 7, whole=b"[0]"),
            b'{"op":"splice","key":"k","changes":[{"place":1,"gone":[1,2],"new":[]}],"since":7}',
        ),
        (Replace("k", None, b"1"), b'{"op":"replace","key":"k","value":1}'),
        (
            Replace("k", b"null", b"1", 7),
            b'{"op":"replace","key":"k","old":null,"value":1,"since":7}',
        ),
        (
            Edit("k", b"1", b"2", uncertain=True),
            b'{"op":"edit","key":"k","base":1,"uncertain":true,"value":2}',
        ),
        (
            Edit("k", b"[1,2]", b"[3,2,4]", (Change(0, (b"1",), (b"3",)),), (b"4",), 0, (5, None)),
            b'{"op":"edit","key":"k","base":[1,2],"changes":[{"place":0,"gone":1,"new":[3]}],'
            b'"appended":[4],"places":[5,null]}',
        ),
        (SetMetadata(b"{}"), b'{"op":"set_metadata","value":{}}'),
        (ReplaceMetadata(b"{}", b'{"a":1}'), b'{"op":"replace_metadata","old":{},"value":{"a":1}}'),
        (EditMetadata(b"{}", b'{"a":1}'), b'{"op":"edit_metadata","base":{},"value":{"a":1}}'),
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


def test_a_function_cannot_be_sent() -> None:
    edit = Edit("k", b"1", b"2", function=lambda stored: b"2")
    with pytest.raises(ValueError, match="function"):
        operation_to_json(edit)


def splice(*changes: Any, **more: Any) -> dict[str, Any]:
    return {"op": "splice", "key": "k", "changes": list(changes), **more}


def change(place: Any, gone: Any, new: Any = ()) -> dict[str, Any]:
    return {"place": place, "gone": gone, "new": list(new) if new == () else new}


def list_edit(*changes: Any, **more: Any) -> dict[str, Any]:
    return {"op": "edit", "key": "k", "base": [1, 2, 3], "changes": list(changes), **more}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "must be an object, not NoneType"),
        ([], "must be an object, not list"),
        ({}, "no operation of type NoneType"),
        ({"op": json.loads("[" * 900 + "]" * 900)}, "no operation of type list"),
        ({"op": "rename", "key": "k"}, "no operation 'rename'"),
        ({"op": ["set"]}, "no operation"),
        ({"op": "x" * 1000}, "no operation 'xxx"),
        ({"op": "set", "key": "k"}, "must have the field value"),
        ({"op": "set", "value": 1}, "must have the field key"),
        ({"op": "set", "key": 5, "value": 1}, "key of a set must be a string, not int"),
        ({"op": "set", "key": "k", "value": 1, "ifMissing": 1}, "ifMissing of a set must be true"),
        ({"op": "set", "key": "k", "value": 1, "by": 1}, "a set has no field 'by'"),
        ({"op": "clear", "key": "k"}, "a clear has no field 'key'"),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": -1}, "integer from 0"),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": "3"}, "integer from 0"),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": 1.0}, "integer from 0"),
        ({"op": "push", "key": "k", "value": 1, "keepFirst": True}, "integer from 0"),
        ({"op": "push", "key": "k", "value": 1, "maxRecords": 2**53}, "integer from 0"),
        ({"op": "push", "key": "k", "value": 1, "unique": "id"}, "object with the field 'id'"),
        ({"op": "push", "key": "k", "value": {"a": 1}, "unique": "id"}, "with the field 'id'"),
        ({"op": "push", "key": "k", "value": {"a": 1}, "unique": 5}, "must be a string"),
        ({"op": "increment", "key": "k"}, "must have the field by"),
        ({"op": "increment", "key": "k", "by": "1"}, "integer within 64 bits"),
        ({"op": "increment", "key": "k", "by": True}, "integer within 64 bits"),
        ({"op": "increment", "key": "k", "by": 2**64}, "integer within 64 bits"),
        ({"op": "increment", "key": "k", "by": float("inf")}, "integer within 64 bits"),
        ({"op": "truncate", "key": "k", "keep": -1}, "integer from 0"),
        ({"op": "truncate", "key": "k"}, "must have the field keep"),
        ({"op": "splice", "key": "k"}, "must have the field changes"),
        ({"op": "splice", "key": "k", "changes": {}}, "changes of a splice must be a list"),
        (splice(5), "an object with place, gone and new"),
        (splice({"place": 0, "gone": [1]}), "an object with place, gone and new"),
        (splice({**change(0, [1]), "more": 1}), "an object with place, gone and new"),
        (splice(change(-1, [1])), "place of a change must be an integer from 0"),
        (splice(change(True, [1])), "place of a change must be an integer from 0"),
        (splice(change(0, [])), "a list that is not empty"),
        (splice(change(0, 1)), "a list that is not empty"),
        (splice(change(0, [1], {})), "the new of a change must be a list"),
        (splice(change(1, [1]), change(0, [1])), "must ascend and not overlap"),
        (splice(change(0, [1, 2]), change(1, [2])), "must ascend and not overlap"),
        (splice(change(0, [1]), since=-1), "since of a splice must be an integer from 0"),
        (splice(change(0, [1]), since=None), "since of a splice must be an integer from 0"),
        ({"op": "replace", "key": "k", "old": 1}, "must have the field value"),
        ({"op": "edit", "key": "k", "base": 1}, "must have the field value"),
        ({"op": "edit", "key": "k", "value": 1, "appended": []}, "no field 'appended'"),
        ({"op": "edit", "key": "k", "changes": []}, "must have the field base"),
        ({"op": "edit", "key": "k", "base": {}, "changes": []}, "base of a edit must be a list"),
        (list_edit(value=[1]), "no field 'value'"),
        (list_edit(change(0, 0)), "must name items of the base"),
        (list_edit(change(0, 4)), "must name items of the base"),
        (list_edit(change(3, 1)), "must name items of the base"),
        (list_edit(change(0, [1])), "gone of a change must be an integer"),
        (list_edit(change(0, 2), change(1, 1)), "must ascend and not overlap"),
        (list_edit(places=[0]), "as many as the items"),
        (list_edit(places=[0, 1, "2"]), "integer from 0"),
        (list_edit(partial=0), "partial of a edit must be true or false"),
        ({"op": "set_metadata", "value": []}, "value of a set_metadata must be an object"),
        ({"op": "replace_metadata", "value": {}}, "must have the field old"),
        ({"op": "edit_metadata", "value": {}}, "must have the field base"),
    ],
)
def test_what_is_wrong_is_refused(message: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        edit_from_json(message)
    assert len(str(refused.value)) < 200


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
        lambda children: (
            st.lists(children, max_size=3) | st.dictionaries(text, children, max_size=3)
        ),
        max_leaves=6,
    ),
    edits,
    st.data(),
)
def test_nothing_else_is_raised(rubbish: Any, operation: Operation, data: st.DataObject) -> None:
    message = json.loads(orjson.dumps(operation_to_json(operation)))
    field = data.draw(st.sampled_from([*message, "more"]))
    message[field] = rubbish
    try:
        edit_from_json(message)
    except (ValueError, StateNotSerializable) as refused:
        assert str(refused)


@pytest.mark.parametrize(
    "message",
    [
        {"op": "push", "key": "k", "value": 0},
        {"op": "splice", "key": "k", "changes": [{"place": 0, "gone": [0], "new": []}]},
        {"op": "splice", "key": "k", "changes": [{"place": 0, "gone": [1], "new": [0]}]},
        {"op": "edit", "key": "k", "base": [], "changes": [], "appended": [0]},
        {"op": "edit", "key": "k", "base": [0], "changes": []},
    ],
)
def test_an_item_that_nests_too_deep_is_refused(message: dict[str, Any]) -> None:
    deep = json.loads("[" * 300 + "]" * 300)

    def deepened(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: each if name == "place" else deepened(each) for name, each in value.items()
            }
        if isinstance(value, list):
            return [deepened(each) for each in value]
        return deep if value == 0 else value

    with pytest.raises(StateNotSerializable, match=r'state\["k"\]'):
        edit_from_json(deepened(message))


EDIT = {"op": "edit", "key": "k", "base": 1, "value": 2}
SPLICE = splice(change(0, [1]))


@pytest.mark.parametrize("later", [EDIT, SPLICE, {"op": "replace", "key": "k", "value": 1}])
@pytest.mark.parametrize(
    "earlier",
    [
        EDIT,
        SPLICE,
        {"op": "set", "key": "k", "value": 1},
        {"op": "delete", "key": "k"},
        {"op": "push", "key": "k", "value": 1},
        {"op": "pop_last", "key": "k"},
        {"op": "clear"},
    ],
)
def test_an_edit_of_what_the_write_has_changed_is_refused(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="before it is spliced, replaced or edited"):
        edits_from_json([earlier, later])
    if earlier["op"] != "clear":
        assert len(edits_from_json([{**earlier, "key": "other"}, later])) == 2


def test_the_metadata_is_changed_once() -> None:
    once = {"op": "set_metadata", "value": {}}
    assert edits_from_json([once, EDIT]) == [SetMetadata(b"{}"), Edit("k", b"1", b"2")]
    with pytest.raises(ValueError, match="changed twice"):
        edits_from_json([once, {"op": "edit_metadata", "base": {}, "value": {}}])


def test_a_whole_value_that_nests_deep_can_be_written_again() -> None:
    """Only a client whose base nests as deep sends it."""
    deep = json.loads("[" * 300 + "]" * 300)
    replaced = edit_from_json({"op": "replace", "key": "k", "old": deep, "value": [deep]})
    assert isinstance(replaced, Replace)
    assert replaced.new == b"[" * 301 + b"]" * 301
    edited = edit_from_json({"op": "edit", "key": "k", "base": deep, "value": [deep]})
    assert isinstance(edited, Edit)
    assert edited.base == replaced.old
