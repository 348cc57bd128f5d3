from __future__ import annotations

from typing import Any

import pytest

from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing import conformance
from flask_agentuity.testing.conformance import StoreConformance


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
