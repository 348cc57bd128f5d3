"""The size limit of documents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...errors import StateTooLarge
from .stored import (
    expected_after,
    new_id,
    pushes,
    snapshot_of,
)
from .suite import Suite


class LimitConformance(Suite):
    """The limit is exact, and what is over it changes nothing."""

    def growing(self) -> dict[str, Callable[[int], tuple[list[Operation], dict[str, str] | None]]]:
        odd = '"é\n\0\\😀\x7f'
        return {
            "by a set": lambda count: ([Set("v", b'"%b"' % (b"x" * count))], None),
            "by a set of non-ASCII": lambda count: (
                [Set("v", codec.encode("é" * (count // 2) + "x" * (count % 2)))],
                None,
            ),
            "by a push": lambda count: ([Push("l", b'"%b"' % (b"x" * count))], None),
            "by a first push": lambda count: ([Push("first", b'"%b"' % (b"x" * count))], None),
            "by many pushes": lambda count: (
                [*([Push("l", b"1")] * 100), Push("l", b'"%b"' % (b"x" * (count - 300)))],
                None,
            ),
            "by a push in a window": lambda count: (
                [Push("l", b'"%b"' % (b"x" * count), max_records=2)],
                None,
            ),
            "by a list": lambda count: ([Set("v", b'[1,"%b"]' % (b"x" * count))], None),
            "by metadata": lambda count: ([], {odd: "x" * count}),
            "by a key": lambda count: ([Set(odd + "k" * count, b"1")], None),
            "by a key of a list": lambda count: ([Push(odd + "k" * count, b"[]")], None),
            "by a key in place of another": lambda count: (
                [Delete(odd), Set("l", b"1"), Set("k" * count, b"{}")],
                {},
            ),
        }

    @pytest.mark.parametrize("limit", [1_500, 30_000])
    @pytest.mark.parametrize(
        "way",
        [
            "by a set",
            "by a set of non-ASCII",
            "by a push",
            "by a first push",
            "by many pushes",
            "by a push in a window",
            "by a list",
            "by metadata",
            "by a key",
            "by a key of a list",
            "by a key in place of another",
        ],
    )
    def test_the_limit_is_exact(self, place: Any, thread_id: str, way: str, limit: int) -> None:
        grow = self.growing()[way]
        with closing(self.open(place, max_bytes=limit)) as store:
            start: list[Operation] = [
                Set('"é\n\0\\😀\x7f', b'{"a":1}'),
                *pushes("l", range(10)),
                Set("v", b"0"),
            ]
            store.merge(thread_id, start, {"m": "é"})
            before = store.restore(thread_id)
            assert before is not None

            def size(count: int) -> int:
                return len(expected_after(before, thread_id, *grow(count)))

            count = limit - size(400) + 400
            assert size(count) == limit
            with pytest.raises(StateTooLarge) as caught:
                store.merge(thread_id, *grow(count + 1))
            assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
            assert thread_id in str(caught.value)
            assert store.restore(thread_id) == before
            store.merge(thread_id, *grow(count))
            assert store.restore(thread_id) == expected_after(before, thread_id, *grow(count))

    def test_too_much_leaves_all_as_it_was(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place, max_bytes=2_000)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(20))], {"m": 1})
            before = store.restore(thread_id)
            with pytest.raises(StateTooLarge):
                store.merge(
                    thread_id,
                    [
                        Set("a", b"2"),
                        Push("l", b"0", max_records=1),
                        Delete("m"),
                        Clear(),
                        Set("b", b"%d" % 10**18),
                        Push("l", b'"%b"' % (b"x" * 3_000)),
                    ],
                    {"m": 2},
                )
            assert store.restore(thread_id) == before
            with pytest.raises(StateTooLarge):
                store.save(thread_id, b'{"state":{"a":"%b"}}' % (b"x" * 2_000), {"m": 3})
            assert store.restore(thread_id) == before
            with pytest.raises(StateTooLarge):
                store.merge(new_id(), [], {"m": "x" * 2_000})
            store.merge(thread_id, [Push("l", b"20")])
            assert snapshot_of(store, thread_id).encoded["l"] == codec.encode(list(range(21)))

    def test_a_thread_over_the_limit_may_shrink(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 3_000)), Set("b", b"11")])
            with closing(self.second(place, max_bytes=1_000)) as smaller:
                with pytest.raises(StateTooLarge):
                    smaller.merge(thread_id, [Set("c", b"1")])
                with pytest.raises(StateTooLarge):
                    smaller.merge(thread_id, [Set("b", b"12")])
                smaller.merge(thread_id, [Set("b", b"1")])
                smaller.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 2_000))])
                smaller.merge(thread_id, [Delete("a"), Set("c", b"1")])
                assert smaller.restore(thread_id) == b'{"state":{"b":1,"c":1}}'
