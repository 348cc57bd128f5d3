"""A thread: one conversation, with its state and metadata, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..document import codec
from ..document.packed import pack_items
from ..errors import AgentuityError, OutcomeUnknown, StoreError, ThreadGone
from ..stores.base import ThreadStore
from .contents import Contents, encode_all, forget_unseen, is_dirty, read_metadata
from .entries import Changes
from .identified import Guard
from .size import find_size
from .source import RestorePolicy, Source, ThreadObserver
from .state import ThreadState

__all__ = ["Thread", "ThreadObserver"]

Listener = Callable[[str, "Thread"], Any]


class Thread:
    """One conversation: ``g.thread`` in a request, or opened with ``threads.open()``.

    Nothing is read or written before its id, state or metadata is used. It can be saved without a
    Flask context.
    """

    _state: ThreadState | None = None
    _listeners: tuple[Listener, ...] = ()

    def __init__(
        self,
        store: ThreadStore,
        identify: Callable[[], tuple[str, bool]],
        observer: ThreadObserver,
        *,
        restore_policy: RestorePolicy = "empty",
        began: float | None = None,
        guard: Guard | None = None,
        owner: str | None = None,
    ) -> None:
        """Create a thread whose id is determined when it is first used.

        :param identify: returns the id, and whether it was just generated.
        :param observer: is told what happens to the thread; exceptions that it raises are raised.
        :param restore_policy: whether a failed read raises, or leaves an empty state.
        :param began: when the request began, by :func:`time.monotonic`; None for now. A thread
            that is deleted later is not written.
        :param guard: decides at the first read whether the thread may be used, and knows the user;
            None: it may be used.
        :param owner: without a guard, the owner of the thread if it is not stored yet.
        """
        source = Source(store, identify, observer, restore_policy, began, guard, owner)
        source.bind(self)
        self._source, self._lock = source, source.lock
        self._observer = observer
        self._contents = Contents(source)

    @property
    def id(self) -> str:
        """The thread's id, ``thrd_...``.

        In an app with an owner loader, the owner is checked first, by one small read, unless the
        thread is new.
        """
        source = self._source
        if source.known_id is None:
            source.touch()
        if source.guard is not None:
            _look(self)
        return source.id

    @property
    def owner(self) -> str | None:
        """The id of the user to whom the thread belongs; None if it has no owner.

        It is stored with the first save; see :meth:`ThreadManager.owner_loader`.
        """
        source = self._source
        source.touch()
        if not (source.is_new or source.owner_is_known):
            _look(self)
        return source.owner

    @property
    def state(self) -> ThreadState:
        """The thread's data: a mapping from string keys to JSON values."""
        if self._state is None:
            self._source.touch()
            with self._lock:
                if self._state is None:
                    self._state = ThreadState(self._contents, self._source)
        return self._state

    @property
    def metadata(self) -> dict[str, Any]:
        """A small dictionary stored beside the state, for finding threads.

        Requests that change different keys do not affect each other. Assigning replaces all of it.
        """
        self._source.touch()
        with self._lock:
            return read_metadata(self._contents)

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        codec.encode(dict(value), "metadata")
        self._source.touch()
        with self._lock:
            self._contents.metadata.assign(dict(value))

    @property
    def is_new(self) -> bool:
        """Whether the id was generated in this request, so nothing is stored under it."""
        self.id  # noqa: B018 - a thread of another person is replaced by a new one
        return self._source.is_new

    @property
    def loaded(self) -> bool:
        """Whether the state has been read."""
        return self._contents.is_loaded

    @property
    def dirty(self) -> bool:
        """Whether there are changes to save. Reads nothing."""
        if self._source.destroyed or self._source.known_id is None:
            return False
        with self._lock:
            return is_dirty(self._contents)

    @property
    def degraded(self) -> bool:
        """Whether the thread could not be read. Values computed without it are not saved."""
        return self._contents.is_degraded

    @property
    def size(self) -> int:
        """The size in bytes of the stored document, at the last read or save. May read it."""
        self._source.id  # noqa: B018 - reading the thread touches it
        with self._lock:
            return find_size(self._contents)

    @property
    def max_size(self) -> int | None:
        """The size in bytes that the document may have; None if the store has no limit."""
        return self._source.store.max_bytes

    def save(self) -> None:
        """Save the changes now; without changes, do nothing.

        What is saved stays saved, even if the request fails later. Changes to values that were
        read are merged with those of other requests. The values in memory stay as they are; see
        :meth:`refresh`.

        :raises StateNotSerializable: a value was changed to what JSON cannot hold.
        :raises StateTooLarge: the document would be over the limit.
        :raises ThreadGone: the thread was deleted after this request began.
        :raises TurnLost: another request has taken over this one's turn; nothing is stored.
        :raises StoreError: the store could not write it, or changes were made on a state
            that could not be read (see :attr:`degraded`); those are not saved.
        """
        if self._source.known_id is None or self._source.destroyed:
            return
        try:
            with self._lock:
                self._save()
        except AgentuityError as error:
            self._observer.thread_save_failed(self, error)
            raise

    def refresh(self) -> None:
        """Discard what was read, so that the next use reads again.

        For WebSocket handlers and jobs that use a thread for a long time. Changes of values that
        were read before are not saved any more.

        After :exc:`~flask_agentuity.ThreadGone` it also drops the changes in memory. Then the
        request may start a new thread with the id; a block of :meth:`ThreadManager.open` may do
        so only with ``create=True``.

        :raises RuntimeError: if there are unsaved changes.
        """
        with self._lock:
            if self.dirty and not self._source.gone:
                raise RuntimeError(
                    f"Thread {self.id} has changes that were not saved. Call save() before"
                    " refresh()."
                )
            self._source.gone = False
            if not self._source.destroyed:
                self._contents.forget()

    def destroy(self) -> None:
        """Delete the thread permanently. Changes of requests that began earlier are dropped.

        Its cookie is deleted too. Calls the listeners, and sends ``thread_destroyed``. If another
        request has deleted the thread and a new one was started under its id, that one stays.

        :raises StoreError: if the store could not delete it, or the turn was lost
            (:exc:`.TurnLost`). Then it is not deleted.
        """
        self._source.id  # noqa: B018 - destroying the thread touches it
        with self._lock:
            if self._source.destroyed:
                return
            self._source.delete()
            self._contents.become_deleted()
        for listener in self._listeners:
            self._observer.call_listener(listener, "destroyed", self)
        self._observer.thread_destroyed(self)

    def empty(self) -> bool:
        """Return whether the thread has neither state nor metadata. Reads it."""
        return not len(self.state) and not self.metadata

    def get_serialized_state(self) -> str:
        """Return the state and metadata as JSON, with unsaved changes; ``""`` if both are empty."""
        self.metadata  # noqa: B018 - it has to be known
        with self._lock:
            metadata = self._contents.metadata.encode()
            state = pack_items(encode_all(self._contents))
            return codec.join_document(state, metadata).decode()

    def add_event_listener(self, event: str, listener: Listener) -> None:
        """Register *listener*, which is called with the name of the event and the thread.

        :param event: ``"destroyed"``.
        :param listener: a function or a coroutine function. Exceptions that it raises are logged.
        :raises ValueError: for any other event.
        """
        _require_event(event)
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def remove_event_listener(self, event: str, listener: Listener) -> None:
        """Remove a listener, if it is registered."""
        _require_event(event)
        with self._lock:
            if listener in self._listeners:
                at = self._listeners.index(listener)
                self._listeners = self._listeners[:at] + self._listeners[at + 1 :]

    def __repr__(self) -> str:
        return f"<Thread {self._source.known_id or '(not touched)'}>"

    def _save(self) -> None:
        contents = self._contents
        contents.used = contents.metadata.used = False
        changes = contents.find_changes()
        if (operations := changes.all_operations) or self._source.must_be_stored:
            try:
                written = self._source.write(operations, changes.counted)
            except ThreadGone:
                self._source.gone = True
                raise
            except OutcomeUnknown:
                # It may be stored: sending it again could double what was pushed.
                contents.commit(changes, None)
                self._source.saved = True
                raise
            contents.commit(changes, written)
            self._source.saved = True
            self._observer.thread_saved(self)
        if changes.lost:
            contents.commit(changes, None)
            raise _lost(changes, self.id)


