"""The exclusive right to work on a thread."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Set
from ...stores import ThreadStore
from ...stores.listing import Page
from .concurrently import with_all_done
from .stored import (
    new_id,
)
from .suite import PATIENCE, Clock, Suite, needs


@needs("turns")
class TurnConformance(Suite):
    """What take_turn() and end_turn() do."""

    def test_one_at_a_time(self, store: ThreadStore, thread_id: str) -> None:
        assert store.take_turn(thread_id, "a", 60)
        assert not store.take_turn(thread_id, "b", 60)
        assert store.take_turn(thread_id, "a", 60)
        assert store.take_turn(new_id(), "b", 60)
        store.end_turn(thread_id, "b")
        assert not store.take_turn(thread_id, "b", 60)
        store.end_turn(thread_id, "a")
        assert store.take_turn(thread_id, "b", 60)

    def test_ending_a_turn_that_nobody_has(self, store: ThreadStore, thread_id: str) -> None:
        store.end_turn(thread_id, "a")
        store.take_turn(thread_id, "a", 60)
        store.end_turn(thread_id, "a")
        store.end_turn(thread_id, "a")
        assert store.take_turn(thread_id, "b", 60)

    def test_a_turn_ends_with_its_lease(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place)) as store:
            assert store.take_turn(thread_id, "a", 15)
            clock.advance(10)
            assert store.take_turn(thread_id, "a", 15)
            clock.advance(10)
            assert not store.take_turn(thread_id, "b", 15)
            clock.advance(6)
            assert store.take_turn(thread_id, "b", 15)
            # A holder that has lost its turn cannot end another's.
            assert not store.take_turn(thread_id, "a", 15)
            store.end_turn(thread_id, "a")
            assert not store.take_turn(thread_id, "a", 15)

    def test_a_turn_is_no_thread(self, store: ThreadStore, thread_id: str) -> None:
        store.take_turn(thread_id, "a", 60)
        assert store.restore(thread_id) is None
        if self.lists:
            assert store.list() == Page([], None)
        store.merge(thread_id, [Set("a", b"1")])
        store.delete(thread_id)
        assert not store.take_turn(thread_id, "b", 60)

    def test_of_many_who_come_at_once_one_has_it(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(20)]
        winners: list[tuple[str, int]] = []

        def run(name: int) -> None:
            start.wait(PATIENCE)
            for thread_id in ids:
                if store.take_turn(thread_id, str(name), 60):
                    winners.append((thread_id, name))

        start = threading.Barrier(6)
        with_all_done(run, range(6))
        assert sorted(thread_id for thread_id, _ in winners) == sorted(ids)

    def test_nobody_is_with_the_holder(self, store: ThreadStore, thread_id: str) -> None:
        inside: list[int] = []
        done: list[int] = []

        def run(name: int) -> None:
            for _ in range(15):
                while not store.take_turn(thread_id, str(name), 60):
                    time.sleep(0.0005)
                inside.append(name)
                assert inside == [name]
                inside.remove(name)
                done.append(name)
                store.end_turn(thread_id, str(name))

        with_all_done(run, range(4))
        assert len(done) == 60

    def test_turns_hold_across_stores_on_one_place(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        if not self.shared:
            pytest.skip("no second store can see the threads of this one")
        with closing(self.open(place)) as other:
            assert store.take_turn(thread_id, "a", 60)
            assert not other.take_turn(thread_id, "b", 60)
            other.end_turn(thread_id, "a")
            assert other.take_turn(thread_id, "b", 60)
            assert not store.take_turn(thread_id, "a", 60)
