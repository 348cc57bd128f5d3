"""Lists: pushes, windows and long values."""

from __future__ import annotations

import random

import pytest

from ...document import codec
from ...document.operations import Delete, Operation, Push, Set
from ...errors import StateTooLarge
from ...stores import ThreadStore
from .stored import (
    pushes,
    snapshot_of,
)
from .suite import Suite


class ListConformance(Suite):
    """Lists that grow, and lists that keep their last items only."""

    @pytest.mark.parametrize("stored", [0, 1, 5, 300, 1_000])
    @pytest.mark.parametrize("records", [0, 1, 3, 299, 2_000])
    def test_a_window_keeps_the_last(
        self, store: ThreadStore, thread_id: str, stored: int, records: int
    ) -> None:
        items = [codec.encode({"n": number, "t": "x" * 20}) for number in range(stored)]
        store.merge(thread_id, [Set("l", codec.join_list(items)), Set("after", b"1")])
        self.merge_and_compare(store, thread_id, [Push("l", b'"new"', max_records=records)])
        self.merge_and_compare(
            store, thread_id, [Push("l", b'"a"'), Push("l", b'"b"', max_records=records)]
        )

    def test_a_window_after_many_pushes_at_once(self, store: ThreadStore, thread_id: str) -> None:
        for first in range(0, 40, 4):
            store.merge(thread_id, pushes("l", range(first, first + 4)))
        for records in (39, 20, 5):
            self.merge_and_compare(store, thread_id, [Push("l", b'"new"', max_records=records)])

    @pytest.mark.parametrize("size", [10, 999, 1_500, 3_000, 5_000])
    def test_a_push_alone_onto_a_text_is_skipped(
        self, store: ThreadStore, thread_id: str, size: int
    ) -> None:
        text = codec.encode("x" * size)
        store.merge(thread_id, [Set("t", text), Push("l", b"1")])
        store.merge(thread_id, [Push("t", b"2")])
        assert store.restore(thread_id) == b'{"state":{"t":%b,"l":[1]}}' % text

    def test_a_window_on_a_missing_key(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Push("l", b"1", max_records=3), Push("m", b"1", max_records=0)])
        assert store.restore(thread_id) == b'{"state":{"l":[1],"m":[]}}'

    def test_windows_of_several_widths_in_one_merge(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        changes: list[Operation] = []
        for number in range(60):
            width = (None, 5, 0, 40, 2, None)[number % 6]
            changes.append(Push("l", b"%d" % number, width))
            changes.append(Push("m", b"%d" % number, 7))
        self.merge_and_compare(store, thread_id, changes)

    def test_a_window_slides_over_a_long_list(self, store: ThreadStore, thread_id: str) -> None:
        chance = random.Random(1)
        model: list[int] = []
        number = 0
        for _ in range(60):
            batch = list(range(number, number + chance.choice((1, 2, 150))))
            number = batch[-1] + 1
            store.merge(
                thread_id,
                [Push("l", codec.encode(["m" * 30, item]), max_records=200) for item in batch],
            )
            model = (model + batch)[-200:]
            stored = codec.decode(snapshot_of(store, thread_id).encoded["l"] or b"")
            assert [item for _, item in stored] == model

    def test_thousands_of_pushes_in_one_merge(self, store: ThreadStore, thread_id: str) -> None:
        self.merge_and_compare(store, thread_id, pushes("l", range(4_000)))
        self.merge_and_compare(store, thread_id, pushes("l", range(4_000, 8_000)))

    def test_many_merges_of_one_push(self, store: ThreadStore, thread_id: str) -> None:
        for number in range(1_000):
            store.merge(thread_id, [Push("l", codec.encode({"text": "x" * 50, "n": number}))])
        stored = codec.decode(snapshot_of(store, thread_id).encoded["l"] or b"")
        assert [item["n"] for item in stored] == list(range(1_000))
        assert store.restore(thread_id) == codec.join_document({"l": codec.encode(stored)})

    def test_big_items_and_a_window_over_them(self, store: ThreadStore, thread_id: str) -> None:
        model: list[str] = []
        for number in range(14):
            text = f"{number}" * (100_000 if number % 3 else 10)
            store.merge(thread_id, [Push("l", codec.encode(text), max_records=4)])
            model = [*model, text][-4:]
            expected = codec.join_document({"l": codec.encode(model)})
            assert store.restore(thread_id) == expected
        # The store's count of bytes is still exact: a full document fits, one byte more does not.
        room = codec.MAX_DOCUMENT_BYTES - len(expected)
        store.merge(thread_id, [Push("l", b'"%b"' % (b"y" * (room - 3)))])
        assert len(store.restore(thread_id) or b"") == codec.MAX_DOCUMENT_BYTES
        with pytest.raises(StateTooLarge):
            store.merge(thread_id, [Push("l", b"1")])

    def test_a_list_is_set_and_grows(self, store: ThreadStore, thread_id: str) -> None:
        long = codec.encode([{"n": number, "t": "x" * 40} for number in range(3_000)])
        self.merge_and_compare(store, thread_id, [Set("l", long), Set("m", b"[1,2]")])
        self.merge_and_compare(store, thread_id, [Push("l", b"1"), Push("m", b"3")])
        self.merge_and_compare(store, thread_id, [Set("l", b'"short"')])
        self.merge_and_compare(store, thread_id, [Set("l", b"[]"), Set("m", long)])
        self.merge_and_compare(store, thread_id, [Push("l", b"1"), Push("m", b"1", 10)])

    def test_long_values_come_and_go(self, store: ThreadStore, thread_id: str) -> None:
        for length in (10, 100_000, 900, 5_000, 1_100, 999, 0):
            self.merge_and_compare(
                store, thread_id, [Set("v", codec.encode("x" * length)), Set("w", b"1")]
            )
            self.merge_and_compare(
                store, thread_id, [Set("o", codec.encode({"k": "é" * length})), Delete("w")]
            )
