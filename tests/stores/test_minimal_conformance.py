from __future__ import annotations

from typing import Any

from support.minimal import MinimalStore

from flask_agentuity.stores import ThreadStore
from flask_agentuity.testing.conformance import StoreConformance


class TestMinimalStore(StoreConformance):
    """What the base class adds to the three methods that a store must have."""

    turns = True
    leases = True

    def open(self, place: Any, **options: Any) -> ThreadStore:
        return MinimalStore(place, **options)

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        file = place / thread_id
        file.write_bytes(file.read_bytes()[:-3])
