"""The least that a store can be: a file for each thread, three methods."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.base import complete


class MinimalStore(ThreadStore):
    """Leaves merge() and read() to the base class."""

    def __init__(
        self, folder: Path, *, ttl: float | None = None, max_bytes: int = 1_048_576
    ) -> None:
        self._folder = folder
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._used: dict[str, float] = {}

    def restore(self, thread_id: str) -> bytes | None:
        file = self._folder / thread_id
        used = self._used.get(thread_id, time.time())
        if self._ttl is not None and time.time() > used + self._ttl:
            file.unlink(missing_ok=True)
        try:
            document = file.read_bytes()
        except FileNotFoundError:
            return None
        codec.split_document(document, thread_id)
        self._used[thread_id] = time.time()
        return document

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        before = self.restore(thread_id)
        kept = codec.split_document(before, thread_id) or Snapshot({})
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        encoded = (
            kept.metadata if metadata is None else codec.encode_stored(dict(metadata), "metadata")
        )
        after = codec.join_document(complete(snapshot, thread_id), encoded)
        codec.require_size(len(after), self._max_bytes, thread_id, len(before or b""))
        if not after:
            return self.delete(thread_id)
        written = self._folder / f"{thread_id}.new"
        written.write_bytes(after)
        written.replace(self._folder / thread_id)
        self._used[thread_id] = time.time()

    def delete(self, thread_id: str) -> None:
        (self._folder / thread_id).unlink(missing_ok=True)
