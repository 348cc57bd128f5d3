"""Edits by many threads at once."""

from __future__ import annotations

import threading

from ...document import codec
from ...document.operations import Increment, Push, Set
from ...stores import ThreadStore
from ...stores.writing import Write, write_merged
from .concurrently import with_all_done
from .requests import Request
from .stored import decoded
from .suite import PATIENCE, Suite


class RacingConformance(Suite):
    """Nothing is lost or doubled when threads edit at once."""

    def test_a_hundred_increments_count_a_hundred(self, store: ThreadStore, thread_id: str) -> None:
        def run(_: int) -> None:
            start.wait(PATIENCE)
            for _ in range(10):
                write_merged(store, thread_id, Write([Increment("n"), Increment("f", 0.5)]))

        start = threading.Barrier(10)
        with_all_done(run, range(10))
        assert decoded(store, thread_id) == {"n": 100, "f": 50.0}

    def test_each_grows_its_own_message(self, store: ThreadStore, thread_id: str) -> None:
        def run(name: int) -> None:
            start.wait(PATIENCE)
            for number in range(12):
                request = Request(store, thread_id)
                (mine,) = (item for item in request.state["m"] if item["id"] == name)
                mine["content"] += f"{number},"
                request.save()

        messages = [{"id": name, "content": ""} for name in range(8)]
        store.merge(thread_id, [Set("m", codec.encode(messages))])
        start = threading.Barrier(8)
        with_all_done(run, range(8))
        whole = "".join(f"{number}," for number in range(12))
        expected = [{"id": name, "content": whole} for name in range(8)]
        assert decoded(store, thread_id) == {"m": expected}

    def test_questions_and_growing_answers(self, store: ThreadStore, thread_id: str) -> None:
        """As a chat does that streams its answers, without ids."""

        def run(name: int) -> None:
            start.wait(PATIENCE)
            for turn in range(4):
                request = Request(store, thread_id)
                request.state.setdefault("m", []).append({"q": f"{name}.{turn}", "a": ""})
                request.save()
                for token in range(3):
                    request = Request(store, thread_id)
                    (mine,) = (item for item in request.state["m"] if item["q"] == f"{name}.{turn}")
                    mine["a"] += f"{token},"
                    request.save()

        start = threading.Barrier(8)
        with_all_done(run, range(8))
        messages = decoded(store, thread_id)["m"]
        assert sorted(item["q"] for item in messages) == sorted(
            f"{name}.{turn}" for name in range(8) for turn in range(4)
        )
        assert {item["a"] for item in messages} == {"0,1,2,"}

    def test_edits_deletes_and_windows(self, store: ThreadStore, thread_id: str) -> None:
        """Some edit and delete their own items while others push into a window."""

        def run(name: int) -> None:
            start.wait(PATIENCE)
            for number in range(10):
                if name >= 4:
                    item = codec.encode({"id": name * 1_000 + number})
                    write_merged(store, thread_id, Write([Push("m", item, 30, 20)]))
                    continue
                request = Request(store, thread_id)
                mine = [item for item in request.state["m"] if item["id"] // 5 == name]
                for item in mine:
                    item["n"] += 1
                if number == 9:
                    request.state["m"].remove(mine[0])
                request.metadata[f"writer {name}"] = number
                request.save()

        messages = [{"id": number, "n": 0} for number in range(20)]
        store.merge(thread_id, [Set("m", codec.encode(messages))])
        start = threading.Barrier(7)
        with_all_done(run, range(7))
        found = decoded(store, thread_id)["m"]
        assert [item for item in found if item["id"] < 20] == [
            {"id": number, "n": 10} for number in range(20) if number % 5
        ]
        pushed = [item["id"] for item in found if item["id"] >= 20]
        assert len(pushed) == len(set(pushed)) >= 10
        metadata = Request(store, thread_id).metadata
        assert metadata == {f"writer {name}": 9 for name in range(4)}
