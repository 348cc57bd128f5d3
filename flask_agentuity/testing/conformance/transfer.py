"""Threads that come from another store."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Push, Set
from ...errors import StateTooLarge
from ...stores import ThreadStore
from ...stores.listing import ListedThread, Page
from .stored import (
    LONG,
    change,
    listed,
    new_id,
    only,
)
from .suite import ODD_KEYS, Clock, Suite, needs


@needs("transfers")
@needs("lists")
class TransferConformance(Suite):
    """What import_thread() does, seen through list()."""

    def test_importing_keeps_everything(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()
        document = codec.join_document(
            {key: codec.encode([key, {"n": 1.5}]) for key in ODD_KEYS}
            | {"l": codec.encode([{"text": "x" * 50}] * 3_000), "long": codec.encode("é" * 50_000)}
        )
        metadata = {"owner": "Zoë", "tags": [1, None], "title": LONG}
        thread = ListedThread(thread_id, metadata, now - 1000.125, now - 500.25, 1)
        assert store.import_thread(thread, document) is True
        expected = document[:-1] + b',"metadata":%b}' % codec.encode(metadata)
        assert store.restore(thread_id) == expected
        assert only(store) == ListedThread(
            thread_id, metadata, now - 1000.125, now - 500.25, len(expected)
        )
        assert listed(store, {"title": LONG, "owner": "Zoë"}) == [thread_id]

    def test_an_imported_thread_goes_on(self, store: ThreadStore, thread_id: str) -> None:
        then = time.time() - 500
        store.import_thread(
            ListedThread(thread_id, {"m": 1}, then, then, 0), b'{"state":{"l":[1]}}'
        )
        store.merge(thread_id, [Push("l", b"2"), Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"l":[1,2],"a":1},"metadata":{"m":1}}'
        thread = only(store)
        assert thread.created == then
        assert thread.updated > then + 400

    def test_imported_threads_are_listed_by_their_times(self, store: ThreadStore) -> None:
        now = time.time()
        ids = [new_id() for _ in range(4)]
        for thread_id, age in zip(ids, (30, 10, 40, 20), strict=True):
            store.import_thread(ListedThread(thread_id, {}, now - 50, now - age, 0), b'{"a":1}')
        assert listed(store) == [ids[1], ids[3], ids[0], ids[2]]

    def test_the_metadata_of_the_document_does_not_count(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        now = time.time()
        document = b'{"state":{"a":1},"metadata":{"owner":"bob"}}'
        store.import_thread(ListedThread(thread_id, {"owner": "ada"}, now, now, 0), document)
        assert store.restore(thread_id) == b'{"state":{"a":1},"metadata":{"owner":"ada"}}'
        assert listed(store, {"owner": "bob"}) == []

    def test_only_a_newer_thread_replaces(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()

        def import_it(age: float, document: bytes, **metadata: str) -> bool:
            thread = ListedThread(thread_id, metadata, now - 100, now - age, 0)
            return store.import_thread(thread, document)

        assert import_it(50, b'{"state":{"a":1,"l":[1,2]}}', owner="ada")
        before = store.list()
        assert not import_it(50, b'{"state":{"a":2}}', owner="bob")
        assert not import_it(51, b'{"state":{"a":2}}', owner="bob")
        assert store.list() == before
        assert listed(store, {"owner": "bob"}) == []
        assert store.restore(thread_id) == (
            b'{"state":{"a":1,"l":[1,2]},"metadata":{"owner":"ada"}}'
        )
        assert import_it(49, b'{"state":{"b":[3]}}', title="new")
        assert store.restore(thread_id) == b'{"state":{"b":[3]},"metadata":{"title":"new"}}'
        assert listed(store, {"owner": "ada"}) == []
        assert only(store).updated == now - 49

    def test_a_thread_in_use_here_is_newer(self, store: ThreadStore, thread_id: str) -> None:
        change(store, thread_id, [Set("a", b"1")])
        then = only(store).updated - 1
        assert not store.import_thread(
            ListedThread(thread_id, {}, then, then, 0), b'{"state":{"a":2}}'
        )
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    @pytest.mark.parametrize("wrong", [1e11, 253_370_764_800.0, 1e300, -1.0, math.nan, math.inf])
    @pytest.mark.parametrize("name", ["created", "updated"])
    def test_a_time_that_cannot_be_is_refused(
        self, store: ThreadStore, thread_id: str, name: str, wrong: float
    ) -> None:
        """In the future, it would keep the thread at the top of each listing."""
        now = time.time()
        changed: dict[str, Any] = {name: wrong}
        thread = replace(ListedThread(thread_id, {}, now, now, 0), **changed)
        with pytest.raises(ValueError, match=name):
            store.import_thread(thread, b'{"a":1}')
        assert store.restore(thread_id) is None

    def test_importing_keeps_to_the_limit(self, place: Any, thread_id: str) -> None:
        now = time.time()
        with closing(self.open(place, max_bytes=1_000)) as store:
            store.import_thread(ListedThread(thread_id, {}, now, now - 9, 0), b'{"state":{"a":1}}')

            def import_it(size: int) -> bool:
                rest = size - len(b'{"state":{"a":""},"metadata":{"owner":"ada"}}')
                document = b'{"state":{"a":"%b"}}' % (b"x" * rest)
                return store.import_thread(
                    ListedThread(thread_id, {"owner": "ada"}, now, now, 0), document
                )

            with pytest.raises(StateTooLarge) as caught:
                import_it(1_001)
            assert (caught.value.size, caught.value.limit) == (1_001, 1_000)
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
            assert listed(store, {"owner": "ada"}) == []
            assert import_it(1_000)
            assert only(store).size == 1_000

    def test_an_expired_thread_gives_way_to_the_imported(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        now = time.time()
        thread = ListedThread(thread_id, {"owner": "ada"}, now - 9, now, 0)
        with closing(self.open(place, ttl=100.0)) as store:
            for _ in range(2):
                assert store.import_thread(thread, b'{"state":{"a":1}}')
                assert not store.import_thread(thread, b'{"state":{"a":1}}')
                clock.advance(101)
                assert store.restore(thread_id) is None

    def test_an_imported_thread_lives_as_long_as_one_that_was_used_now(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        then = time.time() - 10_000
        with closing(self.open(place, ttl=100.0)) as store:
            assert store.import_thread(
                ListedThread(thread_id, {}, then, then, 0), b'{"state":{"a":1}}'
            )
            assert only(store).updated == then
            clock.advance(60)
            assert only(store).id == thread_id
            clock.advance(60)
            assert store.list() == Page([], None)

    def test_nothing_can_be_imported(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()
        store.import_thread(ListedThread(thread_id, {}, now - 9, now - 9, 0), b'{"state":{"a":1}}')
        store.import_thread(ListedThread(thread_id, {}, now, now, 0), b"")
        assert store.restore(thread_id) is None
        assert store.list() == Page([], None)
