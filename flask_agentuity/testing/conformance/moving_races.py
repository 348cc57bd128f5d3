"""Threads that are moved while others write or move them."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from typing import Any

from ...document import codec
from ...document.operations import Increment, Operation, Push, Set
from ...errors import ThreadGone
from ...stores import ThreadStore
from ...stores.writing import Write, write_merged
from ..elsewhere import push_until_gone
from .moved import long_thread, new_id_for
from .owners import write
from .stored import new_id, snapshot_of
from .suite import PATIENCE, Suite, needs


class MovingRaceConformance(Suite):
    """What move() does at the same time as other calls."""

    @needs("moves")
    def test_one_of_several_movers_wins(self, store: ThreadStore, thread_id: str) -> None:
        long_thread(store, thread_id)
        targets = [new_id_for(store, thread_id) for _ in range(6)]
        moved: list[str] = []
        ready = threading.Barrier(len(targets))

        def move(target: str) -> None:
            ready.wait()
            if store.move(thread_id, target, owner=target):
                moved.append(target)

        workers = [threading.Thread(target=move, args=(target,)) for target in targets]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(moved) == 1
        assert snapshot_of(store, moved[0]).owner == moved[0]
        assert [store.restore(each) for each in targets if each not in moved] == [None] * 5

    @needs("moves")
    def test_a_write_is_moved_or_dropped(self, store: ThreadStore) -> None:
        """Every acknowledged write is in the moved thread, and no dropped one is anywhere."""
        for _ in range(6):
            thread_id = new_id()
            write(store, thread_id, None, Set("l", b"[]"), Set("n", b"0"))
            target = new_id_for(store, thread_id)
            acknowledged: list[int] = []

            began = time.monotonic()

            def push(
                first: int,
                thread_id: str = thread_id,
                acknowledged: list[int] = acknowledged,
                began: float = began,
            ) -> None:
                for number in range(first, first + 300):
                    operations: list[Operation] = [Push("l", b"%d" % number)]
                    operations += [Increment("n")] * (number % 2)
                    try:
                        write_merged(store, thread_id, Write(operations, began=began))
                    except ThreadGone:
                        return
                    acknowledged.append(number)

            workers = [threading.Thread(target=push, args=(n * 1_000,)) for n in range(3)]
            for worker in workers:
                worker.start()
            time.sleep(random.uniform(0, 0.01))
            assert store.move(thread_id, target, owner="ada")
            for worker in workers:
                worker.join()
            assert store.restore(thread_id) is None
            snapshot = snapshot_of(store, target)
            assert sorted(codec.decode(snapshot.encoded["l"] or b"")) == sorted(acknowledged)
            assert snapshot.encoded["n"] == b"%d" % sum(n % 2 for n in acknowledged)

    @needs("moves")
    def test_writes_of_another_process_are_moved_or_dropped(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        opener = self.elsewhere(place)
        began = time.monotonic()
        write(store, thread_id, None, Set("l", b"[]"))
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        worker = context.Process(target=push_until_gone, args=(opener, thread_id, began, results))
        worker.start()
        deadline = time.monotonic() + PATIENCE
        while snapshot_of(store, thread_id).encoded["l"] == b"[]":
            assert time.monotonic() < deadline
        target = new_id_for(store, thread_id)
        assert store.move(thread_id, target, owner="ada")
        acknowledged = results.get(timeout=PATIENCE)
        worker.join(PATIENCE)
        assert store.restore(thread_id) is None
        assert codec.decode(snapshot_of(store, target).encoded["l"] or b"") == acknowledged
