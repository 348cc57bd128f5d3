"""Waiting for changes of runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from ...stores import ThreadStore
from ...stores.runs import Addition, RunKey, RunStore, RunWatch
from .runs import begin, runs_of
from .stored import new_id
from .suite import PATIENCE, Suite, needs


@contextmanager
def done_meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Do *action* in another thread, probably while the block is waiting."""
    timer = threading.Timer(0.05, action)
    timer.start()
    try:
        yield
    finally:
        timer.join(PATIENCE)


def wait_until(watch: RunWatch, runs: RunStore, key: RunKey, condition: Callable[[], bool]) -> None:
    """Wait with *watch* until *condition* holds, which a change that it misses would prevent."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, runs.look([key])
        watch.wait([key], PATIENCE)


@needs("runs")
class RunWatchConformance(Suite):
    """What :class:`RunWatch` does."""

    @pytest.mark.parametrize("change", ["append", "end", "stop", "interrupt", "delete", "begin"])
    def test_a_change_ends_the_waiting(
        self, store: ThreadStore, thread_id: str, change: str
    ) -> None:
        runs = runs_of(store)
        key = begin(runs, thread_id)
        changes: dict[str, Callable[[], object]] = {
            "append": lambda: runs.append([Addition(key, 0, b"abc")]),
            "end": lambda: runs.append([Addition(key, 0, b"", "done")]),
            "stop": lambda: runs.stop(key),
            "interrupt": lambda: runs.interrupt(key),
            "delete": lambda: store.delete(thread_id),
            "begin": lambda: begin(runs, thread_id, "r2"),
        }
        before = runs.look([key])
        with runs.watch() as watch:
            watch.wait([key], PATIENCE)
            with done_meanwhile(changes[change]):
                wait_until(watch, runs, key, lambda: runs.look([key]) != before)

    def test_no_change_between_two_waits_is_missed(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        runs = runs_of(store)
        key = begin(runs, thread_id)
        with runs.watch() as watch:
            watch.wait([key], PATIENCE)
            for length in range(1, 30):
                runs.append([Addition(key, length - 1, b"x")])
                began = time.monotonic()
                watch.wait([key], PATIENCE)
                assert time.monotonic() - began < PATIENCE / 2

    def test_the_first_wait_for_a_run_returns_at_once(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        runs = runs_of(store)
        key, other = begin(runs, thread_id), begin(runs, new_id())
        with runs.watch() as watch:
            began = time.monotonic()
            watch.wait([key], PATIENCE)
            watch.wait([key, other], PATIENCE)
            assert time.monotonic() - began < PATIENCE / 2

    def test_without_a_change_the_waiting_ends_with_its_time(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        runs = runs_of(store)
        key = begin(runs, thread_id)
        with runs.watch() as watch:
            watch.wait([key], 0.01)
            watch.wait([key], 0.01)
            watch.wait([], 0.01)
            watch.wait([RunKey(new_id(), "none")], 0.01)

    def test_another_thread_can_wake_it(self, store: ThreadStore, thread_id: str) -> None:
        runs = runs_of(store)
        key = begin(runs, thread_id)
        with runs.watch() as watch:
            watch.wait([key], 0.01)
            watch.wait([key], 0.01)
            began = time.monotonic()
            watch.wake()
            watch.wait([key], PATIENCE)
            with done_meanwhile(watch.wake):
                watch.wait([key], PATIENCE)
            assert time.monotonic() - began < PATIENCE / 2

    def test_a_change_by_another_store_ends_the_waiting(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        if not self.shared:
            pytest.skip("no second store can see the runs of this one")
        with closing(self.open(place)) as second, runs_of(second).watch() as watch:
            key = begin(runs_of(store), thread_id)
            watch.wait([key], PATIENCE)
            with done_meanwhile(lambda: runs_of(store).append([Addition(key, 0, b"abc")])):
                wait_until(watch, runs_of(second), key, lambda: runs_of(second).read(key) == b"abc")
