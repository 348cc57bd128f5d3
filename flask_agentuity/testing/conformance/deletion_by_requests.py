"""A request deletes the thread that it means, and no other one."""

from __future__ import annotations

import time

import pytest

from ...document.operations import Push, Set
from ...errors import ThreadGone, TurnLost
from ...stores import ThreadStore
from ...stores.expected import Expected
from ...stores.runs import Addition
from ...stores.writing import Write
from .requests import write
from .runs import begin, runs_of, status_of
from .stored import new_id, snapshot_of
from .suite import Suite, needs


class DeletionByRequestConformance(Suite):
    """What delete_for() and move() check before they change anything."""

    def test_the_thread_that_was_read(self, store: ThreadStore, thread_id: str) -> None:
        began = time.monotonic()
        version = write(store, thread_id, Set("n", b"1"), owner="ada").version
        write(store, thread_id, Set("n", b"2"), owner="ada")
        store.delete_for(thread_id, Expected(version, "ada"))
        assert store.restore(thread_id) is None
        if self.edits:
            with pytest.raises(ThreadGone):
                write(store, thread_id, Push("l", b"1"), began=began)

    def test_what_was_not_read(self, store: ThreadStore, thread_id: str) -> None:
        """A request that has read nothing means whatever is stored."""
        store.delete_for(thread_id, Expected())
        write(store, thread_id, Set("n", b"1"))
        store.delete_for(thread_id, Expected(owner="ada"))
        assert store.restore(thread_id) is None

    @needs("edits")
    def test_a_thread_that_began_after_a_deletion_stays(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        version = write(store, thread_id, Set("n", b"1")).version
        store.delete(thread_id)
        write(store, thread_id, Set("n", b"2"))
        store.delete_for(thread_id, Expected(version))
        assert store.restore(thread_id) == b'{"state":{"n":2}}'
        store.delete_for(thread_id, Expected())
        assert store.restore(thread_id) is None

    def test_the_thread_of_another_owner_stays(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("n", b"1"), owner="bob")
        document = store.restore(thread_id)
        store.delete_for(thread_id, Expected(owner="ada"))
        assert store.restore(thread_id) == document
        store.delete_for(thread_id, Expected(owner="bob"))
        assert store.restore(thread_id) is None

    @needs("leases")
    def test_a_lost_turn_deletes_nothing(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("n", b"1"))
        first = store.lease_turn(thread_id, "a")
        second = store.lease_turn(thread_id, "b", first)
        assert second.holder == "b"
        with pytest.raises(TurnLost):
            store.delete_for(thread_id, Expected(turn=first.token))
        with pytest.raises(TurnLost):
            store.move(
                thread_id, store.propose_id(thread_id, new_id), expected=Expected(turn=first.token)
            )
        store.write(thread_id, Write([Set("n", b"2")], turn=second.token))
        assert store.restore(thread_id) == b'{"state":{"n":2}}'
        store.delete_for(thread_id, Expected(turn=second.token))
        assert store.restore(thread_id) is None
        # The turn does not end with the thread.
        assert store.lease_turn(thread_id, "c").holder == "b"

    @needs("moves")
    def test_another_thread_is_not_moved(self, store: ThreadStore, thread_id: str) -> None:
        target = store.propose_id(thread_id, new_id)
        version = write(store, thread_id, Set("n", b"1"), owner="ada").version
        store.delete(thread_id)
        write(store, thread_id, Set("n", b"2"), owner="bob")
        for expected in (Expected(version), Expected(owner="ada"), Expected(version, "ada")):
            assert store.move(thread_id, target, expected=expected) is False
        assert store.restore(target) is None
        later = snapshot_of(store, thread_id).version
        assert store.move(thread_id, target, expected=Expected(later, "bob"))
        assert snapshot_of(store, target).owner == "bob"

    @needs("leases")
    @needs("moves")
    def test_a_move_under_a_turn(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("n", b"1"))
        lease = store.lease_turn(thread_id, "a")
        target = store.propose_id(thread_id, new_id)
        assert store.move(thread_id, target, expected=Expected(turn=lease.token))
        assert store.restore(target) == b'{"state":{"n":1}}'

    @needs("runs")
    def test_runs_stay_with_a_thread_that_stays(self, store: ThreadStore, thread_id: str) -> None:
        runs = runs_of(store)
        write(store, thread_id, Set("n", b"1"), owner="bob")
        key = begin(runs, thread_id)
        store.delete_for(thread_id, Expected(owner="ada"))
        assert status_of(runs, key) == "running"
        store.delete_for(thread_id, Expected(owner="bob"))
        assert list(runs.append([Addition(key, 0, b"late")])) == [key]