def contents_of(thread: Thread) -> Contents:
    """Return the contents of *thread*, which are internal to this package."""
    return thread._contents


def exchange_id(thread: Thread, thread_id: str, *, owner: str | None, is_stored: bool) -> None:
    """Give *thread* another id, under which it is stored, or will be.

    What was read of a stored thread is read again.
    """
    with thread._lock:
        thread._source.become(thread_id, owner, is_new=not is_stored)
        if is_stored:
            thread._contents.forget()


def leave(thread: Thread, guard: Guard) -> None:
    """Forget what is known about *thread*, and have *guard* decide about it again."""
    with thread._lock:
        thread._contents.forget()
        thread._source.guard_again(guard)


def begin_turn(thread: Thread, token: int | None) -> bool:
    """From now on, write *thread* only while the request has the turn with this fencing token.

    What was read before is read again. Return False if the app has used some of it.
    """
    with thread._lock:
        thread._source.turn = token
        return forget_unseen(thread._contents)


def end_turn(thread: Thread) -> None:
    """Save later changes as those of a request without a turn, unless the turn was lost."""
    if not thread._source.has_lost_turn:
        thread._source.turn = None


def _look(thread: Thread) -> None:
    """Read what is needed to know the owner, with the metadata and the keys."""
    with thread._lock:
        thread._contents.load()


def _lost(changes: Changes, thread_id: str) -> StoreError:
    return StoreError(
        f"Changes of {', '.join(changes.lost)} in thread {thread_id} were not saved: the"
        " thread could not be read, and saving them might replace what is stored."
    )


def _require_event(event: str) -> None:
    if event != "destroyed":
        raise ValueError(f"A thread has no event {event!r}. Allowed: 'destroyed'.")
