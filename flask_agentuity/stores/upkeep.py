"""The part of the store interface for maintenance: removing expired threads, and backups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import StoreError


class Upkeep:
    """A store that may be able to remove expired threads and to copy itself."""

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        """Remove all expired threads, and return how many.

        :param progress: called after each step with the number of threads removed in it.
        :raises StoreError: if this store cannot remove them.
        """
        raise StoreError(f"{type(self).__name__} cannot remove expired threads: its server does.")

    def wipe_deleted(self) -> None:
        """Remove remains of deleted threads from the store's files, if it has files.

        :meth:`purge` and ``erase()`` call it at the end.

        :raises StoreError: if the files cannot be written.
        """

    def count_expired(self) -> int:
        """Return how many threads :meth:`purge` would remove now.

        :raises StoreError: if this store cannot count them.
        """
        raise StoreError(f"{type(self).__name__} cannot count expired threads.")

    def backup(self, path: Path) -> int:
        """Copy all threads to the file *path*, verify the copy, return the number of threads.

        The copy is consistent, although requests can read and write meanwhile. The file must be
        missing or empty.

        :raises StoreError: if this store cannot copy itself, or if the copy is damaged.
        """
        raise StoreError(
            f"{type(self).__name__} cannot write a backup. Use the backups of its server, or flask"
            " threads export."
        )

    def warnings(self) -> Sequence[str]:
        """Return warnings for ``flask threads check``: what may cause a loss, and what to do.

        :raises StoreError: if the store cannot be reached.
        """
        return ()
