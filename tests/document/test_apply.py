from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec, open_list
from flask_agentuity.document.apply import (
    Applied,
    apply_operations,
    find_operations,
    increment,
)
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    KeyOperation,
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

#: Few keys and few values, so that operations meet.
few_keys = st.sampled_from("kl")
few_items = st.sampled_from(
    [
        b"1",
        b"2",
        b'"1"',
        b'{"id":1}',
        b'{"id":2,"x":{"id":1}}',
        b'{"x":"\\"id\\":1"}',
        b'{"id":"1"}',
    ]
)
few_lists = st.lists(few_items, max_size=6).map(codec.join_list)
few_values = few_lists | st.sampled_from([b"1", b"-2", b"1.5", b"true", b"null", b'"1"', b"{}"])
few_states = st.dictionaries(few_keys, few_values)
changed_parts = st.builds(
    Change,
    st.integers(0, 3),
    st.lists(few_items, min_size=1, max_size=2).map(tuple),
    st.lists(few_items, max_size=2).map(tuple),
)
every_change = st.lists(
    st.builds(Set, few_keys, few_values, st.booleans())
    | st.builds(Delete, few_keys)
    | st.just(Clear())
    | st.builds(
        Push,
        few_keys,
        few_items,
        st.none() | st.integers(0, 4),
        st.integers(0, 4),
        st.none() | st.just("id"),
    )
    | st.builds(Increment, few_keys, st.integers(-2, 2) | st.just(0.5))
    | st.builds(Truncate, few_keys, st.integers(0, 3))
    | st.builds(PopLast, few_keys)
    | st.builds(lambda key, change: Splice(key, (change,)), few_keys, changed_parts)
    | st.builds(Replace, few_keys, st.none() | few_values, few_values),
    max_size=12,
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


class Plain:
    """The operations one by one on decoded values: a second, simple-minded opinion."""

    def __init__(self, state: dict[str, bytes]) -> None:
        self.state = {key: codec.decode(value) for key, value in state.items()}
        self.skipped: list[Operation] = []
        self.conflicts: set[str] = set()

    def apply(self, operation: Any) -> None:
        state, key = self.state, getattr(operation, "key", "")
        match operation:
            case Set(_, value, only_if_missing):
                if not (only_if_missing and key in state):
                    state[key] = codec.decode(value)
            case Delete():
                state.pop(key, None)
            case Clear():
                state.clear()
            case Increment(_, by):
                number = state.get(key, 0)
                if type(number) in (int, float):
                    state[key] = number + by
                else:
                    self.skipped.append(operation)
            case Replace(_, old, new):
                if (codec.encode(state[key]) if key in state else None) == old:
                    state[key] = codec.decode(new)
                else:
                    self.conflicts.add(key)
            case Splice(_, (change,)):
                items = state.get(key)
                end = change.place + len(change.gone)
                if isinstance(items, list) and encodings(items[change.place : end]) == change.gone:
                    items[change.place : end] = [codec.decode(each) for each in change.new]
                else:
                    self.conflicts.add(key)
            case _:
                self.change_list(operation)

    def change_list(self, operation: Push | Truncate | PopLast) -> None:
        if isinstance(operation, Push):
            self.state.setdefault(operation.key, [])
        elif operation.key not in self.state:
            return
        items = self.state[operation.key]
        if not isinstance(items, list):
            self.skipped.append(operation)
            return
        match operation:
            case Truncate(_, keep):
                del items[keep:]
            case PopLast():
                del items[-1:]
            case Push(_, value, max_records, keep_first, unique):
                item = codec.decode(value)
                if unique and any(same_field(each, item, unique) for each in items):
                    return
                items.append(item)
                if max_records is not None and len(items) > max_records:
                    first = min(keep_first, max_records)
                    items[first:] = items[len(items) - max_records + first :]


def encodings(items: list[Any]) -> tuple[bytes, ...]:
    return tuple(codec.encode(item) for item in items)


def same_field(first: Any, second: Any, name: str) -> bool:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return False
    if name not in first or name not in second:
        return False
    return codec.encode(first[name]) == codec.encode(second[name])


def require_plain(state: dict[str, bytes], made: list[Operation]) -> Applied:
    plain = Plain(state)
    for operation in made:
        plain.apply(operation)
    applied = apply_operations(state, made)
    assert applied.skipped == plain.skipped
    assert applied.conflicts == plain.conflicts
    decoded = {key: codec.decode(value) for key, value in state.items()}
    assert decoded == plain.state
    assert list(decoded) == list(plain.state)
    assert all(codec.encode(decoded[key]) == value for key, value in state.items())
    return applied


@given(states, changes)
def test_apply_does_what_one_would_do_by_hand(
    state: dict[str, bytes], made: list[Operation]
) -> None:
    require_plain(state, made)


@given(few_states, every_change, st.sampled_from([1, 3, open_list.BLOCK]), st.sampled_from([0, 8]))
def test_apply_does_with_every_operation_what_one_would_do_by_hand(
    state: dict[str, bytes], made: list[Operation], block: int, searches: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_list, "BLOCK", block)
        patch.setattr(open_list, "SEARCHES", searches)
        require_plain(state, made)


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


@pytest.mark.parametrize(
    ("stored", "by", "result"),
    [
        (None, 1, b"1"),
        (b"1", 2, b"3"),
        (b"1", -2, b"-1"),
        (b"1", 0.5, b"1.5"),
        (b"0.1", 0.2, b"0.30000000000000004"),
        (b"1.5", 0.5, b"2.0"),
        (b"9223372036854775807", 1, b"9223372036854775808"),
        (b"18446744073709551615", 1, None),
        (b"-9223372036854775808", -1, None),
        (b"1.7976931348623157e308", 1.7976931348623157e308, None),
        (b"1", math.inf, None),
        (b"true", 1, None),
        (b"null", 1, None),
        (b'"1"', 1, None),
        (b"[1]", 1, None),
    ],
)
def test_increment(stored: bytes | None, by: float, result: bytes | None) -> None:
    assert increment(stored, by) == result
    state = {} if stored is None else {"k": stored}
    applied = apply_operations(state, [Increment("k", by)])
    if result is None:
        assert (state, applied.skipped) == ({"k": stored}, [Increment("k", by)])
    else:
        assert (state, applied.skipped) == ({"k": result}, [])


SPLICE = Splice("k", (Change(1, (b"2",), (b"3",)),), since=5)


@pytest.mark.parametrize(
    ("operation", "state", "stamps", "conflict"),
    [
        (SPLICE, {"k": b"[1,2]"}, {}, ""),
        (SPLICE, {"k": b"[1,2]"}, {"k": 5}, ""),
        (SPLICE, {"k": b"[1,2]"}, {"k": 6}, "assigned"),
        (SPLICE, {"k": b"[2]"}, {"k": 6}, "assigned"),
        (SPLICE, {"k": b"[2]"}, {"k": 5}, "changed"),
        (SPLICE, {"k": b"[0,2.0]"}, {}, "changed"),
        (SPLICE, {"k": b"2"}, {}, "changed"),
        (SPLICE, {}, {}, "changed"),
        (Splice("k", (Change(-1, (b"2",), ()),)), {"k": b"[1,2]"}, {}, "changed"),
        (Replace("k", b"1", b"2", 5), {"k": b"1"}, {"k": 5}, ""),
        (Replace("k", b"1", b"2", 5), {"k": b"1"}, {"k": 6}, "assigned"),
        (Replace("k", b"1", b"2", 5), {"k": b"1.0"}, {}, "changed"),
        (Replace("k", b"1", b"2", 5), {}, {}, "changed"),
        (Replace("k", None, b"2"), {}, {}, ""),
        (Replace("k", None, b"2"), {"k": b"null"}, {}, "changed"),
    ],
)
def test_what_is_not_as_expected_is_a_conflict(
    operation: Operation, state: dict[str, bytes], stamps: dict[str, int], conflict: str
) -> None:
    applied = apply_operations(state, [operation], assigned=stamps)
    assert applied.conflicts == ({"k"} if conflict else set())
    assert applied.assigned_conflicts == ({"k"} if conflict == "assigned" else set())
    assert applied.skipped == []


def test_the_changes_of_a_splice_have_the_places_of_before() -> None:
    state = {"k": b"[0,1,2,3,4]"}
    parts = (Change(0, (b"0",), ()), Change(2, (b"2",), (b"20", b"21")), Change(4, (b"4",), ()))
    assert not apply_operations(state, [Splice("k", parts), Push("k", b"5")]).conflicts
    assert state == {"k": b"[1,20,21,3,5]"}


def test_all_conflicts_are_reported_at_once() -> None:
    state = {"k": b"[1]", "l": b"[2]", "m": b"1"}
    made: list[Operation] = [
        SPLICE,
        Replace("l", b"0", b"1"),
        Replace("m", b"1", b"2"),
        Push("k", b"9"),
    ]
    applied = apply_operations(state, made, assigned={"l": 1, "m": 0})
    assert (applied.conflicts, applied.assigned_conflicts) == ({"k", "l"}, {"l"})


def test_the_stamps_of_keys() -> None:
    state = {"a": b"1", "b": b"1", "c": b"1", "d": b"1"}
    made: list[Operation] = [
        Set("a", b"2"),
        Set("new", b"2", only_if_missing=True),
        Delete("b"),
        Push("b", b"1"),
        Delete("c"),
        Set("c", b"3"),
        Increment("d"),
        Delete("missing"),
    ]
    applied = apply_operations(state, made)
    assert (applied.assigned, applied.removed) == ({"a", "c"}, {"b"})
    applied = apply_operations(state, [Set("a", b"1"), Clear(), Push("a", b"1")])
    assert (applied.assigned, applied.removed) == (set(), {"a", "b", "c", "d", "new"})


def test_what_precedes_the_first_push_is_counted() -> None:
    state = {"k": b"[1,2]", "text": b'"a"', "other": b"[1]"}
    made: list[Operation] = [
        Splice("k", (Change(0, (b"1",), (b"8", b"9")),)),
        Push("k", b"3"),
        Push("k", b"4"),
        Push("new", b"1"),
        Push("text", b"1"),
        Push("other", b"1"),
        Set("set", b"[1]"),
    ]
    applied = apply_operations(state, made, counted=["k", "new", "text", "set"])
    assert applied.preceding == {"k": 3, "new": 0}
    assert applied.skipped == [Push("text", b"1")]


def test_a_push_that_is_not_unique_changes_nothing() -> None:
    state = {"k": b'[{"id":1},{"id":2},{"id":3}]'}
    push = Push("k", b'{"id":3,"x":1}', 2, unique="id")
    applied = apply_operations(state, [push, push], counted=["k"])
    assert state == {"k": b'[{"id":1},{"id":2},{"id":3}]'}
    assert applied.preceding == {"k": 3}
    apply_operations(state, [Push("k", b'{"id":4}', 2, unique="id")])
    assert state == {"k": b'[{"id":3},{"id":4}]'}


@pytest.mark.parametrize("searches", [0, open_list.SEARCHES])
@pytest.mark.parametrize(
    "between", [Truncate("k", 1), PopLast("k"), Push("k", b"1", 1), Push("k", b'{"id":2}')]
)
def test_an_item_that_was_removed_is_unique_again(
    between: KeyOperation, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_list, "SEARCHES", searches)
    state = {"k": b"[0]"}
    push = Push("k", b'{"id":1}', unique="id")
    apply_operations(state, [push, push, between, push, push])
    items = codec.items_of(state["k"])
    assert items.count(push.value) == 1
    assert (items[-1] == push.value) == (between != Push("k", b'{"id":2}'))


def test_a_key_that_was_removed_has_no_stamp() -> None:
    state = {"k": b"1"}
    made: list[Operation] = [Delete("k"), Replace("k", None, b"2")]
    assert not apply_operations(state, made, assigned={"k": 9}).conflicts
    assert state == {"k": b"2"}


def test_an_edit_is_merged() -> None:
    state = {"k": b"[1,2]", "gone": b"1"}
    made: list[Operation] = [
        Edit("k", b"[1]", b'["new"]'),
        Edit("lost", b"1", b"2"),
        Push("k", b"3"),
    ]
    applied = apply_operations(state, made, counted=["k"])
    assert state == {"k": b'["new",2,3]', "gone": b"1"}
    assert applied.merged["k"].places == (0,)
    assert applied.merged["lost"].dropped == ('state["lost"]',)
    assert applied.preceding == {"k": 2}
    assert not applied.conflicts


def test_operations_on_the_metadata_are_ignored() -> None:
    state = {"k": b"1"}
    made: list[Operation] = [
        SetMetadata(b"{}"),
        ReplaceMetadata(b"1", b"2"),
        EditMetadata(b"1", b"2"),
    ]
    assert apply_operations(state, made) == Applied()
    assert state == {"k": b"1"}


def test_lists_are_cut_only_where_an_operation_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(encoded: bytes) -> list[bytes]:
        raise AssertionError("the list was cut into items")

    monkeypatch.setattr(codec, "items_of", refuse)
    state = {"k": b'[{"id":1,"x":{"id":2}}]', "l": b"[]"}
    made: list[Operation] = [
        Push("k", b"1"),
        PopLast("k"),
        Push("k", b'{"id":3}', unique="id"),
        Push("l", b"1", 5),
        Push("k", b'{"id":4}', unique="id"),
        Increment("n"),
    ]
    apply_operations(state, made)
    assert state["k"] == b'[{"id":1,"x":{"id":2}},{"id":3},{"id":4}]'
    with pytest.raises(AssertionError, match="cut into items"):
        apply_operations(state, [Push("k", b"1", 5)])
