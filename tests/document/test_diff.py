from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.diff import ListDifference, diff_list, translate
from flask_agentuity.document.operations import Change

PLACEHOLDER = {"role": "assistant", "content": ""}

text = st.text('a",[]\\é', max_size=4)
scalars = st.none() | st.booleans() | st.integers(0, 22) | st.sampled_from([1.0, 0.5, -0.0]) | text
values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(text, children, max_size=2),
    max_leaves=4,
)
messages = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    st.sampled_from(["", "a", "ab", "abc", "b", "x" * 20]),
)
identified = st.builds(
    lambda number, content: {"id": number, "content": content},
    st.integers(0, 6) | st.sampled_from(["1", ""]),
    st.sampled_from(["", "a", "ab"]),
)
items = st.sampled_from([1, 11, 111, "1", ",", '","', [1], [[1]], ""]) | messages | identified
lists = st.lists(items | values, max_size=8) | st.lists(st.sampled_from([1, 11]), max_size=12)


@st.composite
def edited(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """A list, and the same list after a few edits."""
    before = draw(lists)
    after = list(before)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(after)))
        stop = draw(st.integers(start, min(len(after), start + 3)))
        after[start:stop] = draw(st.lists(items, max_size=2))
    return before, after


def difference(before: list[Any], after: list[Any] | tuple[Any, ...]) -> ListDifference:
    return diff_list(codec.encode(before), after, codec.encode(after))


def apply(base: list[bytes], found: ListDifference) -> list[bytes]:
    """Apply a difference to encoded items, from front to back, checking what gives way."""
    result: list[bytes] = []
    at = 0
    for change in found.changes:
        assert at <= change.place
        assert change.gone
        result += base[at : change.place]
        at = change.place + len(change.gone)
        assert tuple(base[change.place : at]) == change.gone
        result += change.new
    return [*result, *base[at:], *found.appended]


def change(place: int, gone: list[Any], new: list[Any]) -> Change:
    return Change(place, *(tuple(codec.encode(each) for each in part) for part in (gone, new)))


