"""Clocks that are set: forward and back, by an hour or a day."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import Any

import pytest

from ...document.operations import Push, Set
from ...errors import StoreError, ThreadGone
from ...stores import ThreadStore
from .requests import write
from .stored import listed, new_id
from .suite import Clock, Suite, needs

HOUR, DAY = 3_600, 86_400


def pages(store: ThreadStore) -> list[str]:
    """Return the ids of all threads, read in small pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = store.list(limit=2, cursor=cursor)
        found += [thread.id for thread in page.threads]
        if (cursor := page.cursor) is None:
            return found


def push(store: ThreadStore, thread_id: str, item: bytes, version: int = 0) -> None:
    """Push *item* in a request that begins now."""
    write(store, thread_id, Push("l", item), version=version, began=time.monotonic())


class ClockConformance(Suite):
    """The clock is set while threads are in use.

    The clock of the store decides how long a thread is kept. With the usual time to live, a jump by
    a day loses nothing.
    """

    @pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
    def test_threads_stay_and_can_be_changed(
        self, place: Any, thread_id: str, clock: Clock, jump: int
    ) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Set("a", b"1"), Push("l", b"1")], {"m": 1})
            # And back, as after the correction of a wrong time server.
            for seconds in (jump, -jump):
                clock.advance(seconds)
                assert store.restore(thread_id) is not None
                store.merge(thread_id, [Push("l", b"2")])
            document = b'{"state":{"a":1,"l":[1,2,2]},"metadata":{"m":1}}'
            assert store.restore(thread_id) == document

    @needs("edits")
    @pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
    def test_versions_rise(self, place: Any, thread_id: str, clock: Clock, jump: int) -> None:
        with closing(self.open(place)) as store:
            versions = []
            for _ in range(3):
                store.merge(thread_id, [Push("l", b"1")])
                snapshot = store.read(thread_id)
                assert snapshot is not None
                versions.append(snapshot.version)
                clock.advance(jump)
            assert versions == sorted(set(versions))

    @needs("edits")
    @pytest.mark.parametrize("jump", [HOUR - 60, -HOUR, -DAY])
    def test_a_deleted_thread_stays_deleted(
        self, place: Any, thread_id: str, clock: Clock, jump: int
    ) -> None:
        """For an hour of the clock, a request that has read the thread does not bring it back."""
        with closing(self.open(place)) as store:
            version = write(store, thread_id, Set("a", b"1")).version
            store.delete(thread_id)
            clock.advance(jump)
            for _ in range(2):
                with pytest.raises(ThreadGone):
                    push(store, thread_id, b"1", version)
            assert store.restore(thread_id) is None

    @needs("edits")
    @pytest.mark.parametrize("jump", [HOUR, -HOUR, -DAY])
    def test_an_id_can_be_used_again(
        self, place: Any, thread_id: str, clock: Clock, jump: int
    ) -> None:
        """After a jump back, the writes of one moment at most are dropped, as those of before."""
        with closing(self.open(place)) as store:
            write(store, thread_id, Set("a", b"1"))
            store.delete(thread_id)
            clock.advance(jump)
            with suppress(ThreadGone):
                push(store, thread_id, b"1")
                store.delete(thread_id)
            clock.advance(1)
            push(store, thread_id, b"2")
            push(store, thread_id, b"3")
            assert store.restore(thread_id) == b'{"state":{"l":[2,3]}}'

    @needs("edits")
    def test_a_thread_that_began_again_before_a_jump_back(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place)) as store:
            write(store, thread_id, Set("a", b"1"))
            store.delete(thread_id)
            clock.advance(1)
            push(store, thread_id, b"1")
            clock.advance(-HOUR)
            with suppress(ThreadGone):
                push(store, thread_id, b"2")
            clock.advance(1)
            push(store, thread_id, b"3")
            document = store.restore(thread_id) or b""
            assert document.endswith(b"3]}}")

    @needs("lists")
    @pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
    def test_every_thread_is_listed_once(self, place: Any, clock: Clock, jump: int) -> None:
        with closing(self.open(place)) as store:
            ids = [new_id() for _ in range(6)]
            for place_of, thread_id in enumerate(ids):
                store.merge(thread_id, [Set("a", b"1")], {"m": 1})
                if place_of == 2:
                    clock.advance(jump)
            assert sorted(pages(store)) == sorted(ids)
            clock.advance(-jump)
            store.merge(ids[0], [Push("l", b"1")])
            assert sorted(pages(store)) == sorted(ids)
            assert sorted(listed(store, {"m": 1})) == sorted(ids)

    @needs("lists")
    @pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
    def test_a_write_after_a_jump_is_listed_first(
        self, place: Any, clock: Clock, jump: int
    ) -> None:
        """Also if the clock was ahead, or was behind, at the time of the writes before it."""
        with closing(self.open(place)) as store:
            first, second, third = ids = [new_id() for _ in range(3)]
            clock.advance(jump)
            for thread_id in ids:
                store.merge(thread_id, [Set("a", b"1")], {"m": 1})
                clock.advance(1)
            clock.advance(-jump)
            assert sorted(pages(store)) == sorted(listed(store, {"m": 1})) == sorted(ids)
            for thread_id in (second, first):
                clock.advance(1)
                store.merge(thread_id, [Push("l", b"1")])
                assert pages(store)[0] == thread_id
            assert pages(store) == listed(store, {"m": 1}) == [first, second, third]
            other = new_id()
            clock.advance(1)
            store.merge(other, [Set("a", b"1")], {"m": 1})
            assert pages(store) == listed(store, {"m": 1}) == [other, first, second, third]

    @needs("lists")
    @pytest.mark.parametrize("jump", [HOUR, DAY])
    @pytest.mark.parametrize("is_written_again", [True, False])
    def test_no_thread_is_listed_with_a_time_of_the_future(
        self, place: Any, clock: Clock, jump: int, is_written_again: bool
    ) -> None:
        with closing(self.open(place)) as store:
            before, thread_id = new_id(), new_id()
            if is_written_again:
                store.merge(thread_id, [Set("a", b"1")])
            store.merge(before, [Set("a", b"1")])
            clock.advance(jump)
            store.merge(thread_id, [Set("a", b"2")])
            clock.advance(1 - jump)
            for _ in range(2):
                found = {thread.id: thread for thread in store.list().threads}
                assert list(found) == [thread_id, before]
                assert found[thread_id].created <= found[thread_id].updated
                # Far less than the jump, on a slow machine too.
                assert found[thread_id].updated - found[before].updated < jump / 2
            store.merge(thread_id, [Set("a", b"3")])
            assert store.restore(thread_id) == b'{"state":{"a":3}}'

    @needs("lists")
    @pytest.mark.parametrize("jump", [HOUR, DAY])
    @pytest.mark.parametrize("notices", ["list", "purge"])
    def test_a_thread_of_the_future_expires_in_time(
        self, place: Any, thread_id: str, clock: Clock, jump: int, notices: str
    ) -> None:
        """Not later than if it had been used when the correction of the clock was noticed."""
        with closing(self.open(place, ttl=2.0 * jump)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            clock.advance(jump)
            store.merge(thread_id, [Set("a", b"2")])
            clock.advance(-jump)
            if notices == "list":
                assert len(store.list().threads) == 1
            else:
                try:
                    assert store.purge() == 0
                except StoreError:
                    pytest.skip("this store leaves it to its server")
            clock.advance(2 * jump - 60)
            assert store.find_ids(thread_id, 2) == [thread_id]
            clock.advance(61)
            assert store.restore(thread_id) is None

    @needs("lists")
    @pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
    def test_purging_removes_nothing_that_is_in_use(
        self, place: Any, thread_id: str, clock: Clock, jump: int
    ) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            for seconds in (jump, -jump):
                clock.advance(seconds)
                try:
                    assert store.purge() == 0
                except StoreError:
                    pytest.skip("this store leaves it to its server")
                assert store.restore(thread_id) is not None

    @needs("lists")
    def test_a_thread_that_was_used_before_a_jump_back_expires(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            clock.advance(-HOUR)
            assert store.restore(thread_id) is not None
            clock.advance(HOUR + 101)
            assert store.restore(thread_id) is None
