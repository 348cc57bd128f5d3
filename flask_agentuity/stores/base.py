"""What a store is: the interface, and what every store can build on."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..document import codec
from ..document.apply import Applied, apply_operations
from ..document.codec import Snapshot
from ..document.operations import Clear, Increment, KeyOperation, Operation, PopLast, Set, Truncate
from ..errors import StoreError
from .listing import ListedThread, Page
from .writing import Conflict, Write, Written

logger = logging.getLogger("flask_agentuity.stores")

#: Seconds without use after which a thread expires: the age of the JavaScript runtime's cookie.
DEFAULT_TTL = 604_800.0

_WHO_CAN = "The stores in SQLite, in Redis and in memory can."


class ThreadStore(ABC):
    """Where documents live.

    A store of your own needs :meth:`restore`, :meth:`save` and :meth:`delete`. Its
    :meth:`merge` must be atomic as well: the one here is, within this process, by way of a
    lock; override it where the store can be reached from several processes. Override
    :meth:`read` where the store can fetch less than everything.

    All methods may be called from several threads at once. What fails because of the
    world (a connection, a full disk, damage) is a
    :exc:`~flask_agentuity.errors.StoreError`, never an empty answer.
    """

    #: Whether several machines can reach it: then they need one secret for thread ids as well.
    shared_by_machines = True

    #: Whether :meth:`write` takes every operation, checks what edits replace, and keeps deleted
    #: threads deleted. A store without it is read, merged and saved under a lock.
    edits = False

    #: Why :meth:`merge` here is atomic. Made at the first use: stores are made before forks.
    _merge_lock: threading.Lock | None = None

    @abstractmethod
    def restore(self, thread_id: str) -> bytes | None:
        """Return the stored document as JSON text in UTF-8; None when there is none.

        :raises StoreError: when it cannot be read, or is damaged.
        """

    @abstractmethod
    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the whole document; ``b""`` removes the state.

        The metadata inside *document* is ignored: *metadata* replaces what is stored, and
        None keeps it.

        :raises StateTooLarge: when it is over the limit; what was stored stays.
        :raises StoreError: when it cannot be written.
        """

    @abstractmethod
    def delete(self, thread_id: str) -> None:
        """Remove the thread; one that is not there is no error."""

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Apply *operations* in order, all or none, and replace the metadata if it is given.

        A thread whose state and metadata are both empty afterwards is gone.

        :raises StateTooLarge: when it would be over the limit; nothing was applied.
        :raises StoreError: when it cannot be written, or what is stored is damaged.
        """
        with self._merging():
            snapshot = codec.split_document(self.restore(thread_id), thread_id) or Snapshot({})
            state = complete(snapshot, thread_id)
            apply(thread_id, state, operations)
            kept = codec.decode(snapshot.metadata) if metadata is None else metadata
            self.save(thread_id, codec.join_document(state), kept)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        """Apply all operations of *write* in order, or none.

        Here a store that knows no edits is read, merged and saved, under a lock of this
        process. Override it, and set :attr:`edits`, where the store can check by itself
        whether what an edit replaces is still there.

        :raises ThreadGone: if the thread was deleted after the write's request began.
        :raises StateTooLarge: if it would be over the limit; nothing was applied.
        :raises StoreError: if it cannot be written, or what is stored is damaged.
        """
        raise NotImplementedError

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        """Return what is stored key by key; None when nothing is.

        *keys* are those whose values are wanted (None: all of them); a store may leave the
        values of others out, never their names.
        """
        return codec.split_document(self.restore(thread_id), thread_id)

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return threads, the latest updated first, in pages.

        :param metadata: only threads whose metadata has these keys with these values, which
            must be scalars. Own stores have an index for it.
        :param limit: how many at the most.
        :param cursor: that of the page before. A thread that is updated between two pages
            moves to the front: it is not seen then, if it was still to come. No thread is
            seen twice, unless it was updated by a clock that is behind.
        :raises ValueError: for another filter, a wrong limit or a wrong cursor.
        :raises StoreError: when this store cannot list.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {_WHO_CAN}")

    def scan(self) -> Iterator[ListedThread]:
        """Yield every thread, in no order.

        One that is there from the beginning to the end is not left out, however often it is
        changed meanwhile; it may come twice. Where metadata and times are damaged they are
        empty and 0: restoring the thread says what is wrong.

        :raises StoreError: when this store cannot list.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {_WHO_CAN}")

    def peek(self, thread_id: str) -> bytes | None:
        """Like :meth:`restore`, but where a store can tell, looking is no use of the thread:
        it expires when it would have.
        """
        return self.restore(thread_id)

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        """Store a thread that comes from another store, with its times.

        Returns False, and changes nothing, when the one that is there is as new or newer:
        a transfer can be repeated.

        :raises StoreError: when this store cannot keep times.
        """
        raise StoreError(
            f"{type(self).__name__} cannot take over threads with their times. {_WHO_CAN}"
        )

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Let *holder* have the thread to itself for *seconds*; False while another has it.

        Who has the turn takes it again to keep it longer. Here turns are known within this
        process only; a store that others can reach overrides both methods.
        """
        now = time.monotonic()
        with self._merging():
            turns = vars(self).setdefault("_turns_taken", {})
            for other, (_, until) in list(turns.items()):
                if until <= now:
                    del turns[other]
            current, _ = turns.get(thread_id, (holder, 0.0))
            if current != holder:
                return False
            turns[thread_id] = holder, now + seconds
            return True

    def end_turn(self, thread_id: str, holder: str) -> None:
        """Give the turn back; nothing happens when *holder* does not have it."""
        with self._merging():
            turns = vars(self).setdefault("_turns_taken", {})
            if turns.get(thread_id, ("", 0.0))[0] == holder:
                del turns[thread_id]

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        """Remove every expired thread; returns how many.

        :param progress: called with the number removed by each step.
        :raises StoreError: when this store cannot.
        """
        raise StoreError(f"{type(self).__name__} cannot remove expired threads: its server does.")

    def warnings(self) -> Sequence[str]:
        """Return what works now and may lose threads one day, each with how to mend it.

        It is for ``flask threads check``.

        :raises StoreError: when it cannot be found out.
        """
        return ()

    def close(self) -> None:  # noqa: B027 - most stores have nothing to let go of
        """Let go of connections and files. A closed store may not be used again."""

    def _merging(self) -> threading.Lock:
        lock = self._merge_lock
        if lock is None:
            # setdefault on the instance is atomic: two threads get one lock.
            lock = vars(self).setdefault("_merge_lock", threading.Lock())
        return lock


class KeyedStore(ThreadStore):
    """A store that keeps each key of a state by itself: documents are put together of them.

    It has :meth:`read`, :meth:`merge` and :meth:`delete` of its own.
    """

    @abstractmethod
    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None: ...

    @abstractmethod
    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None: ...

    @abstractmethod
    def peek_at(self, thread_id: str) -> Snapshot | None:
        """Read everything, without using the thread."""

    def restore(self, thread_id: str) -> bytes | None:
        return self._document(thread_id, self.read(thread_id))

    def peek(self, thread_id: str) -> bytes | None:
        return self._document(thread_id, self.peek_at(thread_id))

    def _document(self, thread_id: str, snapshot: Snapshot | None) -> bytes | None:
        if snapshot is None:
            return None
        if not snapshot.metadata.startswith(b"{"):
            raise codec.damaged(thread_id, "its metadata is not a JSON object")
        document = codec.join_document(complete(snapshot, thread_id), snapshot.metadata)
        try:
            codec.decode(document)
        except ValueError as error:
            raise codec.damaged(thread_id, str(error)) from None
        return document

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = complete(snapshot, thread_id)
        self.merge(thread_id, [Clear(), *(Set(key, state[key]) for key in state)], metadata)


def complete(snapshot: Snapshot, thread_id: str) -> dict[str, bytes]:
    """Return the state of a snapshot in which every value was fetched."""
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    if len(state) != len(snapshot.encoded):
        raise codec.damaged(thread_id, "the store left values out that were asked for")
    return state


def apply(thread_id: str, state: dict[str, bytes], changes: Sequence[Operation]) -> Applied:
    """Apply *changes* to an encoded *state* in place, and warn of what had to be skipped."""
    applied = apply_operations(state, changes)
    warn_of_skipped(thread_id, applied.skipped)
    return applied


def warn_of_skipped(thread_id: str, skipped: Sequence[KeyOperation]) -> None:
    """Log a warning for each operation that met a value of the wrong type."""
    for operation in skipped:
        name, reason = "push to", "is not a list"
        match operation:
            case Increment():
                name, reason = "change of", "is not a number, or would leave its range"
            case Truncate() | PopLast():
                name = "change of"
        logger.warning(
            "A %s %s of thread %s was skipped: the value stored there %s.",
            name,
            codec.child_path("state", operation.key),
            thread_id,
            reason,
        )
