"""Threads that belong to a user."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import (
    Clear,
    EditMetadata,
    Increment,
    Operation,
    Push,
    ReplaceMetadata,
    Set,
    SetMetadata,
)
from ...errors import ThreadGone
from ...stores import ThreadStore
from ...stores.listing import ListedThread
from ...stores.writing import Write, write_merged
from .requests import edit
from .stored import new_id, snapshot_of
from .suite import Suite, needs

#: Owners that may cause errors in a store.
OWNERS = ["ada", "7", "Zoë", "a b", "a\nb", "%40", "@", '"q"', "x" * 400, "😀", "owner", "{1}"]

WAYS: list[list[Operation]] = [
    [Push("l", b"3")],
    [Push("l", b"3"), Push("l", b"4")],
    [Push("l", b"3", max_records=2)],
    [Set("a", b"1")],
    [Clear()],
    [Increment("n")],
    [SetMetadata(b'{"title":"theirs"}')],
    [edit("l", b"[1,2]", [1, 5])],
    [EditMetadata(b'{"m":1}', b'{"m":2}')],
]


def store_thread(store: ThreadStore, thread_id: str, owner: str | None) -> None:
    operations: list[Operation] = [Set("l", b"[1,2]"), Set("n", b"5"), SetMetadata(b'{"m":1}')]
    write(store, thread_id, owner, *operations)


def write(store: ThreadStore, thread_id: str, owner: str | None, *operations: Operation) -> None:
    time.sleep(0.002)
    write_merged(store, thread_id, Write(operations, owner=owner))


def owned(store: ThreadStore, owner: str) -> list[str]:
    return [thread.id for thread in store.list(owner=owner, limit=100).threads]


class OwnerConformance(Suite):
    """What Write.owner, Snapshot.owner and list(owner=...) mean."""

    @pytest.mark.parametrize("owner", OWNERS)
    def test_a_new_thread_belongs_to_the_owner_of_its_first_write(
        self, store: ThreadStore, thread_id: str, owner: str
    ) -> None:
        store_thread(store, thread_id, owner)
        assert snapshot_of(store, thread_id).owner == owner
        assert snapshot_of(store, thread_id, ()).owner == owner
        write(store, thread_id, owner, Push("l", b"3"))
        write(store, thread_id, owner, Set("a", b"1"))
        snapshot = snapshot_of(store, thread_id)
        assert (snapshot.owner, snapshot.encoded["l"]) == (owner, b"[1,2,3]")

    def test_a_thread_without_owner_stays_without(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        assert snapshot_of(store, thread_id).owner is None
        for operations in WAYS:
            write(store, thread_id, "ada", *operations)
        write(store, thread_id, "bob", Set("a", b"1"))
        assert snapshot_of(store, thread_id).owner is None

    @pytest.mark.parametrize("operations", WAYS, ids=str)
    def test_a_write_for_another_changes_nothing(
        self, store: ThreadStore, thread_id: str, operations: Sequence[Operation]
    ) -> None:
        store_thread(store, thread_id, "ada")
        before = store.restore(thread_id), snapshot_of(store, thread_id).version
        with pytest.raises(ThreadGone):
            write(store, thread_id, "bob", *operations)
        # Also if the request has read the thread.
        snapshot = snapshot_of(store, thread_id)
        with pytest.raises(ThreadGone):
            write_merged(
                store,
                thread_id,
                Write(operations, snapshot.version, snapshot.seen, owner="bob"),
            )
        assert (store.restore(thread_id), snapshot_of(store, thread_id).version) == before
        assert snapshot_of(store, thread_id).owner == "ada"

    @pytest.mark.parametrize("operations", WAYS, ids=str)
    def test_a_trusted_write_keeps_the_owner(
        self, store: ThreadStore, thread_id: str, operations: Sequence[Operation]
    ) -> None:
        store_thread(store, thread_id, "ada")
        changed: list[Operation] = [
            SetMetadata(b'{"title":"theirs","owner":"ada"}') if type(each) is SetMetadata else each
            for each in operations
        ]
        write(store, thread_id, None, *changed)
        write(store, thread_id, "ada", Set("b", b"2"))
        assert snapshot_of(store, thread_id).owner == "ada"

    @pytest.mark.parametrize(
        "change",
        [
            SetMetadata(b'{"title":"new"}'),
            SetMetadata(b"{}"),
            EditMetadata(b'{"m":1,"owner":"ada"}', b'{"m":2}'),
            SetMetadata(b'{"owner":"bob"}'),
        ],
        ids=str,
    )
    def test_the_metadata_of_the_owner_do_not_change_the_owner(
        self, store: ThreadStore, thread_id: str, change: Operation
    ) -> None:
        store_thread(store, thread_id, "ada")
        write(store, thread_id, "ada", change)
        assert snapshot_of(store, thread_id).owner == "ada"
        with pytest.raises(ThreadGone):
            write(store, thread_id, "bob", Set("a", b"1"))

    @needs("owners")
    def test_the_owner_is_not_in_the_document(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        assert store.restore(thread_id) == b'{"state":{"l":[1,2],"n":5},"metadata":{"m":1}}'
        store.save(thread_id, b'{"state":{"a":1}}', {"owner": "bob"})
        store.merge(thread_id, [Set("b", b"2")], {"owner": "eve"})
        assert snapshot_of(store, thread_id).owner == "ada"
        metadata = snapshot_of(store, thread_id).metadata
        write(store, thread_id, None, ReplaceMetadata(metadata, b'{"owner":"bob"}'))
        assert snapshot_of(store, thread_id).owner == "ada"
        with pytest.raises(ThreadGone):
            write(store, thread_id, "bob", Set("a", b"1"))

    @needs("owners")
    def test_a_thread_whose_state_was_cleared_keeps_its_owner(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store_thread(store, thread_id, "ada")
        write(store, thread_id, "ada", Clear(), SetMetadata(b"{}"))
        self.require_hidden(store, thread_id, "ada")
        with pytest.raises(ThreadGone):
            write(store, thread_id, "bob", Set("a", b"1"))
        write(store, thread_id, None, Set("a", b"1"))
        assert snapshot_of(store, thread_id).owner == "ada"

    @needs("owners")
    def test_a_thread_that_is_new_and_empty_keeps_its_owner(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        """For a conversation that a person has begun without saying anything yet."""
        write(store, thread_id, "ada")
        self.require_hidden(store, thread_id, "ada")
        with pytest.raises(ThreadGone):
            write(store, thread_id, "bob", Set("a", b"1"))
        write(store, thread_id, "ada", Set("a", b"1"))
        assert snapshot_of(store, thread_id).owner == "ada"
        assert [listed.owner for listed in store.scan()] == ["ada"]

    def require_hidden(self, store: ThreadStore, thread_id: str, owner: str) -> None:
        """Check that an empty thread is found only by a read that asks for its owner."""
        snapshot = snapshot_of(store, thread_id)
        assert (snapshot.encoded, snapshot.metadata, snapshot.owner) == ({}, b"{}", owner)
        assert store.restore(thread_id) is None
        assert [*store.scan()] == store.list(owner=owner).threads == []

    def test_a_read_for_a_person(self, store: ThreadStore, thread_id: str) -> None:
        assert store.read_for("ada", thread_id) is None
        store_thread(store, thread_id, "ada")
        write(store, thread_id, None, Set("long", b'"%b"' % (b"x" * 5_000)))
        for keys in (None, ("long",), ()):
            read, plainly = store.read_for("ada", thread_id, keys), store.read(thread_id, keys)
            assert read is not None
            assert plainly is not None
            assert (read.encoded, read.metadata, read.owner, read.version) == (
                plainly.encoded,
                plainly.metadata,
                "ada",
                plainly.version,
            )
        for person in ("bob", None):
            for keys in (None, ("long",), ()):
                foreign = store.read_for(person, thread_id, keys)
                assert foreign is not None
                assert foreign.owner == "ada"
                if store.owners:
                    assert (foreign.encoded, foreign.metadata) == ({}, b"{}")

    def test_a_read_for_a_guest(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, None)
        for person in ("ada", None):
            snapshot = store.read_for(person, thread_id)
            assert snapshot is not None
            assert snapshot.owner is None
            assert snapshot.encoded

    @needs("edits")
    def test_after_a_deletion_the_id_has_no_owner(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        store.delete(thread_id)
        store_thread(store, thread_id, "bob")
        assert snapshot_of(store, thread_id).owner == "bob"
        with pytest.raises(ThreadGone):
            write(store, thread_id, "ada", Push("l", b"3"))

    def test_an_expired_thread_has_no_owner(self, place: Any, thread_id: str, clock: Any) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store_thread(store, thread_id, "ada")
            clock.advance(101)
            store_thread(store, thread_id, "bob")
            assert snapshot_of(store, thread_id).owner == "bob"


@needs("lists")
class OwnerListingConformance(Suite):
    """Threads of one owner in listings."""

    @pytest.mark.parametrize("owner", OWNERS)
    def test_the_threads_of_an_owner(self, store: ThreadStore, owner: str) -> None:
        ids = [new_id() for _ in range(3)]
        for thread_id in ids:
            store_thread(store, thread_id, owner)
        store_thread(store, new_id(), f"{owner}2")
        store_thread(store, new_id(), owner[:-1] or None)
        store_thread(store, new_id(), None)
        assert owned(store, owner) == ids[::-1]
        write(store, ids[0], owner, Push("l", b"3"))
        assert owned(store, owner) == [ids[0], ids[2], ids[1]]
        write(store, ids[1], owner, Set("a", b"3"))
        assert owned(store, owner) == [ids[1], ids[0], ids[2]]
        store.delete(ids[0])
        assert owned(store, owner) == [ids[1], ids[2]]
        owners = {thread.owner for thread in store.list(owner=owner).threads}
        assert owners == {owner}

    def test_pages_of_an_owner_and_a_value(self, store: ThreadStore) -> None:
        ids = {"red": [], "blue": []}  # type: dict[str, list[str]]
        for number in range(12):
            thread_id, color = new_id(), ("red", "blue")[number % 2]
            owner = ("ada", "bob")[number % 3 == 0]
            write(store, thread_id, owner, Set("a", b"1"), SetMetadata(codec.encode({"c": color})))
            if owner == "ada":
                ids[color].insert(0, thread_id)
        found, cursor = [], None
        while True:
            page = store.list({"c": "red"}, owner="ada", limit=2, cursor=cursor)
            found += [thread.id for thread in page.threads]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == ids["red"]

    @pytest.mark.parametrize("owner", ["", 7, b"ada", "\ud83d", ["ada"]])
    def test_what_is_no_owner_is_an_error(self, store: ThreadStore, owner: Any) -> None:
        with pytest.raises(ValueError, match="owner"):
            store.list(owner=owner)

    @needs("owners")
    def test_the_metadata_do_not_say_the_owner(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, None, Set("a", b"1"), SetMetadata(b'{"owner":"ada"}'))
        assert owned(store, "ada") == []
        (thread,) = store.list({"owner": "ada"}).threads
        assert thread.owner is None

    @needs("owners")
    def test_a_cleared_thread_is_not_listed(self, store: ThreadStore, thread_id: str) -> None:
        store_thread(store, thread_id, "ada")
        write(store, thread_id, "ada", Clear(), SetMetadata(b"{}"))
        assert owned(store, "ada") == []
        write(store, thread_id, "ada", Set("a", b"1"))
        assert owned(store, "ada") == [thread_id]

    @needs("owners")
    @needs("transfers")
    def test_an_import_sets_the_owner(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()
        for age, owner in ((9, "ada"), (8, "bob"), (7, None), (6, "eve")):
            thread = ListedThread(thread_id, {}, now - 10, now - age, 0, owner)
            assert store.import_thread(thread, b'{"state":{"a":1}}')
            assert snapshot_of(store, thread_id).owner == owner
            (found,) = store.scan()
            assert found.owner == owner
            for each in ("ada", "bob", "eve"):
                assert owned(store, each) == ([thread_id] if each == owner else [])
