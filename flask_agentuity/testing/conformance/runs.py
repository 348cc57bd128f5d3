"""The logs of runs: what is appended is read, until the run ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Set
from ...stores import ThreadStore
from ...stores.listing import Page
from ...stores.runs import ABANDONED_SECONDS, Addition, NewRun, RunKey, RunStatus, RunStore
from .concurrently import with_all_done
from .stored import new_id
from .suite import Clock, Suite, needs

KEEP = 300.0


def new_run(thread_id: str, run_id: str = "r1", **fields: Any) -> NewRun:
    known = {"format": "sse", "holder": "a", "started": time.time(), "keep": KEEP}
    return NewRun(RunKey(thread_id, run_id), **{**known, **fields})


def runs_of(store: ThreadStore) -> RunStore:
    assert store.runs is not None
    return store.runs


def begin(runs: RunStore, thread_id: str, run_id: str = "r1") -> RunKey:
    new = new_run(thread_id, run_id)
    runs.begin(new)
    return new.key


def status_of(runs: RunStore, key: RunKey) -> RunStatus | None:
    found = runs.look([key]).get(key)
    return found.status if found else None


@needs("runs")
class RunConformance(Suite):
    """What the methods of :class:`RunStore` do."""

    @pytest.fixture
    def kept(self, store: ThreadStore) -> Iterator[RunStore]:
        yield runs_of(store)

    def test_a_run_that_begins(self, kept: RunStore, thread_id: str) -> None:
        assert kept.latest(thread_id) is None
        new = new_run(thread_id, format="ui", holder="someone", started=1_900_000_000.25)
        kept.begin(new)
        found = kept.look([new.key])[new.key]
        assert found == kept.latest(thread_id)
        assert (found.key, found.format, found.holder) == (new.key, "ui", "someone")
        assert found.started == pytest.approx(new.started, abs=0.001)
        assert (found.status, found.length) == ("running", 0)
        assert not found.stopping and not found.truncated
        assert kept.read(new.key) == b""
        assert kept.append([Addition(new.key, 0, b"abc")]) == []
        kept.begin(new)
        assert kept.read(new.key) == b"abc"

    def test_what_is_appended_is_read_from_any_offset(self, kept: RunStore, thread_id: str) -> None:
        key = begin(kept, thread_id)
        expected = b""
        for part in (b"one", b"", b"\0\r\n\xff", b"x" * 70_000, b"end"):
            assert not kept.append([Addition(key, len(expected), part)])
            expected += part
            assert kept.look([key])[key].length == len(expected)
        for after in (0, 1, 3, 7, 8, 69_999, len(expected) - 1):
            assert kept.read(key, after) == expected[after:]
            assert kept.read(key, after, 5) == expected[after : after + 5]
        for after in (len(expected), len(expected) + 1, 2**40):
            assert kept.read(key, after) == b""
            assert kept.read(key, after, 10) == b""

    def test_several_runs_in_one_step(self, kept: RunStore) -> None:
        keys = [begin(kept, new_id(), f"run{n}") for n in range(20)]
        for at in range(3):
            additions = [Addition(key, at, b"%d" % (n % 10)) for n, key in enumerate(keys)]
            assert not kept.append(additions)
        assert [kept.read(key) for key in keys] == [b"%d" % (n % 10) * 3 for n in range(20)]
        assert not kept.append([])
        assert [found.length for found in kept.look(keys).values()] == [3] * 20

    def test_a_repeated_addition_is_applied_once(self, kept: RunStore, thread_id: str) -> None:
        key = begin(kept, thread_id)
        assert not kept.append([Addition(key, 0, b"abc")])
        assert not kept.append([Addition(key, 0, b"abc")])
        assert not kept.append([Addition(key, 0, b"abcdef")])
        assert not kept.append([Addition(key, 1, b"bc")])
        assert kept.read(key) == b"abcdef"
        for _ in range(2):
            assert not kept.append([Addition(key, 3, b"defghi", "done")])
        assert kept.read(key) == b"abcdefghi"
        assert status_of(kept, key) == "done"

    def test_what_would_leave_a_gap_is_refused(self, kept: RunStore, thread_id: str) -> None:
        key, other = begin(kept, thread_id), begin(kept, new_id())
        kept.append([Addition(key, 0, b"abc")])
        refused = kept.append([Addition(key, 4, b"e", "done"), Addition(other, 0, b"x")])
        assert list(refused) == [key]
        assert kept.read(key) == b"abc"
        assert status_of(kept, key) == "running"
        assert kept.read(other) == b"x"

    @pytest.mark.parametrize("status", ["done", "stopped", "failed", "interrupted"])
    def test_the_last_bytes_and_the_end_are_one(
        self, kept: RunStore, thread_id: str, status: RunStatus
    ) -> None:
        key = begin(kept, thread_id)
        assert not kept.append([Addition(key, 0, b"abc", status, truncated=True)])
        found = kept.latest(thread_id)
        assert found is not None
        assert (found.status, found.length, found.truncated) == (status, 3, True)
        # Neither more output nor another end is accepted.
        assert list(kept.append([Addition(key, 3, b"def")])) == [key]
        other: RunStatus = "failed" if status == "done" else "done"
        assert list(kept.append([Addition(key, 3, b"", other)])) == [key]
        assert not kept.interrupt(key)
        assert not kept.stop(key)
        assert kept.latest(thread_id) == found
        assert kept.read(key) == b"abc"

    def test_truncated_stays(self, kept: RunStore, thread_id: str) -> None:
        key = begin(kept, thread_id)
        kept.append([Addition(key, 0, b"abc", truncated=True)])
        kept.append([Addition(key, 3, b"", "done")])
        assert kept.look([key])[key].truncated

    def test_a_run_that_is_interrupted_takes_nothing_more(
        self, kept: RunStore, thread_id: str
    ) -> None:
        key = begin(kept, thread_id)
        kept.append([Addition(key, 0, b"abc")])
        assert kept.interrupt(key)
        assert not kept.interrupt(key)
        assert list(kept.append([Addition(key, 3, b"def")])) == [key]
        assert list(kept.append([Addition(key, 3, b"", "done")])) == [key]
        assert status_of(kept, key) == "interrupted"
        assert kept.read(key) == b"abc"

    def test_a_run_that_begins_interrupts_the_one_before(
        self, kept: RunStore, thread_id: str
    ) -> None:
        elsewhere = begin(kept, new_id())
        ended, first = begin(kept, thread_id, "r0"), begin(kept, thread_id, "r1")
        assert status_of(kept, ended) == "interrupted"
        kept.append([Addition(first, 0, b"abc")])
        second = begin(kept, thread_id, "r2")
        assert status_of(kept, first) == "interrupted"
        assert list(kept.append([Addition(first, 3, b"def")])) == [first]
        assert not kept.append([Addition(second, 0, b"xyz", "done")])
        third = begin(kept, thread_id, "r3")
        assert status_of(kept, second) == "done"
        latest = kept.latest(thread_id)
        assert latest is not None and latest.key == third
        assert (kept.read(first), kept.read(second)) == (b"abc", b"xyz")
        assert status_of(kept, elsewhere) == "running"

    def test_asking_a_run_to_stop(self, kept: RunStore, thread_id: str) -> None:
        key = begin(kept, thread_id)
        assert kept.stop(key)
        assert kept.stop(key)
        assert kept.look([key])[key].stopping
        assert not kept.append([Addition(key, 0, b"abc")])
        assert not kept.append([Addition(key, 3, b"def", "stopped")])
        assert not kept.stop(key)

    def test_a_run_is_found_below_its_thread_only(self, kept: RunStore, thread_id: str) -> None:
        key, stranger = begin(kept, thread_id), new_id()
        kept.append([Addition(key, 0, b"secret")])
        foreign = RunKey(stranger, key.run_id)
        assert kept.look([foreign]) == {}
        assert kept.latest(stranger) is None
        assert kept.read(foreign) == b""
        assert not kept.stop(foreign)
        assert not kept.interrupt(foreign)
        assert list(kept.append([Addition(foreign, 0, b"x")])) == [foreign]
        same = begin(kept, stranger, key.run_id)
        kept.append([Addition(same, 0, b"mine")])
        assert (kept.read(key), kept.read(same)) == (b"secret", b"mine")

    def test_a_run_is_deleted_with_its_thread(self, store: ThreadStore, thread_id: str) -> None:
        runs = runs_of(store)
        store.merge(thread_id, [Set("a", b"1")])
        ended, running, other = (
            begin(runs, thread_id, "r1"),
            begin(runs, thread_id, "r2"),
            begin(runs, new_id()),
        )
        runs.append([Addition(running, 0, b"abc")])
        store.delete(thread_id)
        assert runs.latest(thread_id) is None
        assert set(runs.look([ended, running, other])) == {other}
        assert runs.read(running) == b""
        assert list(runs.append([Addition(running, 3, b"def", "done")])) == [running]
        assert not runs.interrupt(running)
        runs.delete(other.thread_id)
        assert runs.look([other]) == {}
        runs.delete(other.thread_id)

    def test_a_run_is_no_thread(self, store: ThreadStore, thread_id: str) -> None:
        key = begin(runs_of(store), thread_id)
        runs_of(store).append([Addition(key, 0, b"abc")])
        assert store.restore(thread_id) is None
        if self.lists:
            assert store.list() == Page([], None)
            assert list(store.scan()) == []

    def test_a_run_that_has_ended_is_kept_for_a_time(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place)) as store:
            runs = runs_of(store)
            key = begin(runs, thread_id)
            clock.advance(2 * KEEP)
            assert not runs.append([Addition(key, 0, b"abc", "done")])
            # Some stores have clocks that go on while a busy machine pauses.
            clock.advance(KEEP / 2)
            assert runs.read(key) == b"abc"
            assert runs.latest(thread_id) is not None
            clock.advance(KEEP / 2 + 1)
            assert runs.latest(thread_id) is None
            assert runs.look([key]) == {}
            assert runs.read(key) == b""

    def test_a_run_that_nothing_appends_to_is_not_kept_for_good(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place)) as store:
            runs = runs_of(store)
            key = begin(runs, thread_id)
            clock.advance(ABANDONED_SECONDS - 10)
            assert not runs.append([Addition(key, 0, b"abc")])
            clock.advance(ABANDONED_SECONDS - 10)
            assert status_of(runs, key) == "running"
            clock.advance(20)
            assert runs.latest(thread_id) is None
            assert list(runs.append([Addition(key, 3, b"def")])) == [key]

    def test_many_writers_and_readers_at_once(self, kept: RunStore) -> None:
        keys = [begin(kept, new_id()) for _ in range(4)]
        parts = [b"%d;" % number for number in range(60)]
        whole = b"".join(parts)

        def write(name: int) -> None:
            at = 0
            for part in parts:
                assert not kept.append([Addition(keys[name], at, part)])
                at += len(part)
            assert not kept.append([Addition(keys[name], at, b"", "done")])

        def read(name: int) -> None:
            received = b""
            while True:
                found = kept.look([keys[name]])[keys[name]]
                received += kept.read(keys[name], len(received), 7)
                assert whole.startswith(received)
                if not found.is_running and len(received) == found.length:
                    break
            assert received == whole

        with_all_done(lambda name: (write if name < 4 else read)(name % 4), range(8))

    def test_runs_are_seen_by_other_stores_on_one_place(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        if not self.shared:
            pytest.skip("no second store can see the runs of this one")
        with closing(self.open(place)) as second:
            here, there = runs_of(store), runs_of(second)
            key = begin(here, thread_id)
            here.append([Addition(key, 0, b"abc")])
            assert there.read(key, 1) == b"bc"
            assert there.stop(key)
            assert here.look([key])[key].stopping
            here.append([Addition(key, 3, b"def", "stopped")])
            assert there.latest(thread_id) == here.latest(thread_id)
            later = begin(there, thread_id, "r2")
            assert here.interrupt(later)
            assert list(there.append([Addition(later, 0, b"x")])) == [later]
