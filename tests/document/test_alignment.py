from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import subsequences
from flask_agentuity.document.alignment import Items, align, forget_ambiguous, identity
from flask_agentuity.document.likeness import ALIKE, is_filled, likeness, may_replace
from flask_agentuity.document.subsequences import Block, common_subsequence, longest_ascending


def message(content: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def partners(old: list[Any], new: list[Any], **options: Any) -> list[int]:
    first, second = Items(old), Items(new)
    forget_ambiguous(first, second)
    return align(first, second, **options)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [1], []),
        ([1], [], [-1]),
        ([1, 2, 3], [1, 2, 3], [0, 1, 2]),
        ([1, 2, 3], [0, 1, 3], [1, -1, 2]),
        ([1, 2, 3], [2, 3, 1], [-1, 0, 1]),
        ([1, 2, 3], [1, 9, 3], [0, 1, 2]),
        ([1, 2, 3, 4], [1, 8, 9, 4], [0, 1, 2, 3]),
        ([1, 2, 3, 4], [1, 7, 8, 9, 4], [0, -1, -1, 4]),
        ([1, 1, 2, 1], [1, 2, 1], [0, -1, 1, 2]),
        ([1], [True], [0]),
        ([{"id": 1}, {"id": 2}], [{"id": 2, "a": 1}, {"id": 3}], [-1, 0]),
        ([{"id": 1}], [{"id": 2}], [-1]),
        ([{"id": 1, "a": 1}], [{"id": "1", "a": 1}], [-1]),
        ([{"id": 1, "a": 1}], [{"id": True, "a": 1}], [-1]),
        ([{"id": 1, "a": 1, "b": 1}], [{"a": 1, "b": 1}], [0]),
        ([{"id": 1, "a": 1, "b": 1}], [{"id": 2, "a": 1, "b": 1}], [-1]),
        ([{"id": 1}, {"id": 1, "a": 1}], [{"id": 1, "a": 1}], [-1, 0]),
        ([message("a b c d e")], [message("q", "user"), message("a b c d!")], [1]),
        ([message("ab"), message("")], [message("abc"), message("x"), 5, message("")], [0, 1]),
        ([message("one"), message("two")], [message("two and more"), message("x")], [-1, 0]),
        ([message("a", "user")], [message("b")], [-1]),
        ([message("a", "user")], [message("a")], [0]),
    ],
)
def test_align(old: list[Any], new: list[Any], expected: list[int]) -> None:
    assert partners(old, new) == expected


def test_only_what_is_the_same_is_matched_where_that_is_asked_for() -> None:
    old = [message("q"), message(""), message("", id=1)]
    new = [message("q"), message("x"), message(""), message("y", id=1)]
    assert partners(old, new, same_only=True) == [0, 2, 3]
    assert partners(old, new) == [0, 1, 3]


lists = st.lists(
    st.integers(0, 3)
    | st.builds(message, st.sampled_from(["", "a", "ab"]))
    | st.builds(message, st.sampled_from(["", "a", "ab"]), id=st.integers(0, 3)),
    max_size=10,
)


