"""Turns in a process that forks while its turns are renewed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from support.forking import in_child, needs_fork
from support.leasing import ID, is_renewing
from support.servers import PATIENCE
from support.waiting import eventually

from flask_agentuity.stores import ThreadStore, leases
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.thread.turns import take_turn

OTHER = "thrd_" + "f" * 32


@needs_fork
@pytest.mark.parametrize("kind", ["memory", "SQLite"])
def test_turns_are_taken_and_renewed_in_a_child(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.02)
    store: ThreadStore
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "threads.db")

    def renewals(thread_id: str) -> int:
        return store.lease_turn(thread_id, "looking").renewals

    def work() -> bool:
        # The threads of the parent do not exist here.
        assert not is_renewing(store)
        turn = take_turn(store, OTHER, 0)
        assert turn is not None
        _wait(lambda: renewals(OTHER) > 2)
        # Turns in memory are those of one process.
        assert store.lease_turn(ID, "child").holder == "child" or kind == "SQLite"
        turn.end()
        _wait(lambda: not is_renewing(store))
        again = take_turn(store, OTHER, 0)
        assert again is not None
        again.end()
        return True

    with closing(store):
        held = take_turn(store, ID, 0)
        assert held is not None
        for _ in range(5):
            assert in_child(work) == 0
            before = renewals(ID)
            _wait(partial(lambda before: renewals(ID) > before, before))
        assert not held.is_lost
        held.end()
        eventually(lambda: not is_renewing(store), "nothing is renewed any more")


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
