from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.testing.conformance import StoreConformance


class TestSQLiteStore(StoreConformance):
    shared = True
    reads_keys_apart = True
    edits = True
    lists = True
    moves = True
    owners = True
    transfers = True
    turns = True
    leases = True
    runs = True

    def open(self, place: Any, **options: Any) -> ThreadStore:
        return SQLiteStore(place / "threads.db", timeout=30.0, **options)

    def opener(self, place: Any) -> Callable[[], ThreadStore]:
        return partial(SQLiteStore, place / "threads.db", timeout=30.0)

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        with closing(sqlite3.connect(place / "threads.db", isolation_level=None)) as connection:
            (entry,) = connection.execute(
                "SELECT e.number FROM thread_entries e JOIN threads t ON t.number = e.thread"
                " WHERE t.id = ? AND e.key = ?",
                (thread_id, key),
            ).fetchone()
            changed = connection.execute(
                "UPDATE thread_entries SET value = CAST('{\"a\":' AS BLOB)"
                " WHERE number = ? AND value IS NOT NULL",
                (entry,),
            ).rowcount
            if not changed:
                changed = connection.execute(
                    "UPDATE segments"
                    " SET body = CAST(substr(body, 1, length(body) - 1) || '?' AS BLOB)"
                    " WHERE number = (SELECT max(number) FROM segments WHERE number >> 24 = ?)",
                    (entry,),
                ).rowcount
            assert changed == 1
