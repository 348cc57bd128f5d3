from __future__ import annotations

import json
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.merge import Merged, merge_value

PATH = 'state["k"]'
MISSING: Any = object()


def user(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


A, B, C, D, X, Y = (user(letter * 4) for letter in "abcdxy")
Q, R, S = (user(text) for text in ("first question", "second question", "third question"))
P = assistant("")
X1, X2 = assistant("one"), assistant("two")


def merge(base: Any, mine: Any, theirs: Any) -> Merged:
    values = (None if each is MISSING else codec.encode(each) for each in (base, mine, theirs))
    return merge_value(PATH, *values)


def value_of(merged: Merged) -> Any:
    return MISSING if merged.value is None else json.loads(merged.value)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected"),
    [
        pytest.param([A], [A, X], [A, Y], [A, Y, X], id="append and append"),
        pytest.param([], [X], [X], [X, X], id="equal appends"),
        pytest.param(MISSING, [X], [Y], [Y, X], id="append to a list that both begin"),
        pytest.param(
            {"chat": {"messages": [A]}},
            {"chat": {"messages": [A, X]}},
            {"chat": {"messages": [A, Y]}},
            {"chat": {"messages": [A, Y, X]}},
            id="append and append, deep",
        ),
        pytest.param({}, {"m": [X]}, {"m": [Y]}, {"m": [Y, X]}, id="both begin a list, deep"),
        pytest.param(
            [{"parts": ["a"]}],
            [{"parts": ["a", "x"]}],
            [{"parts": ["a", "y"]}],
            [{"parts": ["a", "y", "x"]}],
            id="append and append in an item",
        ),
        pytest.param(
            [A, P], [A, assistant("x")], [A, P, Y], [A, assistant("x"), Y], id="edit, push"
        ),
        pytest.param([A, B], [A], [A, B, Y], [A, Y], id="pop, push"),
        pytest.param([A, B, C], [B], [A, B, C, Y], [B, Y], id="filter, push"),
        pytest.param([A, B], [A, X], [A, B, Y], [A, X, Y], id="regenerate, push"),
        pytest.param(
            [Q, {"kind": "image"}],
            [Q, X, C],
            [Q, {"kind": "image"}, Y],
            [Q, X, C, Y],
            id="regenerate as several items, push",
        ),
        pytest.param([A, B], [], [A, B, Y], [Y], id="remove all, push"),
        pytest.param(
            [Q, X1], [Q, R], [Q, X1, Y], [Q, R, Y], id="a question in place of an answer, push"
        ),
        pytest.param([Q, X1], [Q, R], [Q], [Q, R], id="pop and ask, pop"),
        pytest.param([A, B], [X, D, C], [A, B, Y], [X, D, C, Y], id="replace all, push"),
        pytest.param([A, B, C], [X, B, C], [A, B, Y], [X, B, Y], id="different items"),
        pytest.param(
            [{"a": 1, "b": 1}],
            [{"a": 2, "b": 1}],
            [{"a": 1, "b": 2}],
            [{"a": 2, "b": 2}],
            id="different fields of one item",
        ),
        pytest.param(
            {"a": 1, "b": 1},
            {"a": 2, "b": 1},
            {"a": 1, "b": 2, "c": 3},
            {"a": 2, "b": 2, "c": 3},
            id="different keys",
        ),
        pytest.param([A, B], [A, X, B], [A, Y, B], [A, Y, X, B], id="insertions at one place"),
        pytest.param([A], [X, A], [Y, A], [Y, X, A], id="insertions in front"),
        pytest.param([A, B, C], [A, B, X], [B, C], [B, X], id="edit, delete elsewhere"),
        pytest.param(
            [A, B, C, P],
            [A, B, C, assistant("x")],
            [C, P, D, Y],
            [C, assistant("x"), D, Y],
            id="edit, window",
        ),
        pytest.param([A, B, C], [B, C, X], [C, Y], [C, Y, X], id="windows"),
        pytest.param(
            [A, B, C], [A, B, C, X], [A, C, Y], [A, C, Y, X], id="append, delete and append"
        ),
        pytest.param({"a": 1}, {}, {"a": 1, "b": 2}, {"b": 2}, id="delete a key, add a key"),
        pytest.param({}, {"a": {"b": 1}}, {"a": {"c": 1}}, {"a": {"c": 1, "b": 1}}, id="both add"),
        pytest.param([1, 2], [1, 2, 3], [1.0, 2], [1.0, 2, 3], id="1 and 1.0 differ"),
        pytest.param([True], [True, 1], [1], [1, 1], id="1 and true differ"),
    ],
)
def test_both_survive(base: Any, mine: Any, theirs: Any, expected: Any) -> None:
    merged = merge(base, mine, theirs)
    assert merged.value == codec.encode(expected)
    assert (merged.dropped, merged.overridden) == ((), ())


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected", "dropped", "overridden"),
    [
        ([A, B], [A, X], [A], [A], [f"{PATH}[1]"], []),
        ([A, B], [A], [A, X], [A], [], [f"{PATH}[1]"]),
        ({"a": 1}, {"a": 2}, {}, {}, [f"{PATH}.a"], []),
        ({"a": 1}, {}, {"a": 2}, {}, [], [f"{PATH}.a"]),
        ([1], [2], MISSING, MISSING, [PATH], []),
        ([1], MISSING, [2], MISSING, [], [PATH]),
        ([1], MISSING, [1], MISSING, [], []),
        ([1], [1], MISSING, MISSING, [], []),
        (MISSING, 1, 2, 1, [], [PATH]),
        (1, 2, 3, 2, [], [PATH]),
        (1, 2, 2, 2, [], []),
        (1, [1], {"a": 1}, [1], [], [PATH]),
        ({}, {"b": [1]}, {"b": {}}, {"b": [1]}, [], [f"{PATH}.b"]),
        (1, {"a": 1}, {"b": 1}, {"b": 1, "a": 1}, [], []),
        ([A], [X], [Y], [X], [], [f"{PATH}[0].content"]),
        ([Q, P], [Q, X1], [Q, R], [Q, R], [f"{PATH}[1]"], []),
        ([Q, P], [Q, R], [Q, X1], [Q, R], [], [f"{PATH}[1]"]),
        ([Q, X1], [Q, R], [Q, S], [Q, S, R], [], []),
        (
            [{"type": "a", "n": 1}],
            [{"type": "b", "n": 1}],
            [{"type": "a", "n": 2}],
            [{"type": "b", "n": 2}],
            [],
            [],
        ),
        (["a"], ["b"], ["c"], ["b"], [], [f"{PATH}[0]"]),
        (
            {"messages": [A, B, C, P]},
            {"messages": [A, B, C, assistant("x")]},
            {"messages": [B, C, assistant("y")]},
            {"messages": [B, C, assistant("x")]},
            [],
            [f"{PATH}.messages[3].content"],
        ),
        (
            {"a b": {"": 1}},
            {"a b": {"": 2}},
            {"a b": {"": 3}},
            {"a b": {"": 2}},
            [],
            [f'{PATH}["a b"][""]'],
        ),
    ],
)
def test_what_gives_way_is_reported(
    base: Any, mine: Any, theirs: Any, expected: Any, dropped: list[str], overridden: list[str]
) -> None:
    merged = merge(base, mine, theirs)
    assert value_of(merged) == expected
    assert list(merged.dropped) == dropped
    assert list(merged.overridden) == overridden


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected"),
    [
        ([Q, P, R, P], [Q, X1, R, P], [Q, P, R, X2], [Q, X1, R, X2]),
        ([Q, P, R, P], [Q, P, R, X2], [R, P], [R, X2]),
        ([Q, P, R, P], [Q, X1, R, P], [R, P], [R, P]),
        ([Q, P, R, P], [Q, P, R, X2], [Q, P], [Q, P]),
        ([Q, P, R, P], [Q, P, R, X2], [R, P, S, P], [R, X2, S, P]),
        ([Q, P, R, P], [Q, P, R, X2], [Q, X1, R, P, S, P], [Q, X1, R, X2, S, P]),
        ([Q, P], [Q, X1], [Q, P, R, P], [Q, X1, R, P]),
        ([Q, P], [Q, X1], [Q, assistant("o"), R, P], [Q, X1, R, P]),
        ([Q, P, R, P, S, P], [Q, P, R, X2, S, P], [Q, P, S, P], [Q, P, S, P]),
        ([Q, P, R, P, S, P], [Q, P, R, X2, S, P], [R, P, S, P], [R, X2, S, P]),
        ([Q, P, R, P, S, P], [Q, P, R, X2, S, P], [Q, X1, R, P, S, X1], [Q, X1, R, X2, S, X1]),
    ],
)
def test_a_placeholder_never_receives_the_growth_of_another(
    base: Any, mine: Any, theirs: Any, expected: Any
) -> None:
    assert value_of(merge(base, mine, theirs)) == expected