def user(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@given(lists, lists)
@example([1], [11])
@example([11, 1], [1])
@example([1, 1], [1, 11])
@example(["x,", ","], [",", ",", "]q"])
@example([1, [7, 2]], [[2], 3])
def test_a_difference_is_exact(before: list[Any], after: list[Any]) -> None:
    found = difference(before, after)
    assert apply(codec.encode_each(before), found) == codec.encode_each(after)


@given(edited())
def test_a_difference_of_an_edited_list_is_exact(pair: tuple[list[Any], list[Any]]) -> None:
    before, after = pair
    found = difference(before, after)
    assert apply(codec.encode_each(before), found) == codec.encode_each(after)
    assert difference(before, tuple(after)) == found


@given(lists)
def test_nothing_is_found_where_nothing_changed(value: list[Any]) -> None:
    assert difference(value, value) == ListDifference((), ())


@given(lists, st.lists(items, min_size=1, max_size=3))
def test_an_append_changes_nothing(value: list[Any], more: list[Any]) -> None:
    found = difference(value, [*value, *more])
    assert found == ListDifference((), tuple(codec.encode_each(more)))


A, B, C, D, E = (user(letter * 3) for letter in "abcde")
Q, R, S = (user(text) for text in ("first question", "second question", "third question"))
P = PLACEHOLDER


@pytest.mark.parametrize(
    ("before", "after", "changes", "appended"),
    [
        pytest.param([A, B], [A, B, C], [], [C], id="append"),
        pytest.param([], [A, B], [], [A, B], id="append to nothing"),
        pytest.param([A, B], [], [(0, [A, B], [])], [], id="everything removed"),
        pytest.param([A, P], [A, assistant("x")], [(1, [P], [assistant("x")])], [], id="grow"),
        pytest.param([A, B, C], [A, C], [(1, [B], [])], [], id="delete"),
        pytest.param([A, B, C], [A, B], [(2, [C], [])], [], id="pop"),
        pytest.param([A, C], [A, B, C], [(0, [A, C], [A, B, C])], [], id="insert"),
        pytest.param([A], [B, A], [(0, [A], [B, A])], [], id="insert in front"),
        pytest.param([A, C], [B, A, C], [(0, [A], [B, A])], [], id="only one neighbour"),
        pytest.param(
            [A, B, C],
            [A, D, B, E, C],
            [(0, [A, B, C], [A, D, B, E, C])],
            [],
            id="insertions that share a neighbour",
        ),
        pytest.param([A, B, C, D], [C, D, E], [(0, [A, B], [])], [E], id="window"),
        pytest.param([A, B, C, D], [A, D, E], [(1, [B, C], [])], [E], id="window keeps first"),
        pytest.param(
            [A, B, C, P],
            [C, assistant("x"), E],
            [(0, [A, B], []), (3, [P], [assistant("x")])],
            [E],
            id="window and growth",
        ),
        pytest.param(
            [Q, assistant("no")],
            [Q, assistant("yes")],
            [(1, [assistant("no")], [assistant("yes")])],
            [],
            id="regenerate",
        ),
        pytest.param(
            [Q, assistant("A sentence")],
            [Q, assistant("A sentence. And one more."), R, P],
            [(1, [assistant("A sentence")], [assistant("A sentence. And one more.")])],
            [R, P],
            id="grow and append",
        ),
        pytest.param(
            [Q, assistant("no", id=1)],
            [Q, assistant("yes", id=1), R],
            [(1, [assistant("no", id=1)], [assistant("yes", id=1)])],
            [R],
            id="edit by id and append",
        ),
        pytest.param(
            [A, {"kind": "text"}],
            [A, B, C],
            [(1, [{"kind": "text"}], [B, C])],
            [],
            id="replaced by more items",
        ),
        pytest.param(
            [A, B, C],
            [D, B, E],
            [(0, [A], [D]), (2, [C], [E])],
            [],
            id="two replacements",
        ),
        pytest.param(
            [Q, P],
            [Q, assistant("x"), R, P],
            [(1, [P], [assistant("x")])],
            [R, P],
            id="filled, and a new placeholder behind",
        ),
        pytest.param(
            [Q, P, S],
            [Q, assistant("x"), R, P, S],
            [(1, [P], [assistant("x"), R, P])],
            [],
            id="filled, and a turn inserted",
        ),
        pytest.param(
            [Q, P, R, P],
            [Q, assistant("x"), R, P, S, P],
            [(1, [P], [assistant("x")])],
            [S, P],
            id="filled, and a turn with an equal placeholder behind",
        ),
        pytest.param(
            [user("a", id=1), user("b", id=2), user("c", id=3)],
            [user("b", id=2), user("c", id=3), user("a", id=1)],
            [(0, [user("a", id=1)], [])],
            [user("a", id=1)],
            id="moved to the end",
        ),
        pytest.param([1, 1, 1], [1, 1.0, True], [(1, [1, 1], [1.0, True])], [], id="types"),
    ],
)
def test_what_is_found(
    before: list[Any],
    after: list[Any],
    changes: list[tuple[int, list[Any], list[Any]]],
    appended: list[Any],
) -> None:
    found = difference(before, after)
    assert found.changes == tuple(change(*each) for each in changes)
    assert found.appended == tuple(codec.encode_each(appended))


def test_only_the_middle_is_encoded_item_by_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the equal items is parsed, and few are encoded one by one."""
    before = [user(f"question {number}") for number in range(2_000)]
    base = codec.encode(before)
    after = [*before[:1_000], user("changed"), *before[1_001:]]
    encoded = codec.encode(after)
    counts: list[int] = []
    decoded: list[int] = []
    each, decode = codec.encode_each, codec.decode

    def counting_each(run: Sequence[Any]) -> list[bytes]:
        counts.append(len(run))
        return each(run)

    def counting_decode(run: bytes) -> Any:
        decoded.append(len(run))
        return decode(run)

    monkeypatch.setattr(codec, "encode_each", counting_each)
    monkeypatch.setattr(codec, "decode", counting_decode)
    found = diff_list(base, after, encoded)
    assert found.changes == (change(1_000, [before[1_000]], [user("changed")]),)
    assert sum(counts) <= 6
    assert sum(decoded) <= 100


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1] * 3_000, [2] * 3_000),
        ([1] * 3_000, [1] * 1_500 + [2] + [1] * 1_000),
        ([1, 2] * 1_500, [2, 1, 1] * 1_000),
        ([user(str(n)) for n in range(2_000)], [assistant(str(n)) for n in range(2_500)]),
        ([user(str(n)) for n in range(2_000)], [user(str(n)) for n in reversed(range(2_000))]),
        ([{"id": n} for n in range(2_000)], [{"id": n} for n in reversed(range(2_000))]),
    ],
)
def test_long_lists_that_differ_everywhere_are_exact(before: list[Any], after: list[Any]) -> None:
    found = difference(before, after)
    assert apply(codec.encode_each(before), found) == codec.encode_each(after)


CHANGES = (change(1, [B], [D]), change(3, [D, E], []))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((0, 1, 2, 3, 4), (1, 3)),
        ((5, 6, 7, 8, 9), (6, 8)),
        ((None, 0, None, 1, 2), (0, 1)),
        ((0, 1, 2, 7, 8), (1, 7)),
        ((0, None, 2, 3, 4), None),
        ((0, 1, 2, 3, 5), None),
        ((0, 1, 2, 3, None), None),
        ((0, 1, 2, None, 4), None),
        ((0, 4, 3, 1, 2), None),
        ((0, 1, 2, 3), None),
    ],
)
def test_translate(places: tuple[int | None, ...], expected: tuple[int, int] | None) -> None:
    found = translate(CHANGES, places)
    if expected is None:
        assert found is None
    else:
        first, second = expected
        assert found == (change(first, [B], [D]), change(second, [D, E], []))


def test_many_scattered_changes_are_one() -> None:
    base = [{"n": number} for number in range(1_000)]
    value = [item | {"seen": True} if item["n"] % 2 else item for item in base]
    found = diff_list(codec.encode(base), value, codec.encode(value))
    assert len(found.changes) == 1
    assert found.changes[0].place == 1
    few = [item | {"seen": True} if item["n"] % 100 == 0 else item for item in base]
    assert len(diff_list(codec.encode(base), few, codec.encode(few)).changes) == 10
