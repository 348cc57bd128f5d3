"""A store, written by a user of the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from flask import Flask

from flask_agentuity import StateTooLarge, StoreError, ThreadManager, ThreadStore
from flask_agentuity.stores import open_store


class DictionaryStore(ThreadStore):
    """Keeps documents in a dictionary."""

    shared_by_machines = False

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}

    def restore(self, thread_id: str) -> bytes | None:
        return self._documents.get(thread_id)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        if len(document) > 1_000:
            raise StateTooLarge(len(document), 1_000, thread_id)
        self._documents[thread_id] = document

    def delete(self, thread_id: str) -> None:
        try:
            self._documents.pop(thread_id, None)
        except OSError as error:
            raise StoreError(str(error)) from error


store = DictionaryStore()
ThreadManager(Flask(__name__), store=store)
ThreadManager(Flask(__name__), store="memory://")
assert_type(open_store("memory://"), ThreadStore)
ThreadManager(Flask(__name__), store=5)  # type: ignore[arg-type]