def item(number: int, content: str = "", **more: Any) -> dict[str, Any]:
    return {"id": number, "content": content, **more}


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected"),
    [
        pytest.param(
            [item(1), item(2)],
            [item(1, "m"), item(2)],
            [item(2), item(1)],
            [item(2), item(1, "m")],
            id="edit an item that they moved",
        ),
        pytest.param(
            [item(1), item(2), item(3)],
            [item(3), item(1), item(2)],
            [item(1), item(2), item(3, "t")],
            [item(3, "t"), item(1), item(2)],
            id="move an item that they edit",
        ),
        pytest.param(
            [item(1), item(2), item(3)],
            [item(3), item(1), item(2)],
            [item(1), item(3), item(2)],
            [item(3), item(1), item(2)],
            id="both move",
        ),
        pytest.param(
            [item(1), item(2), item(3), item(4)],
            [item(4), item(1), item(2), item(3)],
            [item(1), item(4, "t"), item(2), item(3)],
            [item(4, "t"), item(1), item(2), item(3)],
            id="both move one item",
        ),
        pytest.param(
            [item(1), item(2), item(3), item(4)],
            [item(2), item(3), item(4), item(1)],
            [item(2), item(1), item(3), item(4)],
            [item(2), item(3), item(4), item(1)],
            id="both move one item, mine farther",
        ),
        pytest.param(
            [user("text")],
            [user("text", id=1)],
            [user("text"), item(1, "other")],
            [user("text", id=1)],
            id="give an item the id of another one",
        ),
        pytest.param(
            [item(1), item(2)],
            [item(2), item(1)],
            [item(1)],
            [item(1)],
            id="move and delete",
        ),
        pytest.param(
            [item(1)],
            [item(1), item(2, a=1)],
            [item(1), item(2, b=1)],
            [item(1), item(2, b=1, a=1)],
            id="both append one item",
        ),
        pytest.param(
            [item(1)],
            [item(2, parts=[1]), item(1)],
            [item(1), item(2, parts=[1])],
            [item(1), item(2, parts=[1])],
            id="both insert one item at different places",
        ),
        pytest.param(
            [user("no id")],
            [user("no id", id=1)],
            [user("no id, edited")],
            [user("no id, edited", id=1)],
            id="give an item an id",
        ),
        pytest.param(
            [user("no id")],
            [user("no id", id=1)],
            [user("no id", id=2)],
            [user("no id", id=1)],
            id="both give an item an id",
        ),
        pytest.param(
            [item(1, "same")],
            [item(2, "same")],
            [item(1, "same"), item(3)],
            [item(2, "same"), item(3)],
            id="another id is another item",
        ),
        pytest.param(
            [{"message_id": "a", "n": 1}, {"message_id": "b", "n": 1}],
            [{"message_id": "b", "n": 2}],
            [{"message_id": "a", "n": 1}, {"message_id": "b", "n": 1, "t": 1}],
            [{"message_id": "b", "n": 2, "t": 1}],
            id="message_id",
        ),
        pytest.param(
            [item(1, "a"), item(1, "b")],
            [item(1, "a"), item(1, "x")],
            [item(1, "a"), item(1, "b"), A],
            [item(1, "a"), item(1, "x"), A],
            id="an id that is not unique identifies nothing",
        ),
        pytest.param(
            [{"id": None, "a": 1}],
            [{"id": None, "a": 2}],
            [{"id": None, "a": 1}, {"id": None}],
            [{"id": None, "a": 2}, {"id": None}],
            id="null is no id",
        ),
    ],
)
def test_ids(base: Any, mine: Any, theirs: Any, expected: Any) -> None:
    assert value_of(merge(base, mine, theirs)) == expected


