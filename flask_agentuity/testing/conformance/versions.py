"""Versions, stamps of assignments, and what a request has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ...document import codec
from ...document.operations import (
    Clear,
    Delete,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    Set,
    SetMetadata,
    Truncate,
)
from ...stores import ThreadStore
from .requests import LATER, begin, conflict, edit, splice, told, write
from .stored import new_id, snapshot_of
from .suite import Suite, needs


@needs("edits")
class VersionConformance(Suite):
    """Versions, stamps of assignments, and writes that say what the request has seen."""

    def test_versions_rise_and_are_read(self, store: ThreadStore, thread_id: str) -> None:
        versions = [begin(store, thread_id)]
        steps: list[list[Operation]] = [
            [Set("n", b"6")],
            [Set("n", b"6")],
            [Push("l", b"5")],
            [splice(0, [b"1"], b"0")],
            [SetMetadata(b'{"m":2}')],
            [Increment("n")],
            [PopLast("l"), Truncate("l", 1)],
            [Delete("n")],
            [Clear(), Set("n", b"1")],
        ]
        for step in steps:
            versions.append(write(store, thread_id, *step).version)
            assert snapshot_of(store, thread_id).version == versions[-1]
            assert snapshot_of(store, thread_id, ["l"]).version == versions[-1]
            assert snapshot_of(store, thread_id, []).version == versions[-1]
        store.merge(thread_id, [Push("l", b"1")])
        versions.append(snapshot_of(store, thread_id).version)
        store.save(thread_id, b'{"state":{"l":[1]}}')
        versions.append(snapshot_of(store, thread_id).version)
        assert versions == sorted(set(versions))

    def test_versions_are_not_used_again(self, store: ThreadStore, thread_id: str) -> None:
        versions: list[int] = []
        for _ in range(4):
            versions.append(write(store, thread_id, Set("n", b"1")).version)
            versions.append(write(store, thread_id, Set("n", b"2")).version)
            store.delete(thread_id)
        write(store, thread_id, Set("n", b"1"))
        versions.append(write(store, thread_id, Clear()).version)
        versions.append(write(store, thread_id, Set("n", b"1")).version)
        assert versions == sorted(set(versions))

    @pytest.mark.parametrize("way", ["set", "save", "set after a delete", "set among others"])
    def test_an_assignment_is_told(self, store: ThreadStore, thread_id: str, way: str) -> None:
        version = begin(store, thread_id)
        ways: dict[str, Callable[[], object]] = {
            "set": lambda: store.merge(thread_id, [Set("l", b"[1,2,3,4]"), Set("n", b"5")]),
            "save": lambda: store.save(thread_id, b'{"state":{"l":[1,2,3,4],"n":5}}'),
            "set after a delete": lambda: store.merge(
                thread_id, [Delete("l"), Set("l", b"[1,2,3,4]"), Delete("n"), Set("n", b"5")]
            ),
            "set among others": lambda: store.merge(
                thread_id,
                [
                    Push("l", b"5"),
                    Set("l", b"[1,2,3]"),
                    Push("l", b"4"),
                    Set("n", b"4"),
                    Increment("n"),
                ],
            ),
        }
        ways[way]()
        outcome = conflict(
            store,
            thread_id,
            splice(0, [b"1"], since=version),
            Replace("n", b"5", b"6", version),
        )
        assert told(outcome) == ({"l", "n"}, {"l", "n"}, False)
        current = snapshot_of(store, thread_id).version
        write(store, thread_id, splice(0, [b"1"], since=current), Replace("n", b"5", b"6", current))

    @pytest.mark.parametrize(
        "operations",
        [
            [Set("l", b"[]", only_if_missing=True), Set("n", b"0", only_if_missing=True)],
            [Push("l", b"5"), Increment("n", 0)],
            [Push("l", b"5"), PopLast("l"), Truncate("l", 4)],
            [splice(1, [b"2"], b"2", b"2.5"), Replace("n", b"5", b"5", LATER)],
            [Set("other", b"1"), SetMetadata(b"{}")],
        ],
        ids=["default", "push and increment", "truncate", "edits", "elsewhere"],
    )
    def test_other_changes_are_no_assignment(
        self, store: ThreadStore, thread_id: str, operations: list[Operation]
    ) -> None:
        version = begin(store, thread_id)
        write(store, thread_id, *operations)
        write(
            store,
            thread_id,
            splice(0, [b"1"], b"0", since=version),
            Replace("n", b"5", b"6", version),
        )

    def test_stamps_stay_and_go(self, store: ThreadStore, thread_id: str) -> None:
        version = begin(store, thread_id)
        write(store, thread_id, Set("l", b"[1]"), Set("n", b"1"))
        write(store, thread_id, Push("l", b"2"), Increment("n"), Set("o", b"1"))
        outcome = conflict(store, thread_id, splice(0, [b"1"], since=version))
        assert told(outcome) == ({"l"}, {"l"}, False)
        # A key that was removed has no stamp, and one that a push creates again has none.
        write(store, thread_id, Delete("l"), Clear())
        outcome = conflict(store, thread_id, splice(0, [b"1"], since=version), Set("kept", b"1"))
        assert told(outcome) == ({"l"}, set(), False)
        write(store, thread_id, Push("l", b"1"), Increment("n", 2))
        write(
            store,
            thread_id,
            splice(0, [b"1"], b"0", since=version),
            Replace("n", b"2", b"3", version),
        )
        write(store, thread_id, Delete("l"), Set("l", b"[1]", only_if_missing=True))
        write(store, thread_id, splice(0, [b"1"], b"0", since=version))

    def test_an_assignment_beats_an_edit_in_the_store(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        version = begin(store, thread_id)
        store.merge(thread_id, [Set("l", b"[1,2,3,4]"), Set("n", b"5")])
        written = write(
            store,
            thread_id,
            edit("l", b"[1,2,3,4]", [9, 2, 3, 4], version),
            edit("n", b"5", 6, version),
            edit("o", b'{"a":1}', {"a": 2}, version),
        )
        state = snapshot_of(store, thread_id).encoded
        assert state == {"l": b"[1,2,3,4]", "n": b"5", "o": b'{"a":2}'}
        assert written.merged["l"].dropped
        assert written.merged["n"].dropped
        assert not written.merged["o"].dropped

    def test_what_was_seen_changes_no_result(self, store: ThreadStore, thread_id: str) -> None:
        """A place that was seen makes a write faster. It may be outdated, or of another thread."""
        other = new_id()
        begin(store, thread_id)
        begin(store, other)
        seen: list[Any] = [None, snapshot_of(store, other).seen]
        expected: list[Any] = [1, 2, 3, 4]
        for number in range(40):
            snapshot = snapshot_of(store, thread_id, ["l"] if number % 2 else None)
            seen.append(snapshot.seen)
            for place in (seen[-1], seen[number % len(seen)], seen[len(seen) // 2]):
                written = write(
                    store,
                    thread_id,
                    Push("l", b"%d" % number),
                    version=snapshot.version,
                    seen=place,
                    counted=["l"],
                )
                assert written.preceding == {"l": len(expected)}
                expected.append(number)
                seen.append(written.seen)
            if number % 7 == 3:
                write(store, thread_id, Set("l", b"[]"), seen=seen[-1])
                expected.clear()
            if number % 7 == 5:
                text = codec.encode("x" * 3_000)
                write(store, thread_id, Push("l", text), Push("l", text), seen=seen[-2])
                expected += ["x" * 3_000] * 2
            if number % 13 == 12:
                store.delete(thread_id)
                begin(store, thread_id)
                expected = [1, 2, 3, 4]
            state = snapshot_of(store, thread_id).encoded
            assert codec.decode(state["l"] or b"") == expected
        assert snapshot_of(store, other).encoded["l"] == b"[1,2,3,4]"
