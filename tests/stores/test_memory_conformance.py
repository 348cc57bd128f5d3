from __future__ import annotations

from typing import Any

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Set
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing import conformance
from flask_agentuity.testing.conformance import StoreConformance

from .conformance import new_id


def test_no_suite_is_left_out() -> None:
    named = {name for name in conformance.__all__ if name.endswith("Conformance")}
    assert named == {each.__name__ for each in StoreConformance.__mro__} - {"Suite", "object"}


class TestMemoryStore(StoreConformance):
    reads_keys_apart = True
    edits = True
    lists = True
    moves = True
    owners = True
    transfers = True
    turns = True
    leases = True
    runs = True

    def open(self, place: Any, **options: Any) -> ThreadStore:
        return MemoryStore(**options)

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        pytest.skip("nothing outside the process can write to its memory")


def test_the_first_write_after_a_clock_was_set_back_comes_first() -> None:
    store = MemoryStore()
    ids = [new_id() for _ in range(4)]
    with freeze_time("2026-01-01") as clock:
        clock.tick(86_400)
        for thread_id in ids:
            store.merge(thread_id, [Set("a", b"1")])
            clock.tick(1)
        clock.tick(-86_400)
        store.merge(ids[1], [Set("a", b"2")])
        found = [thread.id for thread in store.list().threads]
        assert found == [ids[1], ids[3], ids[2], ids[0]]
