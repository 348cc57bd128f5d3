"""How many keys a state may have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ...document import codec
from ...document.key_count import MAX_KEYS
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...errors import TooManyKeys
from ...stores import ThreadStore
from ...stores.listing import ListedThread
from .stored import snapshot_of
from .suite import Suite, needs

#: The limit of these tests.
MOST = 20


def sets(first: int, last: int) -> list[Operation]:
    """Return operations that set the keys with these numbers, the last one excluded."""
    return [Set(f"k{number}", b"1") for number in range(first, last)]


def refused(
    store: ThreadStore,
    thread_id: str,
    operations: Sequence[Operation],
    count: int,
    limit: int = MOST,
) -> None:
    """Merge what must be refused, and check that nothing has changed."""
    before = store.restore(thread_id)
    with pytest.raises(TooManyKeys) as caught:
        store.merge(thread_id, operations)
    error = caught.value
    assert (error.size, error.limit, error.thread_id) == (count, limit, thread_id)
    assert f"would have {count:,} keys; the limit is {limit:,}" in str(error)
    assert store.restore(thread_id) == before


class KeyLimitConformance(Suite):
    """A state has at most a number of keys, as a document has at most a number of bytes."""

    def test_the_most_keys(self, store: ThreadStore, place: Any, thread_id: str) -> None:
        self.limit_keys(store, place, MOST)
        refused(store, thread_id, sets(0, MOST + 1), MOST + 1)
        store.merge(thread_id, sets(0, MOST), {"owner": "ada", "title": None})
        assert len(snapshot_of(store, thread_id, ()).encoded) == MOST
        refused(store, thread_id, sets(MOST, MOST + 2), MOST + 2)
        refused(store, thread_id, [Push("l", b"1"), Delete("none")], MOST + 1)
        refused(store, thread_id, [Clear(), *sets(0, MOST + 1)], MOST + 1)
        # Keys that are there can be changed, and one can give way to another.
        store.merge(thread_id, [Set("k0", b"[1]"), Push("k0", b"2")])
        store.merge(thread_id, [Push("l", b"1"), Delete("k1")])
        store.merge(thread_id, [Clear(), *sets(5, MOST), *sets(0, 5)])
        store.merge(thread_id, [*sets(0, MOST + 5), *(Delete(f"k{each}") for each in range(5))])
        refused(store, thread_id, sets(0, MOST + 5), MOST + 5)
        store.merge(thread_id, [Clear(), *sets(0, 3)])
        store.merge(thread_id, sets(0, MOST))
        assert len(snapshot_of(store, thread_id, ()).encoded) == MOST

    @needs("transfers")
    def test_a_thread_that_has_more(self, store: ThreadStore, place: Any, thread_id: str) -> None:
        """It was imported, or stored by an earlier version. It can be used, and may shrink."""
        self.limit_keys(store, place, MOST)
        now = time.time()
        document = codec.encode({"state": {f"k{number}": 1 for number in range(MOST + 3)}})
        assert store.import_thread(ListedThread(thread_id, {}, now, now, 0), document)
        store.merge(thread_id, [Set("k0", b"2"), Delete("k1")])
        store.merge(thread_id, [Delete("k2"), Set("new", b"1")])
        store.merge(thread_id, sets(3, MOST + 3))
        refused(store, thread_id, [Set("other", b"1")], MOST + 3)
        assert len(snapshot_of(store, thread_id, ()).encoded) == MOST + 2

    def test_the_usual_limit(self, store: ThreadStore, thread_id: str) -> None:
        refused(store, thread_id, sets(0, MAX_KEYS + 1), MAX_KEYS + 1, MAX_KEYS)
