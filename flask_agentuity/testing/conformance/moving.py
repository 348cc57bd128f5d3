"""Threads that get another id."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import (
    Clear,
    Delete,
    Increment,
    Operation,
    PopLast,
    Push,
    Set,
    SetMetadata,
    Truncate,
)
from ...errors import StoreError, ThreadGone
from ...stores import ThreadStore
from ...stores.runs import NewRun, RunKey
from ...stores.writing import Write, write_merged
from .moved import METADATA, long_thread, new_id_for
from .owners import owned, store_thread, write
from .requests import Request, edit, splice
from .stored import listed, new_id, only, snapshot_of
from .suite import Suite, needs


class MovingConformance(Suite):
    """What move() does."""

    def test_everything_comes_along(self, store: ThreadStore, thread_id: str) -> None:
        document = long_thread(store, thread_id)
        target = new_id_for(store, thread_id)
        assert store.move(thread_id, target) is True
        assert store.restore(thread_id) is None
        assert store.restore(target) == document

    def test_a_moved_thread_goes_on(self, store: ThreadStore, thread_id: str) -> None:
        document = long_thread(store, thread_id)
        target = new_id_for(store, thread_id)
        store.move(thread_id, target)
        changes: list[Operation] = [
            Push("messages", b"1"),
            PopLast("short"),
            Push("empty", b"2"),
            Increment("n"),
            Set("text", b'"t"'),
            Truncate("messages", 400),
            Delete('odd " key\n'),
            Push("messages", b"2", max_records=50),
        ]
        with_changes = new_id()
        store.save(with_changes, document, METADATA)
        for change in changes:
            write(store, target, None, change)
            write(store, with_changes, None, change)
        assert store.restore(target) == store.restore(with_changes)

    def test_a_guests_thread_gets_an_owner(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        target = new_id_for(store, thread_id)
        assert store.move(thread_id, target, owner="ada")
        assert snapshot_of(store, target).owner == "ada"
        with pytest.raises(ThreadGone):
            write(store, target, "bob", Set("a", b"1"))
        write(store, target, "ada", Push("l", b"3"))
        assert snapshot_of(store, target).encoded["l"] == b"[1,2,3]"

    def test_the_owner_stays(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        for owner in (None, "ada"):
            target = new_id_for(store, thread_id)
            assert store.move(thread_id, target, owner=owner)
            thread_id = target
            assert snapshot_of(store, thread_id).owner == "ada"

    def test_a_thread_of_another_is_as_if_absent(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        before, target = store.restore(thread_id), new_id_for(store, thread_id)
        assert store.move(thread_id, target, owner="bob") is False
        assert (store.restore(thread_id), store.restore(target)) == (before, None)
        write(store, thread_id, "ada", Push("l", b"3"))

    def test_a_thread_that_is_not_stored(self, store: ThreadStore, thread_id: str) -> None:
        target = new_id_for(store, thread_id)
        assert store.move(thread_id, target) is False
        assert store.move(thread_id, target, owner="ada") is False
        assert store.restore(target) is None

    def test_arguments_that_make_no_sense(self, store: ThreadStore, thread_id: str) -> None:
        document = long_thread(store, thread_id)
        with pytest.raises(ValueError, match="already"):
            store.move(thread_id, thread_id)
        with pytest.raises(ValueError, match="owner"):
            store.move(thread_id, new_id(), owner="")
        assert store.restore(thread_id) == document

    def test_a_new_id_is_proposed_until_it_suits(self, store: ThreadStore, thread_id: str) -> None:
        made: list[str] = []

        def make() -> str:
            made.append(new_id())
            return made[-1]

        assert store.propose_id(thread_id, make) == made[-1]

    @needs("edits")
    def test_writes_in_flight_are_dropped(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        requests = [Request(store, thread_id) for _ in range(3)]
        blind = Write([Push("l", b"9")])
        target = new_id_for(store, thread_id)
        store.move(thread_id, target, owner="ada")
        for request, key in zip(requests, "lna", strict=True):
            request.state[key] = request.state.get(key, "new")
            request.state["b"] = 1
            with pytest.raises(ThreadGone):
                request.save()
        with pytest.raises(ThreadGone):
            write_merged(store, thread_id, blind)
        assert store.restore(thread_id) is None
        assert snapshot_of(store, target).encoded == {"l": b"[1,2]", "n": b"5"}
        # A later request begins a new thread under the former id.
        write(store, thread_id, None, Set("a", b"1"))
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    @needs("edits")
    def test_writes_in_flight_are_dropped_if_nothing_was_stored(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        early = Write([Set("a", b"1")])
        time.sleep(0.002)
        assert store.move(thread_id, new_id_for(store, thread_id)) is False
        with pytest.raises(ThreadGone):
            write_merged(store, thread_id, early)
        assert store.restore(thread_id) is None

    @needs("moves")
    def test_the_request_that_moves_a_thread_goes_on(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store_thread(store, thread_id, None)
        write(store, thread_id, None, Push("l", b"3"))
        began = time.monotonic()
        snapshot = snapshot_of(store, thread_id)
        target = new_id_for(store, thread_id)
        store.move(thread_id, target, owner="ada")
        changes: list[Operation] = [
            edit("l", b"[1,2,3]", [1, 9, 3], snapshot.version),
            Increment("n"),
        ]
        write_merged(store, target, Write(changes, snapshot.version, snapshot.seen, began))
        assert snapshot_of(store, target).encoded == {"l": b"[1,9,3]", "n": b"6"}

    @needs("moves")
    def test_a_version_still_says_what_was_assigned(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store_thread(store, thread_id, None)
        version = snapshot_of(store, thread_id).version
        write(store, thread_id, None, Set("l", b"[1,2]"))
        target = new_id_for(store, thread_id)
        store.move(thread_id, target)
        outcome = store.write(target, Write([splice(0, [b"1"], b"5", since=version)]))
        assert getattr(outcome, "assigned", None)

    @needs("moves")
    def test_an_id_that_is_taken(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        taken, deleted = new_id_for(store, thread_id), new_id_for(store, thread_id)
        store_thread(store, taken, None)
        store_thread(store, deleted, None)
        store.delete(deleted)
        for target in (taken, deleted):
            with pytest.raises(StoreError, match="already"):
                store.move(thread_id, target, owner="ada")
            with pytest.raises(StoreError, match="already"):
                store.copy(thread_id, target)
        snapshot = snapshot_of(store, thread_id)
        assert (snapshot.owner, snapshot.encoded["l"]) == (None, b"[1,2]")

    @needs("edits")
    def test_an_id_whose_thread_has_expired_is_free(self, place: Any, clock: Any) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            thread_id = new_id()
            target = new_id_for(store, thread_id)
            store_thread(store, target, "bob")
            clock.advance(101)
            store_thread(store, thread_id, None)
            assert store.move(thread_id, target, owner="ada")
            assert snapshot_of(store, target).owner == "ada"

    @needs("edits")
    def test_an_expired_thread_is_not_moved(self, place: Any, thread_id: str, clock: Any) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store_thread(store, thread_id, None)
            clock.advance(101)
            target = new_id_for(store, thread_id)
            assert store.move(thread_id, target) is False
            assert store.copy(thread_id, target) is False
            assert store.restore(target) is None

    @needs("transfers")
    def test_the_times_stay(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        write(store, thread_id, None, Push("l", b"3"))
        before = only(store)
        target = new_id_for(store, thread_id)
        time.sleep(0.01)
        store.move(thread_id, target, owner="ada")
        after = only(store)
        assert (after.created, after.updated) == (before.created, before.updated)
        assert (after.id, after.owner, after.metadata) == (target, "ada", before.metadata)
        assert listed(store, {"m": 1}) == [target]
        assert owned(store, "ada") == [target]
        write(store, target, "ada", SetMetadata(b'{"m":2}'))
        assert listed(store, {"m": 1}) == []
        assert listed(store, {"m": 2}) == [target]

    @needs("transfers")
    def test_the_moved_thread_expires_as_before(
        self, place: Any, thread_id: str, clock: Any
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store_thread(store, thread_id, None)
            clock.advance(60)
            target = new_id_for(store, thread_id)
            store.move(thread_id, target)
            clock.advance(101)
            assert store.restore(target) is None
            assert store.list().threads == []

    @needs("owners")
    def test_a_cleared_thread_is_moved(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        write(store, thread_id, "ada", Clear(), SetMetadata(b"{}"))
        target = new_id_for(store, thread_id)
        assert store.move(thread_id, target)
        assert store.restore(target) is None
        with pytest.raises(ThreadGone):
            write(store, target, "bob", Set("a", b"1"))

    @needs("moves")
    @needs("runs")
    def test_the_runs_of_a_moved_thread_are_deleted(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store_thread(store, thread_id, None)
        assert store.runs is not None
        key = RunKey(thread_id, "run_1")
        store.runs.begin(NewRun(key, "text", "holder", time.time(), 60.0))
        target, copy = new_id_for(store, thread_id), new_id_for(store, thread_id)
        store.copy(thread_id, copy)
        assert store.runs.latest(thread_id) is not None
        store.move(thread_id, target, owner="ada")
        assert [store.runs.latest(each) for each in (thread_id, target, copy)] == [None] * 3
        store.runs.begin(NewRun(RunKey(target, "run_2"), "text", "holder", time.time(), 60.0))
        store.erase("ada")
        assert store.runs.latest(target) is None