@given(lists, lists, st.booleans(), st.sampled_from([0, 3, 10_000]))
def test_partners_ascend_and_ids_are_respected(
    old: list[Any], new: list[Any], same_only: bool, largest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_agentuity.document.alignment._LARGEST_BLOCK", largest)
        patch.setattr("flask_agentuity.document.alignment._LARGEST_ALIKE_BLOCK", largest)
        found = partners(old, new, same_only=same_only)
    matched = [partner for partner in found if partner >= 0]
    assert matched == sorted(set(matched))
    first, second = Items(old), Items(new)
    forget_ambiguous(first, second)
    for index, partner in enumerate(found):
        if partner >= 0:
            both = first.identities[index], second.identities[partner]
            assert both[0] == both[1] or None in both
            assert not same_only or both[0] or first.encoded[index] == second.encoded[partner]


def test_items_of_a_long_list_of_few_values_are_matched() -> None:
    """Not one item is unique, but runs of neighbours are."""
    generator = random.Random(1)
    old = generator.choices("abcdefgh", k=3_000)
    kept = [index for index in range(3_000) if generator.random() > 0.05]
    found = partners(old, [old[index] for index in kept])
    right = sum(found[index] == place for place, index in enumerate(kept))
    assert right > 0.98 * len(kept)


def test_versions_of_a_long_list_are_matched_where_one_was_dropped() -> None:
    generator = random.Random(1)
    old = [message("".join(generator.choices("abcdefgh ", k=20))) for _ in range(300)]
    new = [message(each["content"] + ".") for each in old[1:]]
    assert partners(old, [*new, "new"])[1:] == list(range(299))


def test_a_long_list_of_other_items_is_paired_by_position() -> None:
    old, new = [f"{number}" * 9 for number in range(300)], [f"-{n}" for n in range(300)]
    assert partners(old, new) == list(range(300))
    assert partners(old, new[1:]) == [-1] * 300


@given(st.permutations(range(8)))
def test_longest_ascending(order: list[int]) -> None:
    found = longest_ascending(list(enumerate(order)))
    assert found == sorted(found)
    assert [partner for _, partner in found] == sorted(partner for _, partner in found)
    best = [1] * len(order)
    for index, each in enumerate(order):
        best[index] += max((best[i] for i in range(index) if order[i] < each), default=0)
    assert len(found) == max(best)


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_common_subsequence(first: str, second: str) -> None:
    old, new = ([each.encode() for each in text] for text in (first, second))
    found = common_subsequence(old, new, Block(0, len(old), 0, len(new)))
    assert found == sorted(set(found))
    assert [j for _, j in found] == sorted({j for _, j in found})
    assert all(old[i] == new[j] for i, j in found)
    best = {(0, 0): 0}
    for i in range(len(old) + 1):
        for j in range(len(new) + 1):
            skipped = max(best.get((i - 1, j), 0), best.get((i, j - 1), 0))
            same = i and j and old[i - 1] == new[j - 1]
            best[i, j] = max(skipped, best[i - 1, j - 1] + 1) if same else skipped
    assert len(found) == best[len(old), len(new)]


def test_pairs_of_equal_number() -> None:
    old, new = [b"a", b"b", b"a", b"c"], [b"b", b"a", b"c", b"c", b"a"]
    found = subsequences.pairs_of_equal_number(old, new, Block(0, 4, 0, 5))
    assert found == [(0, 1), (1, 0), (2, 4)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": "a"}, ("id", "a")),
        ({"id": 0, "message_id": 1}, ("id", 0)),
        ({"id": "", "message_id": "b"}, ("message_id", "b")),
        ({"id": None}, None),
        ({"id": 1.5}, None),
        ({"id": True}, None),
        ({"id": [1]}, None),
        (["id"], None),
        ("id", None),
    ],
)
def test_identity(value: Any, expected: Any) -> None:
    assert identity(value) == expected


@pytest.mark.parametrize(
    ("old", "new", "filled"),
    [
        (message(""), message("x"), True),
        (message(""), message("x", done=True), True),
        (message(None), message("x"), True),
        (message([]), message(["x"]), True),
        (message([{"text": ""}]), message([{"text": "x"}, {"text": "y"}]), True),
        ("", "x", True),
        (message(""), message(""), False),
        (message(""), message("x", "user"), False),
        (message("x"), message("xy"), False),
        (message("x", name=""), message("y", name="n"), False),
        (message("", old=1), message("x"), False),
        ("x", "", False),
    ],
)
def test_is_filled(old: Any, new: Any, filled: bool) -> None:
    assert is_filled(old, new) is filled


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        (message("A sentence."), message("A sentence. Another."), True),
        (message("A sentence."), message("A sentense."), True),
        (message(""), message("x"), True),
        (message(None), message("x"), True),
        (message([]), message(["x"]), True),
        (message("yes"), message("no"), False),
        (message("", "user"), message("x"), False),
        (message("a", rating=1), message("a", rating=2), True),
        (message("yes", name=None, tools=[]), message("no", name=None, tools=[]), False),
        (message("a"), message("a", id=1), True),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 4}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1, 2, 3], [1, 2, 4], True),
        ([1, 2], [3, 4], False),
        ("x" * 2_000, "x" * 2_000 + "y", True),
        ("x" * 2_000, "y" * 2_000, False),
        (1, 2, False),
        (1, True, False),
        ("1", 1, False),
    ],
)
def test_likeness(old: Any, new: Any, alike: bool) -> None:
    assert (likeness(old, new) > ALIKE) is alike


def test_the_kind_of_an_item_does_not_change_with_everything_else() -> None:
    assert may_replace(message("a"), message("b"))
    assert may_replace({"type": "a", "n": 1}, {"type": "b", "n": 1})
    assert not may_replace({"type": "a", "n": 1}, {"type": "b", "n": 2})
    assert may_replace("a", {"type": "b"})
