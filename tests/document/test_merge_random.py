"""Three-way merges of random edits, against what must be true of any merge."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.diff import diff_list
from flask_agentuity.document.merge import Merged, merge_value, optimistic, rebase
from flask_agentuity.document.operations import Edit

contents = st.sampled_from(["", "a", "ab", "abc", "x"])
plain_items = st.sampled_from([1, 1.0, True, "", "a", [], [1]]) | st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    contents,
)


def merge(base: Any, mine: Any, theirs: Any) -> Merged:
    return merge_value("state", *(codec.encode(each) for each in (base, mine, theirs)))


def ids(items: Any) -> list[int]:
    return [each["id"] for each in items]


@st.composite
def edits(
    draw: st.DrawFn, base: list[Any], new: st.SearchStrategy[Any], move: bool = True
) -> list[Any]:
    """The list *base* after a few edits of the kinds that an app makes."""
    items: list[Any] = json.loads(json.dumps(base))
    kinds = ["append", "insert", "delete", "change", "drop first"] + ["move"] * move
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        index = draw(st.integers(0, max(0, len(items) - 1)))
        if kind == "append":
            items.append(draw(new))
        elif kind == "insert":
            items.insert(index, draw(new))
        elif not items:
            continue
        elif kind == "delete":
            del items[index]
        elif kind == "drop first":
            del items[0]
        elif kind == "move":
            items.append(items.pop(index))
        elif isinstance(items[index], dict):
            items[index]["content"] = draw(contents)
            items[index][draw(st.sampled_from(["seen", "rating"]))] = draw(st.integers(0, 2))
        else:
            items[index] = draw(new)
    return items


@st.composite
def identified(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[Any]]:
    """A base and two versions of it. All items have ids; both may insert the same ones."""
    numbers = itertools.count()
    fresh = st.builds(lambda content: {"id": next(numbers), "content": content}, contents)
    base = draw(st.lists(fresh, max_size=6))
    first = next(numbers)
    shared = st.builds(
        lambda number, content: {"id": first + number, "content": content},
        st.integers(1, 2),
        contents,
    )
    mine, theirs = (
        list({each["id"]: each for each in draw(edits(base, fresh | shared))}.values())
        for _ in range(2)
    )
    later = 1_000_000
    for side, items in enumerate((mine, theirs)):
        for each in items:
            if each["id"] > first + 2:
                each["id"] += later * (side + 1)
    return base, mine, theirs


@st.composite
def anonymous(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[Any]]:
    base = draw(st.lists(plain_items, max_size=6))
    return base, draw(edits(base, plain_items)), draw(edits(base, plain_items))


@given(identified())
def test_ids_are_never_lost_and_never_doubled(versions: tuple[list[Any], ...]) -> None:
    base, mine, theirs = versions
    before, ours, others = (set(ids(each)) for each in versions)
    expected = (before & ours & others) | ((ours | others) - before)
    for merged in (merge(base, mine, theirs), merge(base, theirs, mine)):
        assert merged.value is not None
        assert sorted(ids(json.loads(merged.value))) == sorted(expected)


@given(identified())
def test_every_change_of_one_side_alone_is_there(versions: tuple[list[Any], ...]) -> None:
    base, mine, theirs = versions
    merged = merge(base, mine, theirs)
    assert merged.value is not None
    before, ours, others, result = (
        {each["id"]: each for each in items} for items in (*versions, json.loads(merged.value))
    )
    for number, found in result.items():
        old, my, their = (version.get(number, {}) for version in (before, ours, others))
        for name in {*old, *my, *their}:
            expected = their if my.get(name) == old.get(name) and number in others else my
            assert found.get(name) == expected.get(name)
    assert merged.places is not None
    for each, place in zip(mine, merged.places, strict=True):
        assert (place is None) == (each["id"] not in result)
        assert place is None or ids(json.loads(merged.value))[place] == each["id"]


@given(identified())
def test_deletions_do_not_depend_on_the_order(versions: tuple[list[Any], ...]) -> None:
    base, mine, theirs = versions
    gone = set(ids(base)) - (set(ids(mine)) & set(ids(theirs)))
    one, other = merge(base, mine, theirs), merge(base, theirs, mine)
    for merged in (one, other):
        assert merged.value is not None
        assert not gone & set(ids(json.loads(merged.value)))


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Two versions that edit and delete different items of unique ones, and what both make."""
    base: list[Any] = [{"role": "user", "content": f"message {number}"} for number in range(8)]
    owners = draw(st.lists(st.sampled_from("mtb"), min_size=8, max_size=8))
    lists: dict[str, list[Any]] = {"m": [], "t": [], "both": []}
    for item, owner in zip(base, owners, strict=True):
        change = draw(st.sampled_from(["grow", "delete", "mark"]))
        if change == "grow":
            edited = [{**item, "content": item["content"] + " and more"}]
        else:
            edited = [] if change == "delete" else [{**item, "seen": True}]
        for side, items in lists.items():
            items.extend(edited if side == owner or (side == "both" and owner != "b") else [item])
    for items in (base, *lists.values()):
        # If the last item were removed, what is appended would take its place.
        items.append("last")
    return base, lists["m"], lists["t"], lists["both"]


