"""Reading some keys only, and damaged values."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Delete, Push, Set
from ...errors import StoreError
from ...stores import ThreadStore
from .stored import (
    new_id,
    snapshot_of,
)
from .suite import Suite

_DOCUMENT = codec.join_document(
    {
        "small": b'{"a":1}',
        "messages": codec.encode([{"n": number, "t": "x" * 30} for number in range(500)]),
        "text": codec.encode("x" * 20_000),
        "fine": b"1",
    }
)


class ReadingConformance(Suite):
    """What read() returns, and how damage is reported."""

    @pytest.mark.parametrize(
        "keys",
        [
            None,
            [],
            ["small"],
            ["messages"],
            ["text", "missing"],
            {"small", "messages"},
            ("metadata",),
            frozenset({"", "small"}),
        ],
    )
    def test_read_gives_every_name_and_the_wanted_values(
        self, store: ThreadStore, thread_id: str, keys: Collection[str] | None
    ) -> None:
        state = {
            "messages": codec.encode([{"n": number, "t": "x" * 30} for number in range(2_000)]),
            "small": b"1",
            "": b"[]",
            "text": codec.encode("é" * 20_000),
            "metadata": b"null",
        }
        store.save(thread_id, codec.join_document(state), {"m": 1})
        snapshot = snapshot_of(store, thread_id, keys)
        assert list(snapshot.encoded) == list(state)
        assert snapshot.metadata == b'{"m":1}'
        for key, value in snapshot.encoded.items():
            if keys is None or key in keys:
                assert value is not None
            assert value is None or value == state[key]
        for key, value in snapshot.decoded.items():
            assert codec.encode(value) == state[key]
        assert store.restore(thread_id) == codec.join_document(state, b'{"m":1}')

    def test_the_order_of_many_names_stands(self, store: ThreadStore, thread_id: str) -> None:
        keys = [f"key {number}" for number in range(600)]
        random.Random(1).shuffle(keys)
        self.merge_and_compare(store, thread_id, [Set(key, b"1") for key in keys])
        gone, moved = keys[::7], keys[::11]
        self.merge_and_compare(
            store,
            thread_id,
            [
                *(Delete(key) for key in {*gone, *moved}),
                *(Push(key, b"1") for key in moved),
                *(Set(key, b"2") for key in keys if key not in gone and key not in moved),
            ],
        )
        left = [key for key in keys if key not in gone and key not in moved] + moved
        assert list(snapshot_of(store, thread_id, []).encoded) == left

    # Damage

    @pytest.mark.parametrize("key", ["small", "messages", "text"])
    def test_damage_is_reported_and_left_alone(
        self, store: ThreadStore, place: Any, thread_id: str, key: str
    ) -> None:
        other = new_id()
        store.save(thread_id, _DOCUMENT)
        store.save(other, _DOCUMENT)
        self.damage(store, place, thread_id, key)
        for _ in range(2):
            with pytest.raises(StoreError, match=thread_id):
                store.restore(thread_id)
        assert store.restore(other) == _DOCUMENT
        try:
            value = snapshot_of(store, thread_id, [key]).encoded[key]
        except StoreError as error:
            assert thread_id in str(error)
        else:
            assert value is not None
            with pytest.raises(ValueError):
                codec.decode(value)
        try:
            snapshot = snapshot_of(store, thread_id, ["fine"])
        except StoreError as error:
            assert thread_id in str(error)
            assert not self.reads_keys_apart
        else:
            assert list(snapshot.encoded) == ["small", "messages", "text", "fine"]
            assert snapshot.encoded["fine"] == b"1"
        try:
            store.merge(thread_id, [Set("fine", b"2")])
        except StoreError as error:
            assert thread_id in str(error)
        with pytest.raises(StoreError, match=thread_id):
            store.restore(thread_id)
        store.delete(thread_id)
        assert store.restore(thread_id) is None
