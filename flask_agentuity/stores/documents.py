"""The part of the interface that every store has: whole documents, by the ids of threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class DocumentStore(ABC):
    """Stores documents."""

    @abstractmethod
    def restore(self, thread_id: str) -> bytes | None:
        """Return the document of a thread, as JSON in UTF-8; None if nothing is stored.

        :raises StoreError: if it cannot be read, or is damaged.
        """

    @abstractmethod
    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the whole document; ``b""`` removes the state.

        :param metadata: replaces the stored metadata; None keeps it. Metadata inside *document* is
            ignored.
        :raises StateTooLarge: if it exceeds the limit. What was stored is unchanged.
        :raises StoreError: if it cannot be written.
        """

    @abstractmethod
    def delete(self, thread_id: str) -> None:
        """Delete a thread. It is no error if it does not exist."""

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        """Like :meth:`restore`, but without renewing the thread's time to live, if possible."""
        return self.restore(thread_id)
