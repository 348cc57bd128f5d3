"""Lists as segments: wherever items come and go, the list is that of the pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from flask_agentuity.stores.sqlite import packing, schema
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from .support import (
    ID,
    connected,
    items_of,
    require_consistent,
    splice,
    tiny_segments,
    written,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, timeout=30)) as store, tiny_segments():
        yield store


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def listed(count: int) -> Set:
    return Set("messages", codec.join_list(numbers(count)))


def rows_of(path: Path) -> list[tuple[int, str]]:
    with connected(path) as connection:
        found = connection.execute("SELECT number, body FROM segments ORDER BY number").fetchall()
    return [(number, body.decode()) for number, body in found]


# ----------------------------------------------------------------- against pure functions

KEYS = ("a", "b")
LONG = codec.join_list([b"%d" % number for number in range(40)])
values = st.sampled_from([b"1", b"22", b"null", b'"%b"' % (b"x" * 30), b'{"id":1}', b'{"id":"b"}'])
keys = st.sampled_from(KEYS)
pushes = st.lists(st.builds(Push, keys, values), min_size=1, max_size=4)
blind = st.one_of(
    st.builds(Push, keys, values, st.integers(0, 50), st.integers(0, 4)),
    st.builds(Push, keys, st.sampled_from([b'{"id":1}', b'{"id":"b"}']), unique=st.just("id")),
    st.builds(Truncate, keys, st.integers(0, 30)),
    st.builds(PopLast, keys),
    st.builds(PopLast, keys),
    st.builds(Set, keys, st.sampled_from([LONG, LONG, LONG, b"[]", b"7", b"[[1],2]"])),
    st.builds(Set, keys, st.just(b'"%b"' % (b"y" * 1_200)), st.booleans()),
    st.builds(Increment, keys, st.sampled_from([1, -0.5])),
    st.builds(SetMetadata, st.sampled_from([b"{}", b'{"m":1}', b'{"m":2,"n":[1]}'])),
    st.one_of(st.builds(Delete, keys), st.just(Clear())),
)
# Places as parts of the list's length, items to go, new items; 0: other items are named.
change = st.tuples(st.floats(0, 1), st.integers(1, 7), st.lists(values, max_size=6))
splices = st.tuples(keys, st.lists(change, min_size=1, max_size=3), st.integers(0, 9))
instructions = st.lists(
    st.tuples(
        st.lists(splices, max_size=1),
        st.one_of(pushes, pushes, st.just([]), st.lists(blind, max_size=3)),
        st.integers(0, 3),
    ),
    min_size=6,
    max_size=16,
)


def make_splice(
    state: dict[str, bytes], key: str, changes: list[tuple[float, int, list[bytes]]], miss: int
) -> Splice | None:
    items = codec.items_of(state[key]) if codec.is_list(state.get(key, b"")) else []
    made: list[Change] = []
    for part, count, new in sorted(changes, key=lambda change: change[0]):
        place = int(part * max(0, len(items) - 1))
        gone = items[place : place + count]
        if gone and (not made or place >= made[-1].place + len(made[-1].gone)):
            made.append(Change(place, tuple(gone), tuple(new)))
    if made and miss == 0:
        made[-1] = Change(made[-1].place, (*made[-1].gone[:-1], b'"another"'), made[-1].new)
    return Splice(key, tuple(made), since=1 << 62) if made else None


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(instructions=instructions, stride=st.sampled_from([1, 2, 4]))
def test_any_writes_leave_what_the_pure_functions_leave(
    tmp_path_factory: pytest.TempPathFactory, instructions: list[Any], stride: int
) -> None:
    path = tmp_path_factory.mktemp("segments") / "threads.db"
    state: dict[str, bytes] = {"a": LONG, "b": b'[1,{"id":1},null]'}
    stamps: dict[str, int] = {}
    with closing(SQLiteStore(path)) as store, tiny_segments(stride=stride, bits=3):
        written(store, *(Set(key, value) for key, value in state.items()))
        seen: object = None
        for splices, operations, way in instructions:
            made = [make_splice(state, *arguments) for arguments in splices]
            steps: list[Operation] = [*filter(None, made), *operations]
            after = dict(state)
            applied = apply_operations(after, steps, counted=KEYS, assigned=stamps)
            if way == 1:
                snapshot = store.read(ID, KEYS)
                seen = snapshot.seen if snapshot else None
            # 0: nothing was seen; 2 and 3: by the write before, or longer ago.
            outcome = store.write(ID, Write(steps, seen=seen if way else None, counted=KEYS))
            if applied.conflicts:
                assert isinstance(outcome, Conflict)
                assert set(outcome.keys) == applied.conflicts
            else:
                assert isinstance(outcome, Written)
                assert dict(outcome.preceding) == applied.preceding
                state = after
                seen = outcome.seen if way != 3 else seen
                stamps = {key: at for key, at in stamps.items() if key not in applied.removed}
                stamps |= dict.fromkeys(applied.assigned, outcome.version)
            found = store.read(ID)
            assert (found.encoded if found else {}) == state
            require_consistent(path)


# ------------------------------------------------------------------------- splitting rows


def test_an_edit_that_fits_stays_in_its_row(store: SQLiteStore, path: Path) -> None:
    written(store, listed(30))
    before = rows_of(path)
    written(store, splice(1, [b"1"], [b"1111"]), splice(29, [b"29"], [b"2929"]))
    changed = [(old, new) for old, new in zip(before, rows_of(path), strict=True) if old != new]
    assert [(old[1], new[1]) for old, new in changed] == [
        ("0,1,2,3,4,5", "0,1111,2,3,4,5"),
        ("27,28,29", "27,28,2929"),
    ]
    assert [old[0] for old, _ in changed] == [new[0] for _, new in changed]


def test_a_full_row_within_the_list_is_split_in_the_middle(store: SQLiteStore, path: Path) -> None:
    written(store, listed(30))
    before = rows_of(path)
    written(store, splice(14, [b"14"], [b"777", b"888", b"999", b"14"]))
    after = rows_of(path)
    (old,) = set(before) - set(after)
    new = sorted(set(after) - set(before))
    assert ",".join(body for _, body in new) == old[1].replace("14", "777,888,999,14")
    # The others stay where they are.
    assert len(after) == len(before) + 1
    assert new[0][0] == old[0]
    sizes = [len(body) for _, body in new]
    assert max(sizes) < 2 * min(sizes)


def test_items_in_front_get_a_row_of_their_own(store: SQLiteStore, path: Path) -> None:
    """A list with the newest item first costs as little as one with the newest last."""
    written(store, listed(10))
    full = rows_of(path)
    for number in range(100, 130):
        written(store, splice(0, [items_of(store)[0]], [b"%d" % number, items_of(store)[0]]))
    rows = rows_of(path)
    assert rows[-len(full) + 1 :] == full[1:]
    assert all(len(body) >= 6 for _, body in rows[1:])
    assert items_of(store) == [*(b"%d" % n for n in range(129, 99, -1)), *numbers(10)]


def test_the_last_item_grows_into_a_row_of_its_own(store: SQLiteStore, path: Path) -> None:
    written(store, listed(10))
    count = len(rows_of(path))
    last = b"9"
    for _ in range(20):
        written(store, splice(9, [last], [last + b"9"]))
        last += b"9"
    rows = rows_of(path)
    assert len(rows) == count + 1
    assert rows[-1][1] == last.decode()


def test_a_row_without_items_is_deleted(store: SQLiteStore, path: Path) -> None:
    written(store, listed(30))
    count = len(rows_of(path))
    written(store, splice(6, numbers(30)[6:11], []))
    assert len(rows_of(path)) == count - 1
    written(store, splice(0, numbers(30)[:6], []), splice(18, [b"29"], []))
    assert len(rows_of(path)) == count - 2
    assert items_of(store) == numbers(29)[11:]
    require_consistent(path)


def test_a_change_over_many_rows_leaves_few(store: SQLiteStore, path: Path) -> None:
    written(store, listed(60))
    assert len(rows_of(path)) > 10
    written(store, splice(3, numbers(60)[3:57], [b"7"]))
    assert items_of(store) == [b"0", b"1", b"2", b"7", b"57", b"58", b"59"]
    assert len(rows_of(path)) == 2


def test_many_items_in_one_place(store: SQLiteStore, path: Path) -> None:
    written(store, listed(30))
    new = numbers(500)
    written(store, splice(15, [b"15"], [b"15", *new]))
    expected = [*numbers(16), *new, *numbers(30)[16:]]
    assert items_of(store) == expected
    require_consistent(path)
    for place in (0, 15, 200, 515, len(expected) - 1):
        written(store, splice(place, [expected[place]], [b'"x"']))
        expected[place] = b'"x"'
    assert items_of(store) == expected


def test_a_list_without_free_numbers_is_numbered_again_once(path: Path) -> None:
    """As all lists of format 2 are."""
    with closing(SQLiteStore(path)) as store, tiny_segments(stride=1, bits=0):
        written(store, listed(40))
        dense = [number for number, _ in rows_of(path)]
        assert dense == list(range(dense[0], dense[0] + len(dense)))
    with closing(SQLiteStore(path)) as store, tiny_segments():
        written(store, splice(20, [b"20"], [b"20", b"777", b"888", b"999"]))
        spread = [number for number, _ in rows_of(path)]
        assert {later - one for one, later in pairwise(spread)} == {schema.STRIDE}
        written(store, splice(10, [b"10"], [b"10", b"777", b"888", b"999"]))
        again = [number for number, _ in rows_of(path)]
        assert set(spread) < set(again)
        assert len(items_of(store)) == 46
    require_consistent(path)


def test_numbers_that_run_out_behind_are_given_again(path: Path) -> None:
    """A window that has moved on for long has used up the numbers of its entry."""
    with closing(SQLiteStore(path)) as store, tiny_segments():
        with tiny_segments(bits=24):
            # One segment less than the range of an entry has.
            schema.FIRST_SEGMENT -= 3 * schema.STRIDE
            written(store, listed(10))
        for number in range(10, 40):
            written(store, Push("messages", b"%d" % number, max_records=10))
        assert items_of(store) == numbers(40)[30:]
        require_consistent(path)


def test_too_many_segments_have_no_numbers() -> None:
    assert packing.renumbered(0, 7, 8) == list(range(8))
    assert packing.renumbered(0, 7, 9) is None


# ------------------------------------------------------------------ what is compared


@pytest.mark.parametrize(
    "changes",
    [
        [Change(0, (b"1",), ())],
        [Change(29, (b"29", b"30"), ())],
        [Change(30, (b"30",), ())],
        [Change(-1, (b"29",), ())],
        [Change(3, (b"3",), (b"x",)), Change(20, (b"21",), ())],
        [Change(4, (b"4", b"5", b"6", b"7", b"9"), ())],
    ],
)
@pytest.mark.parametrize("is_seen", [False, True])
def test_other_items_at_the_place_are_a_conflict(
    store: SQLiteStore, path: Path, changes: list[Change], is_seen: bool
) -> None:
    written(store, listed(30), Set("name", b"1"))
    before = path.read_bytes(), rows_of(path)
    snapshot = store.read(ID)
    assert snapshot is not None
    made = Splice("messages", tuple(changes), since=1 << 62)
    operations: list[Operation] = [made, Push("messages", b"1"), Set("name", b"2")]
    seen = snapshot.seen if is_seen else None
    assert store.write(ID, Write(operations, seen=seen)) == Conflict({"messages"}, set())
    assert (path.read_bytes(), rows_of(path)) == before


@pytest.mark.parametrize(
    ("last", "gone"),
    [
        (b'"a,\\"b\\""', b'"b\\""'),
        (b"[0,1]", b"1"),
        (b'{"a":[0,{"b":1}]}', b'{"b":1}'),
        (b'"0,1"', b"1"),
        (b"1.0", b"0"),
        (b"-1", b"1"),
    ],
)
def test_the_end_of_an_item_is_not_an_item(store: SQLiteStore, last: bytes, gone: bytes) -> None:
    written(store, Set("messages", b"[0,%b]" % last))
    assert isinstance(store.write(ID, Write([splice(1, [gone], [b"7"])])), Conflict)
    written(store, splice(1, [last], [last, b"7"]))
    written(store, splice(1, [last, b"7"], [b"8"]))
    assert items_of(store) == [b"0", b"8"]


def test_all_conflicts_are_reported(store: SQLiteStore) -> None:
    first = written(store, listed(5), Set("a", b"1"), Set("b", b"2"), Set("c", b"3"))
    version = written(store, Set("b", b"2")).version
    outcome = store.write(
        ID,
        Write(
            [
                splice(0, [b"7"], []),
                Replace("a", b"2", b"3", since=first.version),
                Replace("b", b"2", b"3", since=first.version),
                Replace("c", b"3", b"4", since=first.version),
                Replace("d", b"3", b"4"),
                Replace("b", None, b"4", since=version),
            ]
        ),
    )
    assert outcome == Conflict({"messages", "a", "b", "d"}, {"b"})
    snapshot = store.read(ID)
    assert snapshot is not None
    assert snapshot.encoded["c"] == b"3"


@pytest.mark.parametrize("item", [b'{"a":{"id":7}}', b'{"a":"\\"id\\":7"}', b'{"id":70}', b"7"])
def test_only_a_field_at_the_top_counts_for_uniqueness(store: SQLiteStore, item: bytes) -> None:
    written(store, Set("messages", b"[1,%b,2]" % item))
    written(store, Push("messages", b'{"id":7}', unique="id"))
    written(store, Push("messages", b'{"x":1,"id":7}', unique="id"))
    assert items_of(store) == [b"1", item, b"2", b'{"id":7}']
