"""What every store has: whole documents, by the ids of threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class DocumentStore(ABC):
    """Stores documents."""

    @abstractmethod
    def restore(self, thread_id: str) -> bytes | None:
        """Return the stored document as JSON text in UTF-8; None if there is none.

        :raises StoreError: if it cannot be read, or is damaged.
        """

    @abstractmethod
    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the whole document; ``b""`` removes the state.

        The metadata inside *document* is ignored: *metadata* replaces what is stored, and
        None keeps it.

        :raises StateTooLarge: if it is over the limit; what was stored stays.
        :raises StoreError: if it cannot be written.
        """

    @abstractmethod
    def delete(self, thread_id: str) -> None:
        """Remove the thread. A thread that does not exist is not an error."""

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        """Like :meth:`restore`, without postponing the time at which the thread expires.

        A store that cannot do that restores it.
        """
        return self.restore(thread_id)