def test_places_say_where_my_items_are() -> None:
    assert merge([A, B], [A, X, B, C], [D, A, B, Y]).places == (1, 2, 3, 5)
    assert merge([A, B, C], [A, X, C], [C]).places == (None, None, 0)
    assert merge([A], [A, X], [A]).places == (0, 1)
    assert merge([A, B], [A, B], [B, C]).places == (None, 0)
    assert merge([A], [X], MISSING).places == (None,)
    assert merge({}, {"a": 1}, {"b": 1}).places is None
    moved = merge([item(1), item(2)], [item(1, "m"), item(2)], [item(2), item(1)])
    assert moved.places == (1, 0)


def test_reports_are_bounded() -> None:
    name = "n" * 1_000_000
    versions = [{name: {str(n): value for n in range(500)}} for value in (0, 1, 2)]
    merged = merge(*versions)
    assert len(merged.overridden) == 20
    assert all(len(path) < 300 for path in merged.overridden)


def nested(depth: int, innermost: list[Any], kind: Callable[[Any], Any]) -> Any:
    value: Any = innermost
    for _ in range(depth):
        value = kind(value)
    return value


@pytest.mark.parametrize("kind", [lambda value: [value], lambda value: {"a": value}])
def test_the_deepest_value_is_merged(kind: Callable[[Any], Any]) -> None:
    depth = codec.MAX_DEPTH - 1
    versions = [nested(depth, items, kind) for items in ([1], [1, 2], [1, 3])]
    expected = codec.encode_unchecked(nested(depth, [1, 3, 2], kind))
    encoded = [codec.encode_unchecked(each) for each in versions]

    def at_depth(frames: int) -> Merged:
        return at_depth(frames - 1) if frames else merge_value(PATH, *encoded)

    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    assert at_depth(sys.getrecursionlimit() - used - 60).value == expected


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected"),
    [
        ([1] * 3_000, [1] * 2_000, [1] * 3_000 + [2], [1] * 2_000 + [2]),
        ([1, 2] * 1_500, [1, 2] * 1_500 + [3], [2, 1] * 1_400, None),
        (list(range(3_000)), list(range(1, 3_000)), list(range(2_999)), list(range(1, 2_999))),
        (["a"] * 3_000, ["b"] * 3_000, ["c"] * 3_000, ["b"] * 3_000),
        (["a"] * 3_000, ["b"] * 2_900, ["c"] * 2_800, ["c"] * 2_800 + ["b"] * 2_900),
    ],
)
def test_long_lists(base: list[Any], mine: list[Any], theirs: list[Any], expected: Any) -> None:
    merged = value_of(merge(base, mine, theirs))
    assert expected is None or merged == expected


