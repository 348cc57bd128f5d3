"""Listing threads, page by page."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...stores import ThreadStore
from ...stores.listing import ListedThread, Page
from .concurrently import with_all_done
from .stored import (
    change,
    fill,
    listed,
    new_id,
    only,
    pages_of,
    pushes,
)
from .suite import ODD_KEYS, PATIENCE, Clock, Suite, needs


@needs("lists")
class ListingConformance(Suite):
    """What list() and scan() return."""

    def test_nothing_is_listed_of_nothing(self, store: ThreadStore) -> None:
        assert store.list() == Page([], None)
        assert store.list({"owner": "ada"}) == Page([], None)

    def test_the_latest_updated_comes_first(self, store: ThreadStore) -> None:
        ids = fill(store, 5)
        assert listed(store) == ids[::-1]
        change(store, ids[1], [Push("l", b"1")])
        change(store, ids[3], [], {"m": 1})
        assert listed(store) == [ids[3], ids[1], ids[4], ids[2], ids[0]]
        change(store, ids[1], [Push("l", b"2")])
        assert listed(store) == [ids[1], ids[3], ids[4], ids[2], ids[0]]

    def test_a_thread_is_described_as_it_is_listed(self, store: ThreadStore) -> None:
        ids = fill(store, 3)
        change(store, ids[1], [Set("a", b'"long"')], {"title": "Zoë"})
        described = [store.describe(thread.id) for thread in store.list().threads]
        assert described == store.list().threads

    def test_what_is_not_listed_is_not_described(self, store: ThreadStore, thread_id: str) -> None:
        assert store.describe(thread_id) is None
        change(store, thread_id, [Set("a", b"1")])
        assert store.describe(thread_id) is not None
        change(store, thread_id, [Clear()])
        assert store.describe(thread_id) is None
        change(store, thread_id, [Set("a", b"1")])
        store.delete(thread_id)
        assert store.describe(thread_id) is None

    def test_reading_does_not_move_a_thread(self, store: ThreadStore) -> None:
        ids = fill(store, 3)
        before = store.list()
        store.read(ids[0])
        store.restore(ids[0])
        assert store.list() == before

    def test_times_are_those_of_the_first_and_the_last_write(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        began = time.time()
        change(store, thread_id, [Set("a", b"1")])
        first = only(store)
        assert began - 0.01 <= first.created <= time.time() + 0.01
        assert first.updated - first.created < PATIENCE
        change(store, thread_id, [Set("a", b"2")])
        second = only(store)
        assert second.created == first.created
        assert second.updated > first.updated
        store.delete(thread_id)
        change(store, thread_id, [Set("a", b"3")])
        assert only(store).created > second.updated

    @pytest.mark.parametrize("metadata", [None, {"owner": "Zoë", "tags": [1, {"a": None}]}])
    def test_size_and_metadata_are_those_of_the_document(
        self, store: ThreadStore, thread_id: str, metadata: Mapping[str, Any] | None
    ) -> None:
        text = codec.encode("é" * 3_000)
        steps: list[list[Operation]] = [
            [Set(key, b'"\xc3\xa9"') for key in ODD_KEYS],
            [*pushes("l", range(2_000)), Set("long", text), Set("empty", b"[]")],
            [Push("l", b'{"a":[]}', max_records=7), Push("empty", text, max_records=1)],
            [Delete("long"), Delete(ODD_KEYS[0]), Set("l", b"[1,2]"), Push("new", b"[[]]", 0)],
            [Set("l", b"null"), Set("empty", b"{}"), *(Delete(key) for key in ODD_KEYS)],
            [Clear(), Push("l", b"1")],
        ]
        for step in steps:
            store.merge(thread_id, step, metadata)
            thread = only(store)
            assert thread.size == len(store.restore(thread_id) or b"")
            assert thread.metadata == (metadata or {})
            metadata = None if metadata is None else {**metadata, "turn": thread.size}

    def test_a_thread_of_metadata_alone_is_listed(self, store: ThreadStore, thread_id: str) -> None:
        # Not an owner: a thread that has nothing else is not listed.
        store.merge(thread_id, [], {"topic": "sea"})
        thread = only(store)
        assert thread.size == len(b'{"metadata":{"topic":"sea"}}')
        assert listed(store, {"topic": "sea"}) == [thread_id]

    # Scans

    def test_a_scan_is_what_all_pages_have(self, store: ThreadStore) -> None:
        fill(store, 7, {"owner": "ada"})
        fill(store, 5)
        pages = [thread for page in pages_of(store, None, 5) for thread in page.threads]
        assert sorted(store.scan(), key=lambda thread: thread.id) == sorted(
            pages, key=lambda thread: thread.id
        )

    def test_a_scan_misses_nothing_that_stays(self, store: ThreadStore) -> None:
        chance = random.Random(20261124)
        ids, doomed = [new_id() for _ in range(1_200)], [new_id() for _ in range(150)]
        for thread_id in [*ids, *doomed]:
            store.merge(thread_id, [Set("a", b"1")])
        found = []
        for thread in store.scan():
            found.append(thread.id)
            if len(found) % 10 == 0:
                for _ in range(5):
                    store.merge(chance.choice(ids), [Push("l", b"1")])
                store.merge(new_id(), [Set("a", b"1")])
                if doomed:
                    store.delete(doomed.pop())
            assert len(found) < 5_000
        assert set(ids) <= set(found)

    def test_a_scan_leaves_out_what_has_expired(self, place: Any, clock: Clock) -> None:
        with closing(self.open(place, ttl=10.0)) as store:
            old = fill(store, 3)
            clock.advance(8.0)
            new = fill(store, 2)
            assert {thread.id for thread in store.scan()} == {*old, *new}
            clock.advance(4.0)
            assert {thread.id for thread in store.scan()} == set(new)

    def test_peeking_is_no_use(self, place: Any, clock: Clock, thread_id: str) -> None:
        other = new_id()
        with closing(self.open(place, ttl=10.0)) as store:
            for known in (thread_id, other):
                store.merge(known, [Push("l", b"1"), Set("t", codec.encode("x" * 2_000))], {"m": 1})
            document = store.restore(thread_id)
            assert store.restore_without_renewing(new_id()) is None
            clock.advance(8.0)
            assert store.restore_without_renewing(thread_id) == document
            assert store.restore(other) == document
            assert len(list(store.scan())) == 2
            clock.advance(4.0)
            assert store.restore_without_renewing(thread_id) is None
            assert store.restore_without_renewing(other) == document

    # Pages

    @pytest.mark.parametrize("limit", [1, 2, 5, 22, 23, 24, 1000])
    @pytest.mark.parametrize("wanted", [None, {"owner": "ada"}], ids=["all", "by owner"])
    def test_pages_are_complete_and_without_doubles(
        self, store: ThreadStore, limit: int, wanted: Mapping[str, Any] | None
    ) -> None:
        ids = fill(store, 23, {"owner": "ada"})
        others = fill(store, 5, {"owner": "bob"})
        expected = ids[::-1] if wanted else [*others[::-1], *ids[::-1]]
        pages = pages_of(store, wanted, limit)
        assert [thread.id for page in pages for thread in page.threads] == expected
        assert all(len(page.threads) == limit for page in pages[:-1])
        assert 1 <= len(pages[-1].threads) <= limit
        assert len(pages) == -(-len(expected) // limit)

    @needs("transfers")
    def test_threads_of_one_moment_are_all_paged(self, place: Any) -> None:
        with closing(self.open(place, ttl=None)) as store:
            ids = [new_id() for _ in range(9)]
            for thread_id in ids:
                assert store.import_thread(ListedThread(thread_id, {}, 5.0, 7.0, 0), b'{"a":1}')
            found = [thread.id for page in pages_of(store, None, 2) for thread in page.threads]
            assert found == sorted(ids, reverse=True)

    def test_what_holds_when_threads_change_between_pages(self, store: ThreadStore) -> None:
        """A thread that does not change is listed exactly once, and none is listed twice."""
        ids = fill(store, 12, {"owner": "ada"})
        newest_first = ids[::-1]
        first = store.list({"owner": "ada"}, limit=4)
        seen = [thread.id for thread in first.threads]
        assert seen == newest_first[:4]
        updated_seen, updated_unseen = newest_first[1], newest_first[6]
        change(store, updated_seen, [Push("l", b"1")])
        change(store, updated_unseen, [Push("l", b"1")])
        store.delete(newest_first[7])
        change(store, newest_first[8], [], {"owner": "bob"})
        fill(store, 1, {"owner": "ada"})
        cursor = first.cursor
        while cursor:
            page = store.list({"owner": "ada"}, limit=2, cursor=cursor)
            seen += [thread.id for thread in page.threads]
            cursor = page.cursor
        assert seen == [*newest_first[:6], *newest_first[9:]]
        # The updated thread has moved to the front.
        assert updated_unseen in listed(store, {"owner": "ada"}, limit=3)

    def test_the_thread_that_a_cursor_was_made_of_may_go(self, store: ThreadStore) -> None:
        ids = fill(store, 4)
        page = store.list(limit=2)
        store.delete(page.threads[-1].id)
        assert [thread.id for thread in store.list(cursor=page.cursor).threads] == ids[1::-1]

    def test_a_listing_goes_on_while_others_write(self, store: ThreadStore) -> None:
        still = fill(store, 30, {"owner": "ada"})
        busy = fill(store, 5, {"owner": "ada"})
        done = threading.Event()
        passes: list[list[str]] = []

        def write(name: int) -> None:
            while not done.is_set():
                for thread_id in busy:
                    store.merge(thread_id, [Push("l", b"1", 3)], {"owner": "ada", "n": name})

        def look() -> None:
            try:
                for _ in range(15):
                    pages = pages_of(store, {"owner": "ada"}, 4)
                    passes.append([thread.id for page in pages for thread in page.threads])
            finally:
                done.set()

        with_all_done(lambda name: write(name) if name else look(), range(3))
        for found in passes:
            assert len(found) == len(set(found))
            assert [thread_id for thread_id in found if thread_id in still] == still[::-1]
