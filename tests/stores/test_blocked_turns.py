"""Turns in a store that is blocked for longer than a lease: the holder keeps its turn."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from support.redis_server import PATIENCE, running

from flask_agentuity.stores import ThreadStore, leases
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.thread.turns import Turn, take_turn

ID = "thrd_0123456789abcdef0123456789abcdef"
LEASE = 0.5


class Blocked:
    """A place that can be blocked, with two stores on it."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        self.stores: list[ThreadStore] = []
        self._path = folder / "threads.db"
        self._redis = stack.enter_context(running(folder)) if kind == "Redis" else None
        for _ in range(2):
            store: ThreadStore
            if self._redis is not None:
                store = RedisStore.from_url(self._redis.url, timeout=PATIENCE)
            else:
                store = SQLiteStore(self._path, timeout=PATIENCE)
            self.stores.append(stack.enter_context(closing(store)))

    @contextmanager
    def for_a_while(self) -> Iterator[None]:
        """Block reads and writes in Redis, and writes in SQLite."""
        if self._redis is not None:
            self._redis.freeze()
            try:
                yield
            finally:
                self._redis.thaw()
            return
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=PATIENCE)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.mark.parametrize("kind", ["SQLite", "Redis"])
def test_a_blocked_store_costs_no_turn(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE)
    with ExitStack() as stack:
        place = Blocked(kind, tmp_path, stack)
        held = take_turn(place.stores[0], ID, 0)
        assert held is not None
        taken: list[Turn | None] = []
        waiting = threading.Thread(
            target=lambda: taken.append(take_turn(place.stores[1], ID, PATIENCE))
        )
        waiting.start()
        time.sleep(LEASE / 2)
        with place.for_a_while():
            time.sleep(3 * LEASE)
        # Long enough to be taken over, were it not renewed again.
        time.sleep(2 * LEASE)
        assert not held.is_lost
        assert taken == []
        assert not place.stores[0].renew_turns([held.lease])
        held.end()
        waiting.join(PATIENCE)
        (turn,) = taken
        assert turn is not None
        turn.end()
