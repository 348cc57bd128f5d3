from __future__ import annotations

import json
from typing import Any

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.diff import diff_list
from flask_agentuity.document.merge import Merged, optimistic, rebase, rebase_metadata
from flask_agentuity.document.operations import (
    Change,
    Edit,
    EditMetadata,
    Operation,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    Splice,
)

ONE, TWO = {"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}
P = {"role": "assistant", "content": ""}
PATH = 'state["k"]'
ONLY_IF_MISSING = Set("k", b"[]", only_if_missing=True)


def edit(base: Any, value: Any, **more: Any) -> Edit:
    """An edit as a request finds it; *base* may be None for a missing key."""
    encoded, before = codec.encode(value), None if base is None else codec.encode(base)
    if isinstance(base, list) and isinstance(value, list):
        assert before is not None
        difference = diff_list(before, value, encoded)
        more = {"changes": difference.changes, "appended": difference.appended, **more}
    return Edit("k", before, encoded, since=3, **more)


def encoded(*values: Any) -> tuple[bytes, ...]:
    return tuple(codec.encode_each(values))


def pushes(*values: Any) -> tuple[Push, ...]:
    return tuple(Push("k", item) for item in encoded(*values))


def applied(operations: tuple[Operation, ...], stored: Any) -> Any:
    state = {} if stored is None else {"k": codec.encode(stored)}
    result = apply_operations(state, operations)
    assert not result.conflicts
    assert not result.skipped
    return json.loads(state["k"]) if state else None


@pytest.mark.parametrize(
    ("made", "operations"),
    [
        pytest.param(edit([1], [1, 2]), pushes(2), id="append"),
        pytest.param(edit([], [1, 2]), pushes(1, 2), id="append to an empty list"),
        pytest.param(
            edit([1, P], [1, ONE, 2]),
            (Splice("k", (Change(1, encoded(P), encoded(ONE)),), 3), *pushes(2)),
            id="edit and append",
        ),
        pytest.param(edit(None, [1, 2]), (ONLY_IF_MISSING, *pushes(1, 2)), id="a new list"),
        pytest.param(edit(None, []), (ONLY_IF_MISSING,), id="a new empty list"),
        pytest.param(edit(None, 1), (Replace("k", None, b"1", 3),), id="a new value"),
        pytest.param(edit(1, 2), (Replace("k", b"1", b"2", 3),), id="a value"),
        pytest.param(edit([1], 2), (Replace("k", b"[1]", b"2", 3),), id="no list any more"),
        pytest.param(edit(1, [2]), (Replace("k", b"1", b"[2]", 3),), id="a list now"),
        pytest.param(edit([1, 2], [2], uncertain=True), None, id="uncertain"),
        pytest.param(
            edit([1, P], [1, ONE], places=(2, 5)),
            (Splice("k", (Change(5, encoded(P), encoded(ONE)),), 3),),
            id="items that are elsewhere",
        ),
        pytest.param(edit([1, P], [1, ONE], places=(2, None)), None, id="an item that is gone"),
        pytest.param(
            edit([1, P], [1, ONE], changes=None, appended=()),
            (Splice("k", (Change(1, encoded(P), encoded(ONE)),), 3),),
            id="a difference that was not found before",
        ),
        pytest.param(
            edit([1], [1, 2], function=lambda stored: b"0"),
            (Replace("k", b"[1]", b"[1,2]", 3),),
            id="a function has seen the whole value",
        ),
    ],
)
def test_optimistic(made: Edit, operations: tuple[Operation, ...] | None) -> None:
    assert optimistic(made) == operations


def test_an_optimistic_splice_brings_the_whole_list_unless_it_is_partial() -> None:
    (splice,) = optimistic(edit([1, P], [1, ONE])) or ()
    assert isinstance(splice, Splice)
    assert splice.whole == codec.encode([1, ONE])
    (splice,) = optimistic(edit([P], [ONE], places=(4,), partial=True)) or ()
    assert isinstance(splice, Splice)
    assert (splice.whole, splice.changes[0].place) == (None, 4)


@pytest.mark.parametrize(
    ("made", "stored", "operations", "merged"),
    [
        pytest.param(
            edit([1], [1, 2]),
            [1, 9],
            pushes(2),
            Merged(b"[1,9,2]", (0, 2)),
            id="append, append",
        ),
        pytest.param(
            edit(["a", "b"], ["a", "B"]),
            ["a", "b", "c"],
            (Splice("k", (Change(1, encoded("b"), encoded("B")),), 7),),
            Merged(b'["a","B","c"]', (0, 1)),
            id="edit, append",
        ),
        pytest.param(
            edit(["a", P], ["a", ONE, "m"]),
            [P, "t"],
            (Splice("k", (Change(0, encoded(P), encoded(ONE)),), 7), *pushes("m")),
            Merged(codec.encode([ONE, "t", "m"]), (None, 0, 2)),
            id="edit and append, window",
        ),
        pytest.param(
            edit(["a"], ["b"]), [], (), Merged(b"[]", (None,), (f"{PATH}[0]",)), id="edit, delete"
        ),
        pytest.param(
            edit({"a": 1}, {"a": 2}),
            {"a": 1, "b": 1},
            (Replace("k", b'{"a":1,"b":1}', b'{"a":2,"b":1}', 7),),
            Merged(b'{"a":2,"b":1}'),
            id="different keys",
        ),
        pytest.param(
            edit(1, 2),
            3,
            (Replace("k", b"3", b"2", 7),),
            Merged(b"2", overridden=(PATH,)),
            id="the same scalar",
        ),
        pytest.param(
            edit([1], [2]),
            {"a": 1},
            (Replace("k", b'{"a":1}', b"[2]", 7),),
            Merged(b"[2]", (0,), overridden=(PATH,)),
            id="another type",
        ),
        pytest.param(edit(1, 2), None, (), Merged(None, dropped=(PATH,)), id="edit, removed key"),
        pytest.param(
            edit([1], [2]),
            None,
            (),
            Merged(None, (None,), (PATH,)),
            id="edit, removed list",
        ),
        pytest.param(
            edit([1], [1, 2]),
            None,
            pushes(2),
            Merged(b"[2]", (None, 0)),
            id="push, removed list",
        ),
        pytest.param(
            edit([1, P], [1, ONE, 2]),
            None,
            pushes(2),
            Merged(b"[2]", (None, None, 0), (PATH,)),
            id="edit and push, removed list",
        ),
        pytest.param(
            edit(None, [1]),
            None,
            (ONLY_IF_MISSING, *pushes(1)),
            Merged(b"[1]", (0,)),
            id="a new list, still missing",
        ),
        pytest.param(
            edit(None, 1),
            None,
            (Replace("k", None, b"1", 7),),
            Merged(b"1"),
            id="a new value, still missing",
        ),
        pytest.param(
            edit(None, [1]), [2], pushes(1), Merged(b"[2,1]", (1,)), id="both begin a list"
        ),
        pytest.param(
            edit(None, {"a": 1}),
            {"b": 1},
            (Replace("k", b'{"b":1}', b'{"b":1,"a":1}', 7),),
            Merged(b'{"b":1,"a":1}'),
            id="both begin an object",
        ),
    ],
)
def test_rebase(made: Edit, stored: Any, operations: tuple[Operation, ...], merged: Merged) -> None:
    before = None if stored is None else codec.encode(stored)
    rebased = rebase(made, before, 7)
    assert rebased.operations == operations
    assert rebased.merged == merged
    expected = None if merged.value is None else json.loads(merged.value)
    assert applied(operations, stored) == expected
    assert applied((made,), stored) == expected


@pytest.mark.parametrize(
    ("made", "stored", "operations", "merged"),
    [
        (edit(1, 2), 5, (), Merged(b"5", dropped=(PATH,))),
        (edit({"a": 1}, {"a": 2}), {"a": 1, "b": 2}, (), Merged(b'{"a":1,"b":2}', dropped=(PATH,))),
        (edit(["a"], ["b"]), ["a", "c"], (), Merged(b'["a","c"]', (None,), (PATH,))),
        (edit(["a"], ["b", "m"]), ["a"], (), Merged(b'["a"]', (None, None), (PATH,))),
        (edit([P], [ONE, "m"]), [P], (), Merged(codec.encode([P]), (None, None), (PATH,))),
        (edit(["a"], ["a", "m"]), ["t"], pushes("m"), Merged(b'["t","m"]', (None, 1))),
        (edit(None, ["m"]), ["t"], pushes("m"), Merged(b'["t","m"]', (1,))),
        (edit(["a"], ["a", "m"]), "t", (), Merged(b'"t"', (None, None), (PATH,))),
    ],
)
def test_what_was_assigned_meanwhile_wins_over_an_edit_but_not_over_a_push(
    made: Edit, stored: Any, operations: tuple[Operation, ...], merged: Merged
) -> None:
    rebased = rebase(made, codec.encode(stored), 7, assigned=True)
    assert (rebased.operations, rebased.merged) == (operations, merged)
    state = {"k": codec.encode(stored)}
    result = apply_operations(state, [made], assigned={"k": made.since + 1})
    assert (state["k"], result.merged["k"]) == (merged.value, merged)
    assert not result.conflicts


def test_places_find_items_that_are_not_unique() -> None:
    """Without the places it would be the first of the equal items."""
    made = edit([P], [ONE], places=(2,))
    assert rebase(made, codec.encode([P, "x", P, "y"]), 7).merged.value == codec.encode(
        [P, "x", ONE, "y"]
    )


def test_places_hold_where_another_request_has_filled_a_placeholder() -> None:
    made = edit([P, P], [P, ONE], places=(0, 2))
    merged = rebase(made, codec.encode([TWO, "x", P, "y"]), 7).merged
    assert merged.value == codec.encode([TWO, "x", ONE, "y"])


def test_places_that_are_not_right_any_more_are_not_used() -> None:
    made = edit(["q", P], ["q", ONE], places=(1, 2))
    merged = rebase(made, codec.encode(["q", P, "r"]), 7).merged
    assert merged == Merged(codec.encode(["q", ONE, "r"]), (0, 1))


def test_a_partial_edit_changes_its_own_items_only() -> None:
    made = edit([P], [ONE], uncertain=True, places=(None,), partial=True)
    merged = rebase(made, codec.encode(["q", P, "r", "s"]), 7).merged
    assert merged == Merged(codec.encode(["q", ONE, "r", "s"]), (1,))
    made = edit(["q", P], ["q", ONE], uncertain=True, places=(None, None), partial=True)
    merged = rebase(made, codec.encode(["x", "q", P, "r", P]), 7).merged
    assert merged == Merged(codec.encode(["x", "q", ONE, "r", P]), (1, 2))


def test_a_partial_edit_takes_no_other_item_for_its_own() -> None:
    made = edit([P], [ONE], uncertain=True, places=(None,), partial=True)
    for stored in (["q"], ["q", TWO], [TWO], []):
        rebased = rebase(made, codec.encode(stored), 7)
        assert rebased.operations == ()
        assert rebased.merged == Merged(codec.encode(stored), (None,), (f"{PATH}[0]",))
    for value in (1, None):
        before = None if value is None else codec.encode(value)
        assert rebase(made, before, 7).merged == Merged(before, (None,), (PATH,))


def test_a_function_is_called_again() -> None:
    def add_tag(stored: bytes | None) -> bytes:
        tags = json.loads(stored or b"[]")
        return codec.encode(tags if "new" in tags else [*tags, "new"])

    made = edit(["a"], ["a", "new"], function=add_tag)
    rebased = rebase(made, b'["a","b"]', 7, assigned=True)
    assert rebased.operations == (Replace("k", b'["a","b"]', b'["a","b","new"]', 7),)
    assert rebased.merged == Merged(b'["a","b","new"]', (0, 2))
    assert rebase(made, b'["new"]', 7).operations == ()
    assert rebase(made, None, 7).operations == (Replace("k", None, b'["new"]', 7),)


def test_metadata_is_merged_key_by_key() -> None:
    made = EditMetadata(b'{"a":1,"b":1,"c":1}', b'{"a":2,"b":1}')
    assert rebase_metadata(made, b'{"a":1,"b":2,"c":1,"d":1}') == ReplaceMetadata(
        b'{"a":1,"b":2,"c":1,"d":1}', b'{"a":2,"b":2,"d":1}'
    )
    assert rebase_metadata(made, b'{"a":2,"b":1}') is None
    assert rebase_metadata(made, b"{}") is None
    assert rebase_metadata(made, made.base) == ReplaceMetadata(made.base, made.value)
