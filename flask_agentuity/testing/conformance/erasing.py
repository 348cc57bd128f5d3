"""Everything of one owner is deleted."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from ...document.operations import (
    Clear,
    Set,
    SetMetadata,
)
from ...errors import ThreadGone
from ...stores import ThreadStore
from ...stores.writing import Write, write_merged
from .owners import owned, store_thread, write
from .requests import Request
from .stored import new_id
from .suite import Suite, needs


@needs("owners")
class ErasingConformance(Suite):
    """What erase() does."""

    def test_everything_of_an_owner_goes(self, store: ThreadStore) -> None:
        ids = {owner: [new_id() for _ in range(45)] for owner in ("ada", "bob")}
        guest = new_id()
        store_thread(store, guest, None)
        for owner, threads in ids.items():
            for thread_id in threads:
                write_merged(store, thread_id, Write([Set("a", b"1")], owner=owner))
        write(store, ids["ada"][0], "ada", Clear(), SetMetadata(b"{}"))
        store.delete(ids["ada"][1])
        steps: list[int] = []
        assert store.erase("ada", steps.append) == 44
        assert sum(steps) == 44
        assert owned(store, "ada") == []
        assert [store.restore(each) for each in ids["ada"]] == [None] * 45
        # That of the cleared thread, too.
        write(store, ids["ada"][0], "bob", Set("a", b"1"))
        assert len(owned(store, "bob")) == 46
        assert store.restore(guest) is not None
        assert store.erase("ada") == 0
        assert store.erase("eve") == 0

    def test_writes_in_flight_are_dropped(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        request = Request(store, thread_id)
        request.state["a"] = 1
        store.erase("ada")
        with pytest.raises(ThreadGone):
            request.save()
        assert store.restore(thread_id) is None

    def test_what_is_no_owner(self, store: ThreadStore) -> None:
        for owner in ("", None, 7):
            with pytest.raises(ValueError, match="owner"):
                store.erase(owner)  # type: ignore[arg-type]

    def test_expired_threads_do_not_count(self, place: Any, clock: Any) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            for _ in range(25):
                write(store, new_id(), "ada", Set("a", b"1"))
            clock.advance(101)
            write(store, new_id(), "ada", Set("a", b"1"))
            assert store.erase("ada") >= 1
            assert store.erase("ada") == 0
