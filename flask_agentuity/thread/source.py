"""Where the contents of a thread come from: its id, its store, and what reads have found."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..document.codec import Snapshot
from ..errors import AgentuityError, StoreError, ThreadGone, TurnLost
from ..stores.base import TOMBSTONE_SECONDS, ThreadStore
from ..stores.expected import Expected
from ..stores.writing import Write, Written, write_merged
from .identified import Guard, IdentifiedThread

if TYPE_CHECKING:
    from ..document.operations import Operation
    from .thread import Thread

#: What a failed read does: raise its error, or let the request continue with an empty state.
RestorePolicy = Literal["empty", "raise"]


class ThreadObserver(Protocol):
    """Is told what happens to a thread."""

    def thread_touched(self, thread: Thread) -> None:
        """The id, the state or the metadata was used for the first time."""

    def thread_restored(self, thread: Thread) -> None:
        """The store was read, whether it held something or not."""

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        """The store could not be read."""

    def thread_saved(self, thread: Thread) -> None:
        """Changes are stored."""

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        """Changes could not be stored."""

    def thread_destroyed(self, thread: Thread) -> None:
        """The thread was deleted."""

    def changes_dropped(self, source: Source) -> None:
        """The thread of *source* is no longer used, and its last changes were not saved."""

    def call_listener(self, listener: Callable[..., Any], *arguments: Any) -> None:
        """Call *listener*, which may be async, and log what it raises."""


class Source(IdentifiedThread):
    """One thread's id and its store, as one request uses them.

    It does not keep the thread alive: what a request has read is freed when the request
    ends, without waiting for the garbage collector.
    """

    #: Whether a write may create a thread again that was deleted before the request began.
    revives_deleted = True
    #: Whether the first read found nothing stored; None before it.
    was_missing: bool | None = None
    #: Whether a save was dropped because another request had deleted the thread.
    gone = False
    #: Whether a save has stored something.
    saved = False
    #: The version of the thread that the first read found; 0 without one.
    version = 0
    _seen: Any = None
    _has_told_restored = False

    def __init__(
        self,
        store: ThreadStore,
        identify: Callable[[], tuple[str, bool]],
        observer: ThreadObserver,
        restore_policy: RestorePolicy,
        began: float | None = None,
        guard: Guard | None = None,
        owner: str | None = None,
    ) -> None:
        self.store = store
        self.observer = observer
        self.restore_policy = restore_policy
        self.lock = threading.RLock()
        self.guard = guard
        self.owner = self._person = owner
        self._began = time.monotonic() if began is None else began
        self._identify: Callable[[], tuple[str, bool]] | None = identify

    @property
    def entries_size(self) -> int | None:
        """The size of all keys and values in the document at the last read or write.

        None if the store did not say.
        """
        size: int | None = getattr(self._seen, "entries_size", None)
        return size

    @property
    def expected(self) -> Expected:
        """What the request knows of the thread, for deleting it or giving it another id."""
        return Expected(self.version, self._person, self.turn)

    def bind(self, thread: Thread) -> None:
        """Make *thread* the one that is reported to the observer."""
        self._thread = weakref.ref(thread)

    def read(self, keys: Collection[str] | None) -> Snapshot | None:
        """Return what is stored.

        :raises StoreError: if the store cannot be read.
        """
        if self.is_new and not self.may_be_stored:
            return None
        if self.guard is None:
            snapshot = self.store.read(self.known_id or self.unguarded_id, keys)
        else:
            snapshot = self.store.read_for(self.guard.person, self.unguarded_id, keys)
            if not self._is_admitted(snapshot):
                return None
        self._note_owner(snapshot)
        if self.was_missing is None:
            self.was_missing = snapshot is None
            self.version = snapshot.version if snapshot else 0
        self._seen = snapshot.seen if snapshot else None
        return snapshot

    def write(self, operations: list[Operation], counted: Collection[str]) -> Written:
        """Write *operations*, merged with what other requests have written.

        :raises StoreError: if the store cannot write them, the thread was deleted, or the turn
            was lost.
        """
        if self._guard_of_unstored is not None:
            self._ask_again(self._guard_of_unstored)
        thread_id = self.id
        is_new, self.may_be_stored = self.is_new and not self.may_be_stored, True
        # Counting would cost a store without edits another read.
        counted = counted if self.store.edits else ()
        write = Write(
            operations,
            self.version,
            self._seen,
            self._began,
            counted,
            self._person,
            self.turn,
            is_new,
        )
        self._seen = None
        try:
            if self.revives_deleted or write.version:
                written = write_merged(self.store, thread_id, write)
            else:
                written = self._write_to_living(thread_id, write)
        except TurnLost:
            self.has_lost_turn = True
            raise
        self._seen = written.seen
        self.must_be_stored, self._guard_of_unstored = False, None
        return written

    def _write_to_living(self, thread_id: str, write: Write) -> Written:
        """Write without having read, but do not create a deleted thread again."""
        try:
            # As if the request had begun before the oldest deletion that is remembered.
            first = replace(write, began=time.monotonic() - TOMBSTONE_SECONDS)
            return write_merged(self.store, thread_id, first)
        except ThreadGone:
            # Another request may have created it again.
            snapshot = self.store.read(thread_id, ())
            if snapshot is None:
                raise
        again = replace(write, version=snapshot.version, seen=snapshot.seen)
        return write_merged(self.store, thread_id, again)

    def delete(self) -> None:
        """Delete the thread, unless it cannot be stored.

        :raises StoreError: if the store cannot delete it, or the turn was lost.
        """
        thread_id = self.id
        if not self.is_new or self.may_be_stored:
            try:
                self.store.delete_for(thread_id, self.expected)
            except TurnLost:
                self.has_lost_turn = True
                raise

    def become_deleted(self) -> None:
        """Become the source of a deleted thread, of which nothing can be read."""
        self.destroyed = self.is_new = True
        self.may_be_stored = False

    def begin_again(self) -> None:
        """Forget what reads have found; from now on the request counts as a new one."""
        self.was_missing, self.version, self._seen = None, 0, None
        self._has_told_restored = False
        self._began = time.monotonic()

    def tell_restored(self) -> None:
        """Report the first read to the observer, once."""
        if self.was_missing is not None and not self._has_told_restored:
            self._has_told_restored = True
            if thread := self._bound():
                self.observer.thread_restored(thread)

    def tell_restore_failed(self, error: StoreError) -> None:
        """Report a failed read to the observer.

        :raises StoreError: *error*, if the policy says so.
        """
        if thread := self._bound():
            self.observer.thread_restore_failed(thread, error)
        if self.restore_policy == "raise":
            raise error

    def tell_dropped(self) -> None:
        """Report to the observer that the last changes of the thread will not be saved."""
        self.observer.changes_dropped(self)
