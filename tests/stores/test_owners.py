"""Owners in stores that were written for version 1, and in subclasses of stores."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.minimal import MinimalStore

from flask_agentuity.document.operations import (
    EditMetadata,
    Increment,
    Operation,
    Push,
    Set,
    SetMetadata,
)
from flask_agentuity.errors import ThreadGone
from flask_agentuity.stores import ListedThread, Page, Query, ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.owners import owner_in
from flask_agentuity.stores.writing import Write, write_merged
from flask_agentuity.testing.conformance.stored import new_id, snapshot_of

LISTED = ListedThread("thrd_x", {"owner": "ada"}, 1.0, 2.0, 3)
PAGE = Page([LISTED], None)
#: With the owner that the metadata name.
NAMED = Page([replace(LISTED, owner="ada")], None)


class ListingStore(MinimalStore):
    """Lists as a store of version 1 does."""

    asked: list[tuple[Any, ...]]

    def list(  # type: ignore[override]
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        self.asked = [*getattr(self, "asked", ()), (metadata, limit, cursor)]
        return PAGE


class FindingStore(MinimalStore):
    """Lists by find(), and keeps owners in the metadata."""

    asked: Query

    def find(self, query: Query) -> Page:
        self.asked = query
        return PAGE


class OldList(MemoryStore):
    """A store of this package with a list() of version 1."""

    def list(  # type: ignore[override]
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        return super().list(metadata, limit=min(limit, 1), cursor=cursor)


class OldNames(MinimalStore):
    """Has the former names of methods."""

    def peek(self, thread_id: str) -> bytes:
        return b"peeked"

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        return document == b"adopted"


class Merging(MemoryStore):
    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().merge(thread_id, [*operations, Set("merged", b"1")], metadata)


class Saving(MemoryStore):
    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        super().save(thread_id, document, metadata)


def write(store: ThreadStore, thread_id: str, owner: str | None, *operations: Operation) -> None:
    write_merged(store, thread_id, Write(operations, owner=owner))


def test_a_list_of_version_1_is_asked_for_the_metadata(tmp_path: Path) -> None:
    store: ThreadStore = ListingStore(tmp_path)
    assert store.list({"a": 1}, limit=3, cursor="c") == NAMED
    assert store.list({"a": 1}, owner="ada", limit=3) == NAMED
    assert store.list(owner="ada") == NAMED
    assert isinstance(store, ListingStore)
    assert store.asked == [
        ({"a": 1}, 3, "c"),
        ({"a": 1, "owner": "ada"}, 3, None),
        ({"owner": "ada"}, 20, None),
    ]


def test_find_is_asked_for_the_metadata(tmp_path: Path) -> None:
    store = FindingStore(tmp_path)
    assert store.list({"a": 1}, owner="ada", limit=3) == NAMED
    assert store.asked == Query({"a": 1, "owner": "ada"}, None, 3)
    assert [thread.owner for thread in store.find_all({"a": 1})] == ["ada"]


def test_erasing_ends_although_a_listing_lags(tmp_path: Path) -> None:
    steps: list[int] = []
    # Its listing shows one thread, whatever was deleted.
    assert ListingStore(tmp_path).erase("ada", steps.append) == 1
    assert steps == [1]


def test_a_list_of_version_1_does_not_hide_the_field() -> None:
    store: ThreadStore = OldList()
    ids = [new_id() for _ in range(3)]
    for thread_id in ids:
        write(store, thread_id, "ada", Set("a", b"1"))
    assert len(store.list(limit=5).threads) == 1
    assert {thread.id for thread in store.list(owner="ada", limit=5).threads} == set(ids)


def test_former_names_of_methods_go_on_working(tmp_path: Path) -> None:
    store = OldNames(tmp_path)
    assert store.restore_without_renewing("thrd_x") == b"peeked"
    thread = ListedThread("thrd_x", {}, 1.0, 2.0, 0)
    assert store.import_thread(thread, b"adopted")
    assert not store.import_thread(thread, b"other")


@pytest.mark.parametrize("kind", [Merging, Saving])
@pytest.mark.parametrize("operation", [Push("l", b"1"), Increment("n"), Set("l", b"[1]")], ids=str)
def test_a_subclass_with_a_merge_of_its_own_keeps_the_owner(
    kind: type[MemoryStore], operation: Operation
) -> None:
    store, thread_id = kind(), new_id()
    write(store, thread_id, "ada", operation)
    snapshot = snapshot_of(store, thread_id)
    assert (snapshot.owner, snapshot.metadata) == ("ada", b"{}")
    with pytest.raises(ThreadGone):
        write(store, thread_id, "bob", operation)
    write(store, thread_id, None, operation)
    store.merge(thread_id, [Set("b", b"1")])
    assert snapshot_of(store, thread_id).owner == "ada"


def test_a_minimal_store_reads_once_more_only_if_the_owner_is_not_known(tmp_path: Path) -> None:
    class Counting(MinimalStore):
        reads = 0

        def read(self, thread_id: str, keys: Any = None) -> Any:
            self.reads += keys == ()
            return super().read(thread_id, keys)

    store, thread_id = Counting(tmp_path), new_id()
    write(store, thread_id, "ada", Set("a", b"1"))
    assert store.reads == 1
    seen = snapshot_of(store, thread_id).seen
    written = write_merged(store, thread_id, Write([Set("a", b"2")], seen=seen, owner="ada"))
    write_merged(store, thread_id, Write([Set("a", b"3")], seen=written.seen, owner="ada"))
    with pytest.raises(ThreadGone):
        write_merged(store, thread_id, Write([Set("a", b"4")], seen=seen, owner="bob"))
    assert store.reads == 1
    write(store, thread_id, "ada", Set("a", b"4"))
    assert store.reads == 2
    # Nothing can be stored under an id that the request has made.
    write_merged(store, new_id(), Write([Set("a", b"1")], owner="ada", is_new=True))
    assert store.reads == 2


def test_the_owner_joins_the_metadata_of_the_first_write(tmp_path: Path) -> None:
    store = MinimalStore(tmp_path)
    for operation in (SetMetadata(b'{"t":1}'), EditMetadata(b"{}", b'{"t":1}')):
        thread_id = new_id()
        write(store, thread_id, "ada", Set("a", b"1"), operation)
        assert snapshot_of(store, thread_id).metadata == b'{"t":1,"owner":"ada"}'


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (b"{}", None),
        (b'{"owner":"ada"}', "ada"),
        (b'{"owner":7}', "7"),
        (b'{"owner":""}', None),
        (b'{"owner":true}', None),
        (b'{"owner":null}', None),
        (b'{"owner":["ada"]}', None),
        (b'{"title":"owner"}', None),
        (b'{"x":{"owner":"ada"}}', None),
    ],
)
def test_what_counts_as_an_owner_in_metadata(metadata: bytes, owner: str | None) -> None:
    assert owner_in(metadata) == owner


def test_a_number_in_the_metadata_stays_a_number(tmp_path: Path) -> None:
    store, thread_id = MinimalStore(tmp_path), new_id()
    write(store, thread_id, None, Set("a", b"1"), SetMetadata(b'{"owner":7}'))
    write(store, thread_id, "7", SetMetadata(b'{"title":"new"}'))
    assert snapshot_of(store, thread_id).metadata == b'{"title":"new","owner":7}'
    with pytest.raises(ThreadGone):
        write(store, thread_id, "8", Set("a", b"1"))


def test_stores_can_be_copied_and_pickled(tmp_path: Path) -> None:
    store, thread_id = MinimalStore(tmp_path), new_id()
    store.merge(thread_id, [Set("a", b"1")])
    for another in (copy.copy(store), pickle.loads(pickle.dumps(store))):
        another.merge(thread_id, [Push("l", b"1")])
    assert store.restore(thread_id) == b'{"state":{"a":1,"l":[1,1]}}'


def test_a_query_is_checked_once() -> None:
    assert Query().after is None
    options: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": True},
        {"owner": ""},
        {"owner": 7},
        {"cursor": "x"},
        {"metadata": {"a": []}},
    ]
    for wrong in options:
        with pytest.raises(ValueError, match=r"wrong|cursor|found"):
            Query(**wrong)
