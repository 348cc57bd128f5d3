"""Calls to a store, and expected results, for the tests."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from ...document import codec
from ...document.apply import apply_operations
from ...document.codec import Snapshot
from ...document.operations import Operation, Push, Set
from ...stores import ThreadStore
from ...stores.listing import ListedThread, Page

#: A text that is longer than what an index keeps of a value.
LONG = "x" * 500


def new_id() -> str:
    return f"thrd_{uuid.uuid4().hex}"


def pushes(key: str, items: Collection[object]) -> list[Operation]:
    return [Push(key, codec.encode_item(item)) for item in items]


def snapshot_of(
    store: ThreadStore, thread_id: str, keys: Collection[str] | None = None
) -> Snapshot:
    snapshot = store.read(thread_id, keys)
    assert snapshot is not None
    return snapshot


def decoded(store: ThreadStore, thread_id: str) -> dict[str, Any]:
    snapshot = snapshot_of(store, thread_id)
    return {key: codec.decode(value or b"") for key, value in snapshot.encoded.items()}


def expected_after(
    document: bytes | None,
    thread_id: str,
    changes: Sequence[Operation],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the result of pure functions for *document* with *changes*."""
    snapshot = codec.split_document(document, thread_id) or Snapshot({})
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    apply_operations(state, changes)
    kept = snapshot.metadata if metadata is None else codec.encode(dict(metadata))
    return codec.join_document(state, kept)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("flask_agentuity")]


def change(
    store: ThreadStore,
    thread_id: str,
    operations: list[Operation],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Merge, at another time than the last call: a store may count in milliseconds."""
    time.sleep(0.002)
    store.merge(thread_id, operations, metadata)


def fill(store: ThreadStore, count: int, metadata: Mapping[str, Any] | None = None) -> list[str]:
    """Store *count* threads, one after the other, and return their ids."""
    ids = [new_id() for _ in range(count)]
    for thread_id in ids:
        change(store, thread_id, [Set("a", b"1")], metadata)
    return ids


def listed(
    store: ThreadStore, metadata: Mapping[str, Any] | None = None, limit: int = 100
) -> list[str]:
    return [thread.id for thread in store.list(metadata, limit=limit).threads]


def only(store: ThreadStore) -> ListedThread:
    (thread,) = store.list().threads
    return thread


def pages_of(store: ThreadStore, metadata: Mapping[str, Any] | None, limit: int) -> list[Page]:
    """Return every page; fail if the pages do not end."""
    pages = [store.list(metadata, limit=limit)]
    while pages[-1].cursor is not None:
        assert len(pages) < 200
        pages.append(store.list(metadata, limit=limit, cursor=pages[-1].cursor))
    return pages
