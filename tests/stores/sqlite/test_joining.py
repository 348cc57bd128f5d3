"""Operations of one write with one list are done together: with the same result, at less cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import (
    Clear,
    Delete,
    Operation,
    PopLast,
    Push,
    Set,
    Truncate,
)
from flask_agentuity.stores import joining
from flask_agentuity.stores.joining import JoinedPushes, join_pushes
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write, Written

from .support import ID, require_consistent, statements

KEYS = st.sampled_from(["a", "b"])
WINDOWS = st.none() | st.integers(-1, 6)
OPERATIONS = st.lists(
    st.builds(Push, KEYS, st.just(b"0"), WINDOWS, st.sampled_from([0, 0, 0, 1, 3, -1]))
    | st.builds(Set, KEYS, st.sampled_from([b"1", b"[]", b"[8,9]"]))
    | st.builds(Delete, KEYS)
    | st.just(Clear()),
    max_size=14,
)


def numbered(operations: list[Operation]) -> list[Operation]:
    return [
        Push(each.key, b"%d" % (100 + number), each.max_records, each.keep_first)
        if isinstance(each, Push)
        else each
        for number, each in enumerate(operations)
    ]


def all_at_once(state: dict[str, bytes], run: JoinedPushes) -> None:
    """Push all items with the one window of a run."""
    key = run.pushes[0].key
    stored = state.setdefault(key, b"[]")
    if not codec.is_list(stored):
        return
    items = [*codec.items_of(stored), *(push.value for push in run.pushes)]
    if run.max_records is not None and len(items) > run.max_records:
        first = min(run.keep_first, run.max_records)
        items = [*items[:first], *items[first + len(items) - run.max_records :]]
    state[key] = codec.join_list(items)


@settings(max_examples=500, deadline=None)
@given(OPERATIONS, st.integers(0, 8))
def test_joined_pushes_have_the_result_of_all(operations: list[Operation], count: int) -> None:
    operations = numbered(operations)
    before = {"a": codec.join_list([b"%d" % number for number in range(count)]), "c": b"1"}
    expected, state = dict(before), dict(before)
    apply_operations(expected, operations)
    for step in join_pushes(operations):
        if isinstance(step, JoinedPushes):
            all_at_once(state, step)
        else:
            apply_operations(state, [step])
    assert list(state.items()) == list(expected.items())


@pytest.mark.parametrize(
    "pushes",
    [
        [Push("a", b"1", 10 + number % 2) for number in range(300)],
        [Push("a", b"1", 10 + number % 7, 3) for number in range(300)],
        [Push("a", b"1", None if number % 2 else 10) for number in range(300)],
        [Push("ab"[number % 2], b"1", 10) for number in range(300)],
        [Push("ab"[number % 2], b"1") for number in range(300)],
    ],
)
def test_pushes_with_any_windows_take_the_statements_of_one(
    tmp_path: Path, pushes: list[Push]
) -> None:
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        store.merge(ID, [Push("a", b"0"), Push("b", b"0")])
        with statements(store) as traced:
            store.merge(ID, pushes)
        assert len(traced) < 20
        state: dict[str, bytes] = {"a": b"[0]", "b": b"[0]"}
        apply_operations(state, pushes)
        stored = store.read(ID)
        assert stored is not None
        assert stored.encoded == state


SHORTENED = st.lists(
    st.builds(Push, KEYS, st.just(b"0"), WINDOWS, st.integers(0, 2))
    | st.builds(
        Push, KEYS, st.sampled_from([b'{"i":1}', b'{"i":2}', b"3"]), WINDOWS, unique=st.just("i")
    )
    | st.builds(Truncate, KEYS, st.integers(0, 5))
    | st.builds(PopLast, KEYS)
    | st.builds(Set, st.sampled_from(["a", "b", "d"]), st.sampled_from([b"1", b"[8,9]"]))
    | st.builds(Delete, KEYS),
    max_size=16,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path_factory.mktemp("joining") / "threads.db")) as opened:
        yield opened


@settings(max_examples=200, deadline=None)
@given(SHORTENED, st.integers(0, 4), st.booleans())
def test_a_list_that_is_written_again_is_as_after_each_operation(
    store: SQLiteStore, operations: list[Operation], count: int, seen: bool
) -> None:
    expected = {"a": codec.join_list([b"%d" % number for number in range(count)]), "c": b"1"}
    store.delete(ID)
    store.write(ID, Write([Set(key, value) for key, value in expected.items()]))
    snapshot = store.read(ID)
    assert snapshot is not None
    write = Write(operations, counted=("a", "b"), seen=snapshot.seen if seen else None)
    with mock.patch.object(joining, "MOST_OF_LIST", 1):
        written = store.write(ID, write)
    applied = apply_operations(expected, operations, counted=("a", "b"))
    assert isinstance(written, Written)
    assert written.preceding == applied.preceding
    stored = store.read(ID)
    assert stored is not None
    assert list(stored.encoded.items()) == list(expected.items())
    require_consistent(store.path)


@pytest.mark.parametrize(
    "operation",
    [
        lambda number: Push("a", b"1", 50, number % 2),
        lambda number: Push("a", b"1", 50 + number % 2, 60),
        lambda number: Truncate("a", 50) if number % 2 else Push("a", b"1"),
        lambda number: PopLast("a") if number % 2 else Push("a", b"1"),
        lambda number: Push("a", b'{"i":%d}' % number, 50, unique="i"),
    ],
)
def test_many_operations_write_a_list_once(
    tmp_path: Path, operation: Callable[[int], Operation]
) -> None:
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        store.merge(ID, [Push("a", b"0") for _ in range(60)])
        with statements(store) as traced:
            store.merge(ID, [operation(number) for number in range(400)])
        assert len(traced) < 30
