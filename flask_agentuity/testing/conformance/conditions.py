"""Operations with a condition, versions, and what a write reports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import (
    Change,
    Clear,
    Delete,
    EditMetadata,
    Operation,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
)
from ...errors import StateTooLarge
from ...stores import ThreadStore
from ...stores.writing import Write
from .requests import LATER, Request, begin, conflict, edit, splice, told, write
from .stored import snapshot_of
from .suite import Suite


class ConditionConformance(Suite):
    """Splices and replacements: what they check, and that a conflict applies nothing.

    A store that merges under a lock of the process reports conflicts as well.
    """

    def test_splices_and_replacements_that_fit(self, store: ThreadStore, thread_id: str) -> None:
        version = begin(store, thread_id)
        write(
            store,
            thread_id,
            Splice(
                "l",
                (
                    Change(0, (b"1",), ()),
                    Change(1, (b"2",), (b"2", b"2.5")),
                    Change(3, (b"4",), (b'"new"', b"[]")),
                ),
                version,
            ),
            Push("l", b"5"),
            Replace("n", b"5", b"6", version),
            Replace("new", None, b"[]", version),
            ReplaceMetadata(b'{"m":1}', b'{"m":2}'),
        )
        assert store.restore(thread_id) == (
            b'{"state":{"l":[2,2.5,3,"new",[],5],"n":6,"o":{"a":1},"new":[]},"metadata":{"m":2}}'
        )

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ([Change(0, (b"1", b"2", b"3", b"4"), ())], b"[]"),
            ([Change(0, (b"1", b"2", b"3", b"4"), (b"0",))], b"[0]"),
            ([Change(3, (b"4",), (b"4", b"5"))], b"[1,2,3,4,5]"),
            ([Change(0, (b"1",), (b"0", b"1")), Change(1, (b"2",), ())], b"[0,1,3,4]"),
            ([Change(1, (b"2",), ()), Change(2, (b"3",), ())], b"[1,4]"),
        ],
        ids=["everything", "everything replaced", "behind the last", "in front", "neighbours"],
    )
    def test_a_splice(
        self, store: ThreadStore, thread_id: str, changes: list[Change], expected: bytes
    ) -> None:
        begin(store, thread_id)
        write(store, thread_id, Splice("l", tuple(changes), LATER))
        assert snapshot_of(store, thread_id).encoded["l"] == expected
        write(store, thread_id, Push("l", b'"behind"'))
        after = codec.decode(expected)
        assert codec.decode(snapshot_of(store, thread_id).encoded["l"] or b"") == [*after, "behind"]

    @pytest.mark.parametrize(
        ("operations", "keys"),
        [
            ([splice(0, [b"2"])], {"l"}),
            ([splice(3, [b"4", b"5"])], {"l"}),
            ([splice(4, [b"5"])], {"l"}),
            ([splice(1, [b"2.0"])], {"l"}),
            ([Splice("l", (Change(0, (b"1",), ()), Change(2, (b"9",), ())), LATER)], {"l"}),
            ([Splice("n", (Change(0, (b"5",), ()),), LATER)], {"n"}),
            ([Splice("missing", (Change(0, (b"5",), ()),), LATER)], {"missing"}),
            ([Replace("n", b"6", b"7", LATER)], {"n"}),
            ([Replace("n", None, b"7", LATER)], {"n"}),
            ([Replace("missing", b"5", b"7", LATER)], {"missing"}),
            ([Replace("o", b'{"a":2}', b"{}", LATER)], {"o"}),
            ([Replace("n", b"6", b"7", LATER), splice(0, [b"9"])], {"n", "l"}),
            ([Replace("n", b"5", b"7", LATER), splice(0, [b"9"]), Push("l", b"5")], {"l"}),
        ],
    )
    def test_a_conflict_applies_nothing(
        self, store: ThreadStore, thread_id: str, operations: list[Operation], keys: set[str]
    ) -> None:
        begin(store, thread_id)
        around: list[Operation] = [Set("before", b"1"), Push("p", b"1"), SetMetadata(b'{"m":2}')]
        outcome = conflict(store, thread_id, *around, *operations, Push("after", b"1"))
        assert told(outcome) == (keys, set(), False)

    def test_metadata_conflicts(self, store: ThreadStore, thread_id: str) -> None:
        begin(store, thread_id)
        outcome = conflict(
            store, thread_id, Set("n", b"6"), ReplaceMetadata(b'{"m":2}', b'{"m":3}')
        )
        assert told(outcome) == (set(), set(), True)
        outcome = conflict(
            store,
            thread_id,
            Replace("n", b"6", b"7", LATER),
            ReplaceMetadata(b"{}", b'{"m":3}'),
        )
        assert outcome.metadata

    def test_a_long_list_is_spliced(self, store: ThreadStore, thread_id: str) -> None:
        items = [codec.encode({"n": number, "t": "x" * 40}) for number in range(2_000)]
        write(store, thread_id, Set("l", codec.join_list(items)), Set("other", b"1"))
        for place, gone, new in [
            (1_999, 1, [b'"last"']),
            (0, 1, [b'"first"', b'"second"']),
            (1_000, 3, []),
            (500, 1, [b'"%b"' % (b"y" * 20_000)]),
            (500, 1, [b"1"]),
            (700, 400, [b'"in the middle"'] * 300),
            (1, 1_800, []),
        ]:
            change = Change(place, tuple(items[place : place + gone]), tuple(new))
            write(store, thread_id, Splice("l", (change,), LATER), Push("l", b'"pushed"'))
            items[place : place + gone] = new
            items.append(b'"pushed"')
            expected = codec.join_document({"l": codec.join_list(items), "other": b"1"})
            assert store.restore(thread_id) == expected
            wrong = Change(place + 1, (b'"wrong"',), ())
            conflict(store, thread_id, Splice("l", (wrong,), LATER))

    @pytest.mark.parametrize("item", [b'"]["', b'","', b'"\\n,\\""', b'[",",{"a":"]"}]', b'""'])
    def test_items_that_look_like_separators(
        self, store: ThreadStore, thread_id: str, item: bytes
    ) -> None:
        write(store, thread_id, Set("l", b"[0,%b,1,%b]" % (item, item)), Push("l", item))
        write(store, thread_id, splice(1, [item], b"2"), Push("l", b"3"))
        assert snapshot_of(store, thread_id).encoded["l"] == b"[0,2,1,%b,%b,3]" % (item, item)
        conflict(store, thread_id, splice(1, [item], b"2"))
        write(store, thread_id, splice(3, [item, item]))
        assert snapshot_of(store, thread_id).encoded["l"] == b"[0,2,1,3]"

    @pytest.mark.parametrize("limit", [2_000, 30_000])
    def test_the_limit_holds_for_edits(self, place: Any, thread_id: str, limit: int) -> None:
        with closing(self.open(place, max_bytes=limit)) as store:
            write(store, thread_id, Set("l", b'["\xc3\xa9",1]'), Set("n", b"1"))
            before = store.restore(thread_id) or b""
            room = limit - len(before)

            def long(size: int) -> bytes:
                return b'"%b"' % (b"x" * (size - 2))

            ways: list[Callable[[int], list[Operation]]] = [
                lambda over: [splice(1, [b"1"], long(room + 1 + over))],
                lambda over: [Replace("n", b"1", long(room + 1 + over), LATER)],
                lambda over: [edit("n", b"1", "x" * (room - 1 + over), LATER)],
                lambda over: [EditMetadata(b"{}", b'{"a":%b}' % long(room - 18 + over))],
            ]
            for way in ways:
                with pytest.raises(StateTooLarge) as caught:
                    store.write(thread_id, Write(way(1)))
                assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
                assert store.restore(thread_id) == before
                write(store, thread_id, *way(0))
                assert len(store.restore(thread_id) or b"") == limit
                store.delete(thread_id)
                write(store, thread_id, Set("l", b'["\xc3\xa9",1]'), Set("n", b"1"))

    def test_the_store_merges_edits_itself(self, store: ThreadStore, thread_id: str) -> None:
        """An edit that is given to the store never conflicts."""
        begin(store, thread_id)
        request = Request(store, thread_id)
        request.state["l"][1:3] = ["mine"]
        request.state["n"] = 6
        request.state["o"]["b"] = 2
        request.metadata["mine"] = 1
        store.merge(thread_id, [Push("l", b'"theirs"')], {"m": 1, "theirs": 1})
        other = Request(store, thread_id)
        other.state["l"].pop(0)
        other.state["o"]["a"] = 3
        other.save()
        written = write(store, thread_id, *request.operations(), version=request.version)
        assert store.restore(thread_id) == (
            b'{"state":{"l":["mine",4,"theirs"],"n":6,"o":{"a":3,"b":2}},'
            b'"metadata":{"m":1,"theirs":1,"mine":1}}'
        )
        assert set(written.merged) == {"l", "n", "o"}
        assert written.merged["l"].value == b'["mine",4,"theirs"]'
        assert written.merged["l"].places == (None, 0, 1)

    def test_an_edit_of_what_is_gone_never_conflicts(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        begin(store, thread_id)
        edits = [edit("l", b"[1,2,3,4]", [1, 9, 4]), edit("n", b"5", 6)]
        for gone in ([Delete("l"), Delete("n")], [Clear()], [Set("l", b"1"), Set("n", b"[]")]):
            write(store, thread_id, *gone, Set("kept", b"1"))
            write(store, thread_id, *edits, Push("p", b"1"))
            state = snapshot_of(store, thread_id).encoded
            assert state["kept"] == b"1"
            assert state["p"] is not None
        store.delete(thread_id)
        write(store, thread_id, *edits)
        assert store.restore(thread_id) is None

    def test_what_preceded_pushes(self, store: ThreadStore, thread_id: str) -> None:
        begin(store, thread_id)
        counted = ["l", "n", "new", "unique", "windowed", "set", "missing", "not pushed to"]
        written = write(
            store,
            thread_id,
            splice(0, [b"1", b"2"], b"0"),
            Push("l", b"5"),
            Push("l", b"6"),
            Push("n", b"1"),
            Push("new", b"1"),
            Set("set", b"[1,2]"),
            Push("set", b"3"),
            Push("uncounted", b"1"),
            counted=counted,
        )
        assert {key: n for key, n in written.preceding.items() if key in counted} == {
            "l": 3,
            "new": 0,
            "set": 2,
        }
        for number in range(5):
            write(store, thread_id, Push("windowed", b"%d" % number, max_records=3))
        written = write(
            store,
            thread_id,
            Push("windowed", b"5", max_records=3),
            Push("l", b"7"),
            counted=["windowed", "l"],
        )
        assert written.preceding == {"windowed": 3, "l": 5}

    @pytest.mark.parametrize("count", [0, 1, 5, 700, 3_000])
    def test_what_preceded_a_push_to_a_long_list(
        self, store: ThreadStore, thread_id: str, count: int
    ) -> None:
        for first in range(0, count, 500):
            items = [
                Push("l", b"[%d]" % number) for number in range(first, min(count, first + 500))
            ]
            write(store, thread_id, *items)
        for number in range(3):
            written = write(
                store, thread_id, Push("l", b'"a"'), Push("l", b'"b"'), counted=["l", "m"]
            )
            assert written.preceding == {"l": count + 2 * number}
