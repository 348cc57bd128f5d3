"""Deleted threads stay deleted, and empty ones are hidden."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from ...document.operations import Clear, Delete, Operation, Push, Set, SetMetadata
from ...errors import ThreadGone
from ...stores import ThreadStore
from ...stores.base import TOMBSTONE_SECONDS
from ...stores.writing import Write, write_merged
from .requests import Request, write
from .stored import new_id, snapshot_of
from .suite import Clock, Suite, needs


def refused(store: ThreadStore, thread_id: str, *operations: Operation, **more: Any) -> None:
    """Do a write that must be dropped, and check that it has changed nothing."""
    before = store.restore(thread_id)
    with pytest.raises(ThreadGone) as caught:
        store.write(thread_id, Write(operations, **more))
    assert caught.value.thread_id == thread_id
    assert store.restore(thread_id) == before


@needs("edits")
class DeletionConformance(Suite):
    """Writes of requests that began before a deletion are dropped."""

    @pytest.mark.parametrize(
        "operations",
        [
            [Set("n", b"2")],
            [Push("l", b"2")],
            [Clear(), Set("n", b"2")],
            [SetMetadata(b'{"m":2}')],
            [Delete("n")],
            [],
        ],
        ids=["set", "blind push", "whole state", "metadata", "delete", "nothing"],
    )
    def test_a_request_that_began_before_is_dropped(
        self, store: ThreadStore, thread_id: str, operations: list[Operation]
    ) -> None:
        write(store, thread_id, Set("n", b"1"), Push("l", b"1"))
        blind, reader = time.monotonic(), Request(store, thread_id)
        store.delete(thread_id)
        refused(store, thread_id, *operations, began=blind)
        refused(store, thread_id, *operations, began=reader.began, version=reader.version)
        assert store.restore(thread_id) is None

    def test_an_edit_is_dropped(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("l", b"[1,2,3]"), Set("n", b"1"))
        request = Request(store, thread_id)
        request.state["l"][1] = "mine"
        request.state["n"] = 2
        store.delete(thread_id)
        for operations in (request.operations(), []):
            with pytest.raises(ThreadGone):
                write_merged(
                    store,
                    thread_id,
                    Write([*operations, Push("l", b"4")], request.version, began=request.began),
                )
        with pytest.raises(ThreadGone):
            store.write(thread_id, Write(request.operations(), began=request.began))
        assert store.restore(thread_id) is None

    def test_a_request_that_began_later_starts_again(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        write(store, thread_id, Set("n", b"1"), SetMetadata(b'{"m":1}'))
        old = Request(store, thread_id)
        store.delete(thread_id)
        write(store, thread_id, Push("l", b"1"))
        assert store.restore(thread_id) == b'{"state":{"l":[1]}}'
        # The deletion is still known, also to a request that read what was deleted.
        refused(store, thread_id, Push("l", b"2"), began=old.began)
        refused(store, thread_id, Push("l", b"2"), began=old.began, version=old.version)
        write(store, thread_id, Push("l", b"3"), version=snapshot_of(store, thread_id).version)
        assert store.restore(thread_id) == b'{"state":{"l":[1,3]}}'

    def test_what_was_read_tells_that_a_thread_was_deleted(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        """The clocks of machines differ, so the version that was read counts as well."""
        version = write(store, thread_id, Set("n", b"1")).version
        store.delete(thread_id)
        refused(store, thread_id, Push("l", b"1"), version=version)
        write(store, thread_id, Set("n", b"1"))
        refused(store, thread_id, Push("l", b"1"), version=version)
        write(store, thread_id, Push("l", b"1"))

    def test_deleting_again(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("n", b"1"))
        store.delete(thread_id)
        write(store, thread_id, Set("n", b"2"))
        began = time.monotonic()
        store.delete(thread_id)
        store.delete(thread_id)
        refused(store, thread_id, Push("l", b"1"), began=began)
        write(store, thread_id, Push("l", b"1"))

    def test_a_thread_that_was_never_stored_can_be_deleted(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        began = time.monotonic()
        store.delete(thread_id)
        refused(store, thread_id, Push("l", b"1"), began=began)
        write(store, thread_id, Push("l", b"1"))
        write(store, new_id(), Push("l", b"1"), began=began)

    def test_a_deletion_does_not_touch_other_threads(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        other = new_id()
        write(store, thread_id, Set("n", b"1"))
        write(store, other, Set("n", b"1"))
        request = Request(store, other)
        store.delete(thread_id)
        request.state["n"] = 2
        request.save()
        assert store.restore(other) == b'{"state":{"n":2}}'

    def test_whole_documents_and_merges_start_again(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        write(store, thread_id, Set("n", b"1"))
        store.delete(thread_id)
        store.merge(thread_id, [Push("l", b"1")])
        store.delete(thread_id)
        store.save(thread_id, b'{"state":{"a":1}}')
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    def test_a_deletion_is_known_for_an_hour(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place)) as store:
            write(store, thread_id, Set("n", b"1"))
            clock.advance(5)
            store.delete(thread_id)
            waited = TOMBSTONE_SECONDS - 60
            clock.advance(waited)
            refused(store, thread_id, Push("l", b"1"), began=time.monotonic() - waited - 1)
            clock.advance(120)
            waited += 120
            write(store, thread_id, Push("l", b"1"), began=time.monotonic() - waited - 1)
            assert store.restore(thread_id) == b'{"state":{"l":[1]}}'

    def test_an_expired_thread_was_not_deleted(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            write(store, thread_id, Set("n", b"1"), Set("l", b"[1]"))
            request = Request(store, thread_id)
            clock.advance(101)
            request.state["n"] = 2
            request.state["l"].append(2)
            request.save()
            assert store.restore(thread_id) == b'{"state":{"l":[2]}}'

    @pytest.mark.parametrize("way", ["clear", "delete", "save"])
    def test_an_empty_thread_was_not_deleted(
        self, store: ThreadStore, thread_id: str, way: str
    ) -> None:
        store.delete(thread_id)
        write(store, thread_id, Set("n", b"1"), SetMetadata(b'{"m":1}'))
        request = Request(store, thread_id)
        if way == "clear":
            write(store, thread_id, Clear(), SetMetadata(b"{}"))
        elif way == "delete":
            write(store, thread_id, SetMetadata(b"{}"), Delete("n"))
        else:
            store.save(thread_id, b"", {})
        assert store.restore(thread_id) is None
        assert store.read(thread_id) is None
        assert store.read(thread_id, ["n"]) is None
        assert store.restore_without_renewing(thread_id) is None
        if self.lists:
            assert store.list().threads == []
            assert list(store.scan()) == []
        request.state["n"] = 2
        request.save(Push("l", b"1"))
        assert store.restore(thread_id) == b'{"state":{"l":[1]}}'

    def test_a_deleted_thread_that_was_empty(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("n", b"1"))
        write(store, thread_id, Clear())
        began = time.monotonic()
        store.delete(thread_id)
        refused(store, thread_id, Push("l", b"1"), began=began)
