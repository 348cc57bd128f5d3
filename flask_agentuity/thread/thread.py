"""A thread: one conversation, with its state and metadata, and how it is saved."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any, Protocol

from ..document import codec
from ..document.codec import Snapshot
from ..errors import AgentuityError, OutcomeUnknown, StateNotSerializable, StoreError
from ..stores.base import ThreadStore
from .state import Changes, ThreadState

logger = logging.getLogger("flask_agentuity.thread")

Listener = Callable[[str, "Thread"], Any]


class ThreadObserver(Protocol):
    """Who is told what happens to a thread, and may raise to stop it."""

    def thread_touched(self, thread: Thread) -> None:
        """The id, the state or the metadata was used for the first time."""

    def thread_restored(self, thread: Thread) -> None:
        """The store was read, whether it held something or not."""

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        """The store could not be read. Raising gives the error to whoever reads."""

    def thread_saved(self, thread: Thread) -> None:
        """Changes are stored."""

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        """Changes could not be stored."""

    def thread_destroyed(self, thread: Thread) -> None:
        """The thread is gone."""

    def call_listener(self, listener: Callable[..., Any], *arguments: Any) -> None:
        """Call *listener*, which may be async, and log what it raises."""


class Thread:
    """One conversation: ``g.thread`` in a request, or what ``manager.open()`` gives.

    It knows its store, so it can be saved without any context. Nothing is read or written
    before its id, state or metadata is used.
    """

    def __init__(
        self,
        store: ThreadStore,
        identify: Callable[[], tuple[str, bool]],
        observer: ThreadObserver,
    ) -> None:
        """Make a thread whose id is known only when it is used.

        :param identify: returns the id and whether it was made just now.
        """
        self._store = store
        self._identify: Callable[[], tuple[str, bool]] | None = identify
        self._observer = observer
        self._lock = threading.RLock()
        self._id: str | None = None
        self._is_new = False
        self._state: ThreadState | None = None
        self._metadata: dict[str, Any] | None = None
        # None: it was assigned without reading, and so differs from whatever is stored.
        self._stored_metadata: bytes | None = b"{}"
        self._metadata_read = False
        self._told_restored = False
        #: Whether the metadata was used since it was last looked at for changes.
        self._metadata_used = False
        #: Whether a read has found that nothing is stored.
        self.was_missing = False
        # After a failed read: what may still be sent, and what was in hand then.
        self._metadata_safe: bytes | None = None
        self._metadata_seen = b"{}"
        self._destroyed = False
        self._saved = False
        # A save that failed may have come through all the same.
        self._may_be_stored = False
        self._listeners: list[Listener] = []

    @property
    def id(self) -> str:
        """The thread's id, ``thrd_...``."""
        if self._id is None:
            self._touch()
            assert self._id is not None
        return self._id

    @property
    def state(self) -> ThreadState:
        """The thread's data: a mapping from string keys to JSON values."""
        if self._state is None:
            thread_id = self.id
            with self._lock:
                if self._state is None:
                    weakly = _Weakly(self)
                    self._state = ThreadState(
                        thread_id, weakly.read, weakly.restored, weakly.restore_failed, self._lock
                    )
        return self._state

    @property
    def metadata(self) -> dict[str, Any]:
        """A small mapping stored beside the state, in clear, for finding threads.

        It is replaced as a whole: of two requests that change it at once, the later wins.
        Assigning a mapping reads nothing.
        """
        self._touch()
        with self._lock:
            if self._metadata is None:
                if not self._metadata_read:
                    self._read_metadata()
                self._metadata = codec.decode(self._stored_metadata or b"{}")
            assert self._metadata is not None
            self._metadata_used = True
            return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        codec.encode(dict(value), "metadata")
        self._touch()
        with self._lock:
            if not self._metadata_read and not self.degraded:
                self._stored_metadata = None
            self._metadata = dict(value)
            self._metadata_used = True

    @property
    def touched(self) -> bool:
        """Whether its id, state or metadata was used."""
        return self._id is not None

    @property
    def is_new(self) -> bool:
        """Whether the thread's id was made in this request, so that nothing can be stored."""
        self._touch()
        return self._is_new

    @property
    def loaded(self) -> bool:
        """Whether the state was read."""
        return self._state is not None and self._state.loaded

    @property
    def dirty(self) -> bool:
        """Whether :meth:`save` would have something to write."""
        if self._destroyed or self._id is None:
            return False
        return (self._state is not None and self._state.dirty) or self._is_metadata_dirty()

    @property
    def degraded(self) -> bool:
        """Whether the thread could not be read: what is computed without it is not saved."""
        return self._state is not None and self._state.degraded

    @property
    def destroyed(self) -> bool:
        """Whether :meth:`destroy` was called."""
        return self._destroyed

    @property
    def saved(self) -> bool:
        """Whether a save has stored something."""
        return self._saved

    def save(self) -> None:
        """Write what has changed; nothing is sent when nothing has.

        A view may call this as a commit point: what is saved stays saved, even if the
        request fails afterwards. What was sent once is not sent again.

        :raises StateNotSerializable: a value was changed to what JSON cannot hold.
        :raises StateTooLarge: the document would be over the limit.
        :raises StoreError: the store could not write it, or changes were made on a state
            that could not be read (see :attr:`degraded`); those are not saved.
        """
        if self._id is None or self._destroyed:
            return
        if self._state is None and self._metadata is None:
            return
        try:
            self._save(self._id)
        except AgentuityError as error:
            self._observer.thread_save_failed(self, error)
            raise

    def destroy(self) -> None:
        """Delete the thread for good. Nothing later in this request brings it back.

        Its listeners and ``thread_destroyed`` are told; in a request its cookie ends.

        :raises StoreError: when the store could not delete it; it is then not destroyed.
        """
        thread_id = self.id
        with self._lock:
            if self._destroyed:
                return
            if not self._is_new or self._may_be_stored:
                self._store.delete(thread_id)
            self._destroyed = True
            self._state = ThreadState(thread_id, lambda keys: None)
            self._metadata, self._stored_metadata = {}, b"{}"
            self._metadata_used = False
        for listener in list(self._listeners):
            self._observer.call_listener(listener, "destroyed", self)
        self._observer.thread_destroyed(self)

    def empty(self) -> bool:
        """Return whether the thread holds neither state nor metadata. Reads it."""
        return not len(self.state) and not self.metadata

    def get_serialized_state(self) -> str:
        """Return the document as it is now, changes included; ``""`` when it is empty."""
        state = self.state.serialize()
        metadata = codec.encode(self.metadata, "metadata")
        return codec.join_document(state, metadata).decode()

    def add_event_listener(self, event: str, listener: Listener) -> None:
        """Have *listener* called with the event's name and this thread.

        :param event: ``"destroyed"``.
        :param listener: a function or a coroutine function; what it raises is logged.
        :raises ValueError: for any other event.
        """
        _require_event(event)
        self._listeners.append(listener)

    def remove_event_listener(self, event: str, listener: Listener) -> None:
        """Undo :meth:`add_event_listener`; a listener that is not there is no error."""
        _require_event(event)
        if listener in self._listeners:
            self._listeners.remove(listener)

    def __repr__(self) -> str:
        return f"<Thread {self._id or '(not touched)'}>"

    def warn_of_unsaved(self) -> None:
        """Say in the log that changes came too late to be saved, if there are any."""
        state = self._state
        if not (state is not None and state.used_since_changes and state.dirty) and not (
            self._metadata_used and self._is_metadata_dirty()
        ):
            return
        if self._destroyed:
            logger.warning(
                "Thread %s was changed after destroy(); that is not saved."
                " Start another conversation with new().",
                self._id,
            )
        else:
            logger.error(
                "Thread %s was changed after it had been saved for the response; that is lost."
                " Call its save(), or make the change before the response ends.",
                self._id,
            )

    def _save(self, thread_id: str) -> None:
        with self._lock:
            self._metadata_used = False
            state = self.state
            changes = state.changes()
            metadata = self._changed_metadata()
            if changes.operations or metadata is not None:
                self._may_be_stored = True
                try:
                    self._store.merge(
                        thread_id,
                        changes.operations,
                        None if metadata is None else codec.decode(metadata),
                    )
                except OutcomeUnknown:
                    # It may be stored: sending it again could double what was pushed.
                    self._commit(state, changes, metadata)
                    raise
                self._commit(state, changes, metadata)
                self._observer.thread_saved(self)
            lost = [codec.child_path("state", key) for key in changes.lost]
            if self.degraded and self._metadata_in_hand() != self._metadata_seen:
                lost.append("metadata")
            if lost:
                state.commit(changes)
                self._metadata_seen = self._metadata_in_hand()
                raise StoreError(
                    f"Changes of {', '.join(lost)} in thread {thread_id} were not saved: the"
                    " thread could not be read, and saving them might replace what is stored."
                )

    def _touch(self) -> None:
        with self._lock:
            if self._id is not None:
                return
            assert self._identify is not None
            self._id, self._is_new = self._identify()
            # It knows the request, which knows this thread.
            self._identify = None
        self._observer.thread_touched(self)

    def _read(self, keys: Collection[str] | None) -> Snapshot | None:
        assert self._id is not None
        snapshot = None
        if not self._is_new or self._may_be_stored:
            snapshot = self._store.read(self._id, keys)
            if not self._metadata_read:
                self._metadata_read = True
                self.was_missing = snapshot is None
                if self._stored_metadata is not None:
                    self._stored_metadata = snapshot.metadata if snapshot else b"{}"
        return snapshot

    def _tell_restored(self) -> None:
        if self._metadata_read and not self._told_restored:
            self._told_restored = True
            self._observer.thread_restored(self)

    def _read_metadata(self) -> None:
        state = self.state
        state.load()
        if not self._metadata_read and not self._is_new and not state.degraded:
            # A state that was cleared needs no reading; its metadata does.
            try:
                self._read(())
            except StoreError as error:
                state.fail(error)
            else:
                self._tell_restored()

    def _restore_failed(self, error: StoreError) -> None:
        self._observer.thread_restore_failed(self, error)
        self._metadata_safe = self._changed_metadata()
        self._metadata_seen = self._metadata_in_hand()

    def _changed_metadata(self) -> bytes | None:
        if self._metadata is None:
            return None
        if self.degraded:
            return self._metadata_safe
        encoded = codec.encode(self._metadata, "metadata")
        return None if encoded == self._stored_metadata else encoded

    def _is_metadata_dirty(self) -> bool:
        try:
            return self._changed_metadata() is not None
        except StateNotSerializable:
            return True

    def _metadata_in_hand(self) -> bytes:
        if self._metadata is None:
            return self._stored_metadata or b"{}"
        return codec.encode(self._metadata, "metadata")

    def _commit(self, state: ThreadState, changes: Changes, metadata: bytes | None) -> None:
        state.commit(changes)
        self._saved = True
        if metadata is not None:
            self._stored_metadata = metadata
            self._metadata_safe = None


class _Weakly:
    """A thread as its state knows it, without keeping it alive.

    A state that kept its thread would be freed, with all that was read, only when the
    garbage collector comes by.
    """

    def __init__(self, thread: Thread) -> None:
        self._thread = weakref.ref(thread)

    def read(self, keys: Collection[str] | None) -> Snapshot | None:
        return self._held()._read(keys)

    def restored(self) -> None:
        self._held()._tell_restored()

    def restore_failed(self, error: StoreError) -> None:
        self._held()._restore_failed(error)

    def _held(self) -> Thread:
        thread = self._thread()
        if thread is None:
            raise ReferenceError("The thread of this state is gone; keep it as long as its state.")
        return thread


def _require_event(event: str) -> None:
    if event != "destroyed":
        raise ValueError(f"A thread has no event {event!r}. Allowed: 'destroyed'.")
