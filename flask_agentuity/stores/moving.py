"""The part of the store interface that imports, moves, copies and erases threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..document import codec
from ..document.apply import apply_operations
from ..document.operations import Operation, SetMetadata, Truncate
from ..errors import StoreError, invalid_argument
from .applying import apply_metadata, complete
from .documents import DocumentStore
from .expected import ANY, Expected
from .finding import WHO_CAN, Finding
from .listing import ListedThread, require_owner
from .owners import OWNER, owner_in
from .turns import TurnStore

# How many threads a step of erase() removes.
_ERASED = 100


class MovingStore(DocumentStore, TurnStore, Finding):
    """A store whose threads can be moved and copied.

    The methods of this class read a thread and store it again. What is written to the thread
    meanwhile is lost, and a process that is killed in between can leave both. A store that can
    do better overrides :meth:`move`, :meth:`duplicate` and :meth:`erase`.
    """

    def import_thread(self, thread: ListedThread, document: bytes) -> bool:
        """Store a thread from another store, with its owner and times.

        If a thread is stored that is as new or newer, return False and change nothing, so that an
        import can be repeated.

        :raises StoreError: if this store cannot store times.
        """
        raise StoreError(f"{type(self).__name__} cannot import threads with their times. {WHO_CAN}")

    def propose_id(self, thread_id: str, make: Callable[[], str]) -> str:
        """Return a new id for :meth:`move` or :meth:`copy`.

        :param make: returns a random id. It is called until the store can use the id.
        """
        return make()

    def move(
        self, thread_id: str, new_id: str, *, owner: str | None = None, expected: Expected = ANY
    ) -> bool:
        """Change the id of a thread. Return False if there is no such thread.

        State, metadata and times are kept; runs are deleted. The former id counts as deleted, even
        if nothing was stored: writes of requests that began earlier are dropped. The stores of this
        package move a thread atomically.

        :param new_id: an id that :meth:`propose_id` has returned.
        :param owner: the new owner; None keeps the owner. A thread of another owner is not moved.
        :param expected: what the request knows of the thread. Another thread is as if there were
            none, and stays.
        :raises TurnLost: if another has taken over that turn; nothing is changed.
        :raises StoreError: if it cannot be moved, or there is a thread with the new id.
        """
        require_move(thread_id, new_id, owner)
        self._require_turn(thread_id, expected.turn)
        snapshot = codec.split_document(self.restore(thread_id), thread_id)
        if snapshot is not None:
            stored = owner_in(snapshot.metadata)
            if not (may_take(owner, stored) and expected.means(stored, 0)):
                return False
            metadata = codec.decode(snapshot.metadata)
            if owner is not None:
                metadata.setdefault(OWNER, owner)
            self.save(new_id, codec.join_document(complete(snapshot, thread_id)), metadata)
        self.delete(thread_id)
        return snapshot is not None

    def copy(
        self,
        thread_id: str,
        new_id: str,
        *,
        keep: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
    ) -> bool:
        """Copy a thread inside the store. Return False if there is no such thread.

        :param new_id: an id that :meth:`propose_id` has returned.
        :param keep: for keys with lists, how many items the copy has, from the beginning. Other
            values are copied completely.
        :param metadata: the metadata of the copy; None copies them.
        :param owner: the owner of the copy; None for that of the thread. A thread of another owner
            is not copied.
        :raises InvalidArgument: a ValueError; if *keep* has other values than integers from 0 on.
        :raises StateTooLarge: if the copy would be too large because of the metadata.
        :raises StoreError: if it cannot be copied, or there is a thread with the new id.
        """
        require_move(thread_id, new_id, owner)
        operations: list[Operation] = []
        for name, given in (("keep", keep), ("metadata", metadata)):
            if given is not None and not isinstance(given, Mapping):
                raise invalid_argument(name, given, "a mapping of keys to values")
        for key, count in (keep or {}).items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise invalid_argument(f"keep[{key!r}]", count, "an integer from 0 on")
            codec.require_key(key)
            operations.append(Truncate(key, count))
        if metadata is not None:
            operations.append(SetMetadata(codec.encode(dict(metadata), "metadata")))
        return self.duplicate(thread_id, new_id, operations, owner)

    def duplicate(
        self, thread_id: str, new_id: str, operations: Sequence[Operation], owner: str | None
    ) -> bool:
        """Copy a thread, and apply *operations* to the copy. Used by :meth:`copy`.

        A truncation of a value that is not a list is ignored.
        """
        snapshot = codec.split_document(self.restore(thread_id), thread_id)
        if snapshot is None or not may_take(owner, owner_in(snapshot.metadata)):
            return False
        state = complete(snapshot, thread_id)
        apply_operations(state, operations)
        metadata = codec.decode(apply_metadata(snapshot.metadata, operations) or b"{}")
        kept = codec.decode(snapshot.metadata).get(OWNER, owner)
        if kept is not None:
            metadata[OWNER] = kept
        self.save(new_id, codec.join_document(state), metadata)
        return True

    def erase(self, owner: str, progress: Callable[[int], None] | None = None) -> int:
        """Delete all threads of *owner*, a few at a time, and return how many.

        It can be repeated after an error.

        :param progress: called after each step with the number of threads deleted in it.
        :raises ValueError: if *owner* cannot be an owner.
        :raises StoreError: if this store cannot list threads.
        """
        deleted: set[str] = set()
        while True:
            threads = self.list_owned(owner, _ERASED)
            # A listing may still show threads that were just deleted.
            remaining = [thread.id for thread in threads if thread.id not in deleted]
            if not remaining:
                return len(deleted)
            for thread_id in remaining:
                self.delete(thread_id)
            deleted.update(remaining)
            if progress:
                progress(len(remaining))


def require_move(thread_id: str, new_id: str, owner: str | None) -> None:
    """Refuse arguments that make no sense.

    :raises ValueError: which says what is wrong.
    """
    if new_id == thread_id:
        raise ValueError(f"Thread {thread_id} has this id already.")
    if owner is not None:
        require_owner(owner)


def id_is_taken(new_id: str) -> StoreError:
    """Return the error for an id that a thread has, or had within the last hour."""
    return StoreError(f"There is a thread {new_id} already. Nothing was changed.")


def may_take(owner: str | None, stored: str | None) -> bool:
    """Return whether a thread of the owner *stored* can be moved or copied for *owner*."""
    return owner is None or stored is None or owner == stored
