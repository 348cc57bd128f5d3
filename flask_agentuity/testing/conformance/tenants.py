"""The threads of a service's tenants are kept apart from those of the store itself."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Set
from ...stores import ThreadStore
from ...stores.writing import Write, Written
from .suite import Suite, needs


def tenants_of(store: ThreadStore) -> ThreadStore:
    """Return the store for tenants; skip the test if it is the store itself."""
    tenants = store.for_tenants()
    if tenants is store:
        pytest.skip("this store keeps the threads of tenants among its own")
    return tenants


class TenantConformance(Suite):
    """A thread service keeps the threads of other keys apart."""

    def test_a_thread_of_a_tenant_is_nowhere_else(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store, closing(tenants_of(store)) as tenants:
            tenants.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
            assert store.restore(thread_id) is None
            assert store.read(thread_id) is None
            store.delete(thread_id)
            assert tenants.restore(thread_id) == b'{"state":{"a":1},"metadata":{"owner":"ada"}}'
            # The deletion was that of another thread, too.
            write = Write([Set("b", b"1")], began=time.monotonic() - 60)
            assert isinstance(tenants.write(thread_id, write), Written)

    @needs("turns")
    def test_a_turn_on_a_tenants_thread_is_another(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store, closing(tenants_of(store)) as tenants:
            assert store.lease_turn(thread_id, "one", None).holder == "one"
            assert tenants.lease_turn(thread_id, "two", None).holder == "two"

    @needs("lists")
    def test_tenants_are_not_listed(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store, closing(tenants_of(store)) as tenants:
            tenants.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
            for wanted in (None, {"owner": "ada"}):
                assert store.list(wanted).threads == []
                (listed,) = tenants.list(wanted).threads
                assert listed.id == thread_id
            assert list(store.scan()) == []
            store.merge(thread_id, [Set("a", b"2")], {"owner": "ada"})
            assert [each.size for each in store.list().threads] == [
                each.size for each in tenants.list().threads
            ]
            assert tenants.restore(thread_id) != store.restore(thread_id)

    def test_tenants_are_found_again(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store:
            with closing(tenants_of(store)) as tenants:
                tenants.merge(thread_id, [Set("a", b"1")])
            with closing(tenants_of(store)) as tenants:
                assert tenants.restore(thread_id) == b'{"state":{"a":1}}'
                # The limits are those of the store.
                assert vars(tenants).get("max_bytes") == vars(store).get("max_bytes")
                assert vars(tenants).get("ttl") == vars(store).get("ttl")