def test_a_long_list_of_few_values_is_not_doubled() -> None:
    """No item is unique, and the block is too large to compare each pair."""
    base = [str(n * n % 7919 % 11) for n in range(3_000)]
    mine = [each for n, each in enumerate(base) if n % 10]
    theirs = [each for n, each in enumerate(base) if n % 14 != 3]
    merged = value_of(merge(base, mine, theirs))
    both = [each for n, each in enumerate(base) if n % 10 and n % 14 != 3]
    assert abs(len(merged) - len(both)) <= 60


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from([1.0, "", "a", "ab"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "id", "role"]), children, max_size=3)
    ),
    max_leaves=12,
)
encoded = values.map(codec.encode) | st.none()


@given(encoded, encoded)
def test_one_side_alone_is_taken_as_it_is(base: bytes | None, changed: bytes | None) -> None:
    assert merge_value(PATH, base, changed, base).value == changed
    assert merge_value(PATH, base, base, changed).value == changed


@given(encoded, encoded, encoded)
def test_a_merge_is_json(base: bytes | None, mine: bytes | None, theirs: bytes | None) -> None:
    merged = merge_value(PATH, base, mine, theirs)
    if merged.value is not None:
        assert codec.respell(merged.value) == merged.value
    if mine is not None and codec.is_list(mine):
        mine_items = codec.items_of(mine)
        assert merged.places is not None
        assert len(merged.places) == len(mine_items)
        known = [place for place in merged.places if place is not None]
        assert len(set(known)) == len(known)
        if known:
            assert merged.value is not None
            assert max(known) < len(codec.items_of(merged.value)) or not codec.is_list(merged.value)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expected"),
    [
        (["c", "b", "a"], ["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"]),
        ([3, 1, 2], [1, 2, 3], [2, 1, 3], [2, 1, 3]),
        ([*"abcdef"], [*"fedcba"], [*"abdef"], [*"fedba"]),
        ([A, B, C], [C, A, B], [C, A, B], [C, A, B]),
        (["a"], ["a", "b", "b"], ["a", "b"], ["a", "b", "b", "b"]),
    ],
    ids=["sort twice", "sort and reverse", "reverse and remove", "to the top", "appends stay"],
)
def test_items_without_ids_that_were_moved_are_there_once(
    base: Any, mine: Any, theirs: Any, expected: Any
) -> None:
    assert value_of(merge(base, mine, theirs)) == expected


def test_shuffled_equal_items_keep_their_number() -> None:
    random = Random(7)
    base = [random.randint(0, 1) for _ in range(300)]
    mine, theirs = random.sample(base, 300), random.sample(base, 300)
    assert sorted(value_of(merge(base, mine, theirs))) == sorted(base)