@given(disjoint(), st.booleans(), st.booleans())
def test_disjoint_edits_and_appends_survive_in_any_order(
    versions: tuple[list[Any], ...], push: bool, push_theirs: bool
) -> None:
    base, mine, theirs, both = versions
    ours, others = [{"role": "user", "content": "new"}] * push, ["theirs"] * push_theirs
    merged = merge(base, [*mine, *ours], [*theirs, *others])
    assert merged.value == codec.encode([*both, *others, *ours])
    assert (merged.dropped, merged.overridden) == ((), ())
    if not push and not push_theirs:
        assert merge(base, theirs, mine).value == merged.value


@given(identified() | anonymous(), st.integers(0, 3))
def test_appends_survive_together(versions: tuple[list[Any], ...], count: int) -> None:
    base, changed, _ = versions
    more = [f"new {number}" for number in range(count)]
    assert merge(base, [*base, *more], changed).value == codec.encode([*changed, *more])
    merged = merge(base, changed, [*base, *more])
    assert merged.value is not None
    result = json.loads(merged.value)
    assert [each for each in result if each in more] == more
    assert codec.encode([each for each in result if each not in more]) == codec.encode(changed)


@given(st.lists(plain_items, max_size=5), st.data())
def test_fields_of_objects_are_merged_key_by_key(items: list[Any], data: st.DataObject) -> None:
    names = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4)
    base, mine, theirs = (data.draw(names) for _ in range(3))
    merged = merge({"x": base, "y": items}, {"x": mine, "y": items}, {"x": theirs, "y": items})
    if mine == theirs == base:
        return
    assert merged.value is not None
    result = json.loads(merged.value)["x"]
    for name in "abcd":
        old, my, their = (version.get(name) for version in (base, mine, theirs))
        deleted = old is not None and (my is None or their is None)
        expected = None if deleted else their if my == old else my
        assert result.get(name) == expected


@given(identified() | anonymous())
def test_an_edit_brings_what_is_stored_to_the_merged_value(
    versions: tuple[list[Any], ...],
) -> None:
    """Before the conflict, after it, and in the store itself."""
    base, mine, theirs = (codec.encode(each) for each in versions)
    if base == mine:
        return
    merged = merge_value('state["k"]', base, mine, theirs)
    edit = Edit("k", base, mine)
    difference = diff_list(base, versions[1], mine)
    for each in (edit, Edit("k", base, mine, difference.changes, difference.appended)):
        state = {"k": base}
        assert not apply_operations(state, optimistic(each) or ()).conflicts
        assert state == {"k": mine}
    rebased = rebase(edit, theirs, 5)
    assert rebased.merged == merged
    state = {"k": theirs}
    assert not apply_operations(state, rebased.operations).conflicts
    assert state == {"k": merged.value}
    state = {"k": theirs}
    assert apply_operations(state, [edit]).merged == {"k": merged}
    assert state == {"k": merged.value}
