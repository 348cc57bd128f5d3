"""Several threads, stores and processes at once."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Push, Set
from ...stores import ThreadStore
from ..elsewhere import push_elsewhere, push_in_turn
from .concurrently import assert_all_in_order, with_all_done
from .stored import decoded
from .suite import PATIENCE, Suite


class ConcurrencyConformance(Suite):
    """Merges are atomic between threads, stores and processes."""

    def test_threads_pushing_to_one_thread(self, store: ThreadStore, thread_id: str) -> None:
        def run(name: int) -> None:
            start.wait(PATIENCE)
            push_in_turn(store, thread_id, name, 40)

        start = threading.Barrier(8)
        with_all_done(run, range(8))
        assert_all_in_order(store, thread_id, range(8), 40)

    def test_each_key_has_its_last_writer(self, store: ThreadStore, thread_id: str) -> None:
        def run(name: int) -> None:
            start.wait(PATIENCE)
            for number in range(40):
                store.merge(
                    thread_id,
                    [Set(f"mine {name}", b"%d" % number), Set("ours", b"[%d,%d]" % (name, number))],
                )

        start = threading.Barrier(6)
        with_all_done(run, range(6))
        state = decoded(store, thread_id)
        assert [state[f"mine {name}"] for name in range(6)] == [39] * 6
        assert state["ours"] in [[name, 39] for name in range(6)]

    def test_readers_never_see_half_a_merge(self, store: ThreadStore, thread_id: str) -> None:
        done = threading.Event()
        torn: list[object] = []

        def write(_: int) -> None:
            try:
                for number in range(100):
                    value = codec.encode([number] * 200)
                    store.merge(
                        thread_id,
                        [Set("a", value), Push("l", b"%d" % number, 50), Set("b", value)],
                        {"n": number},
                    )
            finally:
                done.set()

        def read(_: int) -> None:
            while not done.is_set():
                snapshot = store.read(thread_id)
                if snapshot is None:
                    continue
                state = snapshot.encoded
                number = codec.decode(snapshot.metadata)["n"]
                seen = codec.decode(state["l"] or b"")
                if state["a"] != state["b"] or seen != list(range(max(0, number - 49), number + 1)):
                    torn.append(snapshot)

        with_all_done(lambda name: (read if name else write)(name), range(3))
        assert torn == []

    def test_two_stores_on_one_place(self, store: ThreadStore, place: Any, thread_id: str) -> None:
        with closing(self.second(place)) as other:
            store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"m": 1})
            other.merge(thread_id, [Push("l", b"2"), Set("b", b"2")])
            store.merge(thread_id, [Push("l", b"3"), Set("a", b"3")])
            expected = b'{"state":{"l":[1,2,3],"a":3,"b":2},"metadata":{"m":1}}'
            assert store.restore(thread_id) == other.restore(thread_id) == expected
            other.delete(thread_id)
            assert store.restore(thread_id) is None
            store.merge(thread_id, [Push("l", b"4")])
            assert other.restore(thread_id) == b'{"state":{"l":[4]}}'

    def test_two_stores_on_one_place_at_once(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        with closing(self.second(place)) as other:

            def run(name: int) -> None:
                start.wait(PATIENCE)
                push_in_turn(store if name % 2 else other, thread_id, name, 40)

            start = threading.Barrier(4)
            with_all_done(run, range(4))
            assert_all_in_order(other, thread_id, range(4), 40)

    def test_processes_pushing_to_one_thread(self, place: Any, thread_id: str) -> None:
        opener = self.elsewhere(place)
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=push_elsewhere, args=(opener, thread_id, name, 60))
            for name in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        with closing(self.second(place)) as store:
            assert_all_in_order(store, thread_id, range(3), 60)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    def test_a_store_that_was_in_use_survives_a_fork(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        self.elsewhere(place)
        store.merge(thread_id, [Push("messages", b"[0,0]")])
        children = []
        for name in (1, 2):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    push_in_turn(store, thread_id, name, 30)
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        for number in range(1, 30):
            store.merge(thread_id, [Push("messages", b"[0,%d]" % number)])
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        assert_all_in_order(store, thread_id, range(3), 30)
