"""The exclusive right to work on a thread."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Edit, Operation, Push, Set
from ...errors import ThreadGone, TurnLost
from ...stores import ThreadStore
from ...stores.leases import Lease
from ...stores.listing import Page
from ...stores.runs import Addition
from ...stores.writing import Write, write_merged
from .concurrently import with_all_done
from .runs import begin, runs_of, status_of
from .stored import new_id
from .suite import PATIENCE, Clock, Suite, needs


def taken(store: ThreadStore, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
    """Return the turn, which *holder* must get."""
    lease = store.lease_turn(thread_id, holder, still)
    assert (lease.thread_id, lease.holder) == (thread_id, holder)
    return lease


def is_refused(
    store: ThreadStore, thread_id: str, holder: str, still: Lease | None = None
) -> Lease:
    """Return the turn, which *holder* must not get."""
    lease = store.lease_turn(thread_id, holder, still)
    assert lease.thread_id == thread_id
    assert lease.holder != holder
    return lease


@needs("turns")
class TurnConformance(Suite):
    """What lease_turn(), look_at_turns(), renew_turns(), end_turn() and count_waiting() do."""

    def test_one_at_a_time(self, store: ThreadStore, thread_id: str) -> None:
        first = taken(store, thread_id, "a")
        is_refused(store, thread_id, "b")
        assert taken(store, thread_id, "a") == first
        taken(store, new_id(), "b")
        store.end_turn(thread_id, "b")
        is_refused(store, thread_id, "b")
        store.end_turn(thread_id, "a")
        taken(store, thread_id, "b")

    def test_ending_a_turn_that_was_not_taken(self, store: ThreadStore, thread_id: str) -> None:
        store.end_turn(thread_id, "a")
        taken(store, thread_id, "a")
        store.end_turn(thread_id, "a")
        store.end_turn(thread_id, "a")
        taken(store, thread_id, "b")

    def test_a_turn_is_no_thread(self, store: ThreadStore, thread_id: str) -> None:
        taken(store, thread_id, "a")
        assert store.restore(thread_id) is None
        if self.lists:
            assert store.list() == Page([], None)
        store.merge(thread_id, [Set("a", b"1")])
        store.delete(thread_id)
        is_refused(store, thread_id, "b")

    def test_of_many_who_come_at_once_one_has_it(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(20)]
        winners: list[tuple[str, int]] = []

        def run(name: int) -> None:
            start.wait(PATIENCE)
            for thread_id in ids:
                if store.lease_turn(thread_id, str(name)).holder == str(name):
                    winners.append((thread_id, name))

        start = threading.Barrier(6)
        with_all_done(run, range(6))
        assert sorted(thread_id for thread_id, _ in winners) == sorted(ids)

    def test_the_holder_is_alone(self, store: ThreadStore, thread_id: str) -> None:
        inside: list[int] = []
        done: list[int] = []

        def run(name: int) -> None:
            for number in range(15):
                holder = f"{name}.{number}"
                while store.lease_turn(thread_id, holder).holder != holder:
                    time.sleep(0.0005)
                inside.append(name)
                assert inside == [name]
                inside.remove(name)
                done.append(name)
                store.end_turn(thread_id, holder)

        with_all_done(run, range(4))
        assert len(done) == 60

    def test_turns_hold_across_stores_on_one_place(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        if not self.shared:
            pytest.skip("no second store can see the threads of this one")
        with closing(self.open(place)) as other:
            taken(store, thread_id, "a")
            is_refused(other, thread_id, "b")
            other.end_turn(thread_id, "a")
            taken(other, thread_id, "b")
            is_refused(store, thread_id, "a")


@needs("leases")
class LeaseConformance(Suite):
    """Turns without clocks: renewals are watched, and writes are fenced."""

    def test_a_turn_that_stands_still_is_taken_over(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        first = taken(store, thread_id, "a")
        seen = is_refused(store, thread_id, "b")
        assert seen == first
        second = taken(store, thread_id, "b", seen)
        assert second.token > first.token > 0
        # Those who watched the same turn do not take the new one.
        assert is_refused(store, thread_id, "c", seen) == second
        store.end_turn(thread_id, "a")
        assert is_refused(store, thread_id, "c") == second

    def test_a_turn_that_is_renewed_is_not_taken_over(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        first = taken(store, thread_id, "a")
        seen = is_refused(store, thread_id, "b")
        assert list(store.renew_turns([first])) == []
        renewed = is_refused(store, thread_id, "b", seen)
        assert renewed != seen
        assert renewed.token == first.token
        assert is_refused(store, thread_id, "b") == renewed
        taken(store, thread_id, "b", renewed)

    def test_renewing_tells_which_turns_were_lost(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(5)]
        leases = [taken(store, thread_id, "a") for thread_id in ids]
        second = taken(store, ids[1], "b", leases[1])
        store.end_turn(ids[3], "a")
        assert list(store.renew_turns(leases)) == [leases[1], leases[3]]
        assert list(store.renew_turns([second])) == []
        assert list(store.renew_turns([])) == []

    def test_looking_takes_nothing(self, store: ThreadStore, thread_id: str) -> None:
        other = new_id()
        assert dict(store.look_at_turns([])) == {}
        assert dict(store.look_at_turns([thread_id, other])) == {}
        first, second = taken(store, thread_id, "a"), taken(store, other, "b")
        assert list(store.renew_turns([second])) == []
        found = dict(store.look_at_turns([thread_id, new_id(), other]))
        renewed = is_refused(store, other, "c")
        assert found == {thread_id: first, other: renewed}
        assert not any(each.may_be_abandoned for each in found.values())
        assert taken(store, other, "c", found[other]).token > second.token
        store.end_turn(thread_id, "a")
        assert dict(store.look_at_turns([thread_id])) == {}
        taken(store, thread_id, "b")

    def test_tokens_rise(self, store: ThreadStore, thread_id: str) -> None:
        tokens = []
        for name in range(3):
            tokens.append(taken(store, thread_id, str(name)).token)
            store.end_turn(thread_id, str(name))
        assert tokens == sorted(set(tokens))
        assert min(tokens) > 0

    def test_no_clock_decides(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place)) as store:
            first = taken(store, thread_id, "a")
            clock.advance(3_600)
            assert is_refused(store, thread_id, "b") == first
            clock.advance(86_400)
            assert is_refused(store, thread_id, "b") == first
            assert list(store.renew_turns([first])) == []
            store.write(thread_id, Write([Set("a", b"1")], turn=first.token))
            clock.advance(-7_200)
            # It may look as if the holder had died, but only a watch can tell.
            seen = is_refused(store, thread_id, "b")
            assert seen.may_be_abandoned == self.shared
            taken(store, thread_id, "b", seen)

    def test_writes_under_a_turn(self, store: ThreadStore, thread_id: str) -> None:
        turn = taken(store, thread_id, "a").token
        first: list[Operation] = [Set("n", b"1"), Push("l", b"1")]
        for operations in first, [Push("l", b"2")], [Set("m", b"{}")]:
            write_merged(store, thread_id, Write(operations, turn=turn))
        snapshot = store.read(thread_id)
        assert snapshot is not None
        seen = Write([Push("l", b"3")], snapshot.version, snapshot.seen, turn=turn)
        written = write_merged(store, thread_id, seen)
        again = Write([Push("l", b"4")], written.version, written.seen, turn=turn)
        write_merged(store, thread_id, again)
        edit = Edit("l", b"[1,2,3,4]", b"[1,9,3,4]")
        write_merged(store, thread_id, Write([edit], turn=turn))
        document = b'{"state":{"n":1,"l":[1,9,3,4],"m":{}}}'
        assert store.restore(thread_id) == document

    def test_writes_under_a_lost_turn_change_nothing(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("n", b"1"), Push("l", b"1")])
        lost = taken(store, thread_id, "a")
        snapshot = store.read(thread_id)
        assert snapshot is not None
        held = taken(store, thread_id, "b", lost)
        self._require_refused(store, thread_id, lost.token, snapshot.version, snapshot.seen)
        store.end_turn(thread_id, "b")
        self._require_refused(store, thread_id, lost.token, snapshot.version, snapshot.seen)
        self._require_refused(store, thread_id, held.token, snapshot.version, snapshot.seen)
        # Writes without a turn are not affected.
        store.merge(thread_id, [Push("l", b"2")])
        assert store.restore(thread_id) == b'{"state":{"n":1,"l":[1,2]}}'

    def _require_refused(
        self, store: ThreadStore, thread_id: str, turn: int, version: int, seen: Any
    ) -> None:
        before = store.restore(thread_id)
        refused: list[list[Operation]] = [
            [Set("n", b"2")],
            [Push("l", b"2")],
            [Push("l", b"2"), Push("new", b"2")],
            [Edit("l", b"[1]", b"[3]")],
            [Edit("l", b"[7]", b"[8]")],
        ]
        for operations in refused:
            for write in (
                Write(operations, turn=turn),
                Write(operations, version, seen, turn=turn),
            ):
                with pytest.raises(TurnLost) as caught:
                    write_merged(store, thread_id, write)
                assert caught.value.thread_id == thread_id
        assert store.restore(thread_id) == before

    def test_a_turn_is_for_one_thread(self, store: ThreadStore, thread_id: str) -> None:
        turn = taken(store, thread_id, "a").token
        with pytest.raises(TurnLost):
            store.write(new_id(), Write([Set("a", b"1")], turn=turn))

    def test_deletion_under_a_turn(self, store: ThreadStore, thread_id: str) -> None:
        if not self.edits:
            pytest.skip("this store does not keep deleted threads deleted")
        turn = taken(store, thread_id, "a").token
        write = Write([Set("a", b"1")], turn=turn)
        store.write(thread_id, write)
        store.delete(thread_id)
        with pytest.raises(ThreadGone):
            store.write(thread_id, write)
        assert store.restore(thread_id) is None

    def test_those_who_wait_are_counted(self, store: ThreadStore, thread_id: str) -> None:
        first = taken(store, thread_id, "a")
        other = taken(store, new_id(), "a")
        assert store.count_waiting(first, 1) == 1
        assert store.count_waiting(first, 1) == 2
        assert store.count_waiting(other, 1) == 1
        assert list(store.renew_turns([first])) == []
        assert store.count_waiting(first, -1) == 1
        store.end_turn(thread_id, "a")
        # The count ends with the turn.
        assert store.count_waiting(first, 1) == 0
        second = taken(store, thread_id, "b")
        assert store.count_waiting(first, 1) == 0
        assert store.count_waiting(second, 1) == 1

    @needs("runs")
    def test_taking_over_a_turn_interrupts_the_run_of_its_holder(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        runs = runs_of(store)
        # A turn that is given back ends no run: the last addition may still be under way.
        first = store.lease_turn(thread_id, "a")
        key = begin(runs, thread_id)
        store.end_turn(thread_id, "a")
        second = store.lease_turn(thread_id, "b")
        assert status_of(runs, key) == "running"
        # The run is of another holder.
        third = store.lease_turn(thread_id, "a", second)
        assert status_of(runs, key) == "running"
        assert first.token < second.token < third.token
        assert store.lease_turn(thread_id, "c", third).holder == "c"
        assert status_of(runs, key) == "interrupted"
        assert list(runs.append([Addition(key, 0, b"late")])) == [key]
