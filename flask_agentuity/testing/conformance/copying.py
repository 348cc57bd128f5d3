"""Copies of threads."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import (
    PopLast,
    Push,
    Set,
)
from ...errors import StateTooLarge
from ...stores import ThreadStore
from .moved import METADATA, long_thread, new_id_for, without_metadata
from .owners import owned, store_thread, write
from .requests import Request
from .stored import listed, new_id, only, snapshot_of
from .suite import Suite, needs


class CopyingConformance(Suite):
    """What copy() does."""

    def test_a_copy_is_independent(self, store: ThreadStore, thread_id: str) -> None:
        document = long_thread(store, thread_id)
        target = new_id_for(store, thread_id)
        assert store.copy(thread_id, target) is True
        assert (store.restore(thread_id), store.restore(target)) == (document, document)
        for each, other in ((thread_id, target), (target, thread_id)):
            before = store.restore(other)
            for operation in (Push("messages", b"1"), Set("n", b"6"), PopLast("short")):
                write(store, each, None, operation)
            assert store.restore(other) == before
        assert store.restore(thread_id) == store.restore(target)
        store.delete(thread_id)
        write(store, target, None, Push("messages", b"2"))
        assert snapshot_of(store, target).encoded["n"] == b"6"

    @pytest.mark.parametrize("count", [0, 1, 4, 499, 501, 9_999])
    def test_the_first_items_are_kept(self, store: ThreadStore, thread_id: str, count: int) -> None:
        document = long_thread(store, thread_id)
        expected = dict(without_metadata(document, thread_id))
        items = codec.decode(expected["messages"] or b"")
        expected["messages"] = codec.encode(items[:count])
        expected["short"] = b"[1]"
        target = new_id_for(store, thread_id)
        keep = {"messages": count, "short": 1, "empty": 1, "missing": 1}
        assert store.copy(thread_id, target, keep=keep)
        assert without_metadata(store.restore(target), target) == expected
        assert store.restore(thread_id) == document
        write(store, target, None, Push("messages", b"1"))
        stored = codec.decode(snapshot_of(store, target).encoded["messages"] or b"")
        assert stored == [*items[:count], 1]

    def test_a_value_that_is_no_list_is_copied_whole(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        long_thread(store, thread_id)
        target = new_id_for(store, thread_id)
        assert store.copy(thread_id, target, keep={"n": 0, "text": 1})
        assert snapshot_of(store, target).encoded["n"] == b"5"

    def test_metadata_of_the_copy(self, store: ThreadStore, thread_id: str) -> None:
        long_thread(store, thread_id)
        for metadata in ({"title": "copy"}, {}):
            target = new_id_for(store, thread_id)
            assert store.copy(thread_id, target, metadata=metadata)
            assert codec.decode(snapshot_of(store, target).metadata) == metadata
        assert codec.decode(snapshot_of(store, thread_id).metadata) == METADATA

    def test_the_owner_of_the_copy(self, store: ThreadStore, thread_id: str) -> None:
        owned_id = new_id()
        store_thread(store, thread_id, None)
        store_thread(store, owned_id, "ada")
        for source, owner, expected in (
            (thread_id, None, None),
            (thread_id, "bob", "bob"),
            (owned_id, None, "ada"),
            (owned_id, "ada", "ada"),
        ):
            for metadata in (None, {"m": 2}):
                target = new_id_for(store, source)
                assert store.copy(source, target, owner=owner, metadata=metadata)
                assert snapshot_of(store, target).owner == expected
        target = new_id_for(store, owned_id)
        assert store.copy(owned_id, target, owner="bob") is False
        assert store.restore(target) is None
        assert snapshot_of(store, thread_id).owner is None

    def test_what_cannot_be_kept(self, store: ThreadStore, thread_id: str) -> None:
        long_thread(store, thread_id)
        target = new_id_for(store, thread_id)
        for keep in ({"messages": -1}, {"messages": True}, {"messages": 1.5}, {"messages": "1"}):
            with pytest.raises(ValueError, match="messages"):
                store.copy(thread_id, target, keep=keep)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="already"):
            store.copy(thread_id, thread_id)
        assert store.restore(target) is None

    def test_a_thread_that_is_not_stored(self, store: ThreadStore, thread_id: str) -> None:
        target = new_id_for(store, thread_id)
        assert store.copy(thread_id, target) is False
        assert store.copy(thread_id, target, keep={"l": 1}, metadata={"a": 1}) is False
        assert store.restore(target) is None

    def test_a_copy_that_is_too_large(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place, max_bytes=1_000)) as store:
            write(store, thread_id, None, Set("a", codec.encode("x" * 900)))
            before, target = store.restore(thread_id), new_id_for(store, thread_id)
            with pytest.raises(StateTooLarge):
                store.copy(thread_id, target, metadata={"title": "x" * 200})
            assert (store.restore(thread_id), store.restore(target)) == (before, None)

    @needs("edits")
    def test_a_copy_is_a_new_thread(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        time.sleep(0.002)
        target = new_id_for(store, thread_id)
        store.copy(thread_id, target)
        assert snapshot_of(store, target).version > snapshot_of(store, thread_id).version
        request = Request(store, target)
        request.state["l"][0] = 7
        request.state["n"] = 6
        request.save()
        assert snapshot_of(store, target).encoded == {"l": b"[7,2]", "n": b"6"}

    @needs("transfers")
    def test_a_copy_is_listed(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        first = only(store)
        time.sleep(0.01)
        target, other = new_id_for(store, thread_id), new_id_for(store, thread_id)
        store.copy(thread_id, target, keep={"l": 1})
        store.copy(thread_id, other, metadata={"m": 2})
        assert owned(store, "ada") == [other, target, thread_id]
        assert listed(store, {"m": 1}) == [target, thread_id]
        assert listed(store, {"m": 2}) == [other]
        copy = next(thread for thread in store.scan() if thread.id == target)
        assert copy.created > first.created
        assert copy.created <= copy.updated
        assert copy.size < first.size

    @needs("transfers")
    def test_a_copy_expires_by_itself(self, place: Any, thread_id: str, clock: Any) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            long_thread(store, thread_id, "ada")
            clock.advance(60)
            target = new_id_for(store, thread_id)
            store.copy(thread_id, target)
            clock.advance(60)
            assert store.restore(thread_id) is None
            assert store.restore(target) is not None
            clock.advance(101)
            assert store.restore(target) is None
