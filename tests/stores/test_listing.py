from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.minimal import MinimalStore

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.listing import MOST_TERMS
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .conformance import new_id
from .listing import fill, listed


class TestSQLiteListing:
    """What SQLite does beyond the conformance tests."""

    def test_a_filtered_page_costs_the_same_in_any_store(self, tmp_path: Path) -> None:
        """Counted in steps of SQLite's virtual machine."""
        with closing(SQLiteStore(tmp_path / "threads.db")) as store:

            def steps(wanted: dict[str, str]) -> int:
                taken: list[None] = []
                (connection,) = store._connections._idle
                connection.set_progress_handler(lambda: taken.append(None), 1)
                page = store.list(wanted, limit=5)
                store.list(wanted, limit=5, cursor=page.cursor)
                connection.set_progress_handler(None, 1)
                assert len(page.threads) == 5
                return len(taken)

            def add(count: int) -> None:
                for number in range(count):
                    metadata = {"owner": f"user {number}", "app": "chat"}
                    store.merge(new_id(), [Set("a", b"1")], metadata)

            fill(store, 10, {"owner": "ada", "app": "chat"})
            one, two = {"owner": "ada"}, {"app": "chat", "owner": "ada"}
            add(600)
            few, few_of_two = steps(one), steps(two)
            add(1_000)
            assert steps(one) < few * 1.1
            assert steps(two) < few_of_two * 1.1
            assert few < 1_000

    def test_a_damaged_thread_does_not_hide_the_others(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with closing(SQLiteStore(tmp_path / "threads.db")) as store:
            ids = fill(store, 3, {"owner": "ada"})
            with closing(
                sqlite3.connect(tmp_path / "threads.db", isolation_level=None)
            ) as connection:
                connection.execute(
                    "UPDATE threads SET metadata = CAST('{\"a' AS BLOB) WHERE id = ?", (ids[1],)
                )
            with caplog.at_level(logging.ERROR):
                assert listed(store) == ids[::-1]
            assert ids[1] in caplog.text
            assert listed(store, {"owner": "ada"}) == [ids[2], ids[0]]
            with pytest.raises(StoreError, match=ids[1]):
                store.restore(ids[1])


class TestAMinimalStore:
    """A store that has nothing but restore, save and delete."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ThreadStore:
        return MinimalStore(tmp_path)

    def test_what_it_cannot_do_it_says(self, store: ThreadStore) -> None:
        thread_id = new_id()
        store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
        with pytest.raises(StoreError, match="MinimalStore cannot list threads"):
            store.list({"owner": "ada"})
        with pytest.raises(StoreError, match="cannot import threads"):
            store.import_thread(ListedThread(thread_id, {}, 1.0, 2.0, 0), b"{}")
        with pytest.raises(StoreError, match="cannot remove expired threads"):
            store.purge()


def test_as_many_values_are_indexed_as_the_documentation_says() -> None:
    assert MOST_TERMS == 64
