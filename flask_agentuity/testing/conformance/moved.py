"""Threads for the tests that move and copy them."""

from __future__ import annotations

from ...document import codec
from ...document.operations import Push, Set, SetMetadata
from ...stores import ThreadStore
from .owners import write
from .stored import LONG, new_id

DOCUMENT = codec.join_document(
    {
        "messages": codec.encode([{"n": n, "text": "x" * 60} for n in range(500)]),
        "short": b"[1,2]",
        "empty": b"[]",
        "n": b"5",
        "text": codec.encode("é" * 3_000),
        'odd " key\n': b"[null]",
    }
)
METADATA = {"title": "A title", "n": 1, "long": LONG, "tags": [1]}


def new_id_for(store: ThreadStore, thread_id: str) -> str:
    return store.propose_id(thread_id, new_id)


def long_thread(store: ThreadStore, thread_id: str, owner: str | None = None) -> bytes:
    snapshot = codec.split_document(DOCUMENT, thread_id)
    assert snapshot is not None
    values = [Set(key, value or b"") for key, value in snapshot.encoded.items()]
    write(store, thread_id, owner, *values, SetMetadata(codec.encode(METADATA)))
    write(store, thread_id, owner, Push("messages", b'{"n":500}'))
    document = store.restore(thread_id)
    assert document is not None
    return document


def without_metadata(document: bytes | None, thread_id: str) -> dict[str, bytes | None]:
    snapshot = codec.split_document(document, thread_id)
    assert snapshot is not None
    return dict(snapshot.encoded)
