"""What keeps a store in order: the part of the interface that removes, counts and copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import StoreError


class Upkeep:
    """A store that may be able to remove expired threads and to copy itself."""

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        """Remove every expired thread; returns how many.

        :param progress: called with the number removed by each step.
        :raises StoreError: if this store cannot.
        """
        raise StoreError(f"{type(self).__name__} cannot remove expired threads: its server does.")

    def wipe_deleted(self) -> None:
        """Leave nothing of what was deleted in the store's files, where the store has any.

        :meth:`purge` and ``erase()`` do so at their end.

        :raises StoreError: if the files cannot be written.
        """

    def count_expired(self) -> int:
        """Return how many threads :meth:`purge` would remove now.

        :raises StoreError: if this store cannot tell.
        """
        raise StoreError(f"{type(self).__name__} cannot count expired threads.")

    def backup(self, path: Path) -> int:
        """Write a verified copy of all threads, as they are at one moment, to the file *path*.

        Requests can read and write meanwhile. The file must be missing or empty. Returns the
        number of threads in it.

        :raises StoreError: if this store cannot, or if the copy is not as it should be.
        """
        raise StoreError(
            f"{type(self).__name__} cannot write a backup. Use the backups of its server, or flask"
            " threads export."
        )

    def warnings(self) -> Sequence[str]:
        """Return what may lose threads one day, each with how to correct it.

        It is for ``flask threads check``.

        :raises StoreError: if it cannot be found out.
        """
        return ()
