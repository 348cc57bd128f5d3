"""Which thread a request uses, whom it belongs to, and whether the request may use it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..document.codec import Snapshot
from ..errors import ThreadNotFound
from ..stores.base import ThreadStore

if TYPE_CHECKING:
    from .source import ThreadObserver
    from .thread import Thread


class Guard(Protocol):
    """Decides whether a request may use a thread, once the thread's owner is known."""

    @property
    def person(self) -> str | None:
        """The user whom the request is for; None for a guest."""

    def check(self, thread_id: str, owner: str | None, *, is_stored: bool) -> str | None:
        """Return None if the request may use the thread, else the id of a new one to use instead.

        :raises ThreadNotFound: if the request may use none.
        """


class IdentifiedThread:
    """The id and the owner of a thread. Its subclass reads and writes it."""

    #: Whether the id was generated for the request.
    is_new = False
    #: Whether a failed save may have been applied.
    may_be_stored = False
    #: Whether the thread was destroyed.
    destroyed = False
    #: Whether the guard has refused the thread without naming another one.
    is_refused = False
    #: Whether a read has found the thread's owner.
    owner_is_known = False
    #: Whether the next save also stores a thread that is empty, because it has an owner.
    must_be_stored = False
    # The guard that admitted the thread when it was not stored. It decides again before the first
    # write, because another user may have begun the thread meanwhile.
    _guard_of_unstored: Guard | None = None

    store: ThreadStore
    observer: ThreadObserver
    lock: threading.RLock
    #: The id, once it was used.
    known_id: str | None = None
    #: The guard that decides at the first read; None after it has.
    guard: Guard | None
    #: The owner of the thread. A new one belongs to the user whom the request is for.
    owner: str | None
    #: The fencing token of the request's turn.
    turn: int | None = None
    #: Whether a write has found that another request has taken the turn over.
    has_lost_turn = False
    _person: str | None
    _identify: Callable[[], tuple[str, bool]] | None
    _thread: weakref.ref[Thread] | None = None

    @property
    def id(self) -> str:
        """The thread's id. The first use touches the thread, and asks the guard.

        :raises StoreError: if the thread's owner cannot be read.
        :raises ThreadNotFound: if the guard refuses.
        """
        if self.known_id is None:
            self.touch()
        if self.guard is not None:
            self.ask_guard()
        assert self.known_id is not None
        return self.known_id

    @property
    def unguarded_id(self) -> str:
        """The thread's id, which may be that of another person's thread. For logs only."""
        if self.known_id is None:
            self.touch()
        assert self.known_id is not None
        return self.known_id

    def become(self, thread_id: str, owner: str | None, *, is_new: bool) -> None:
        """Become the source of a thread with another id, which belongs to *owner*.

        :param is_new: whether nothing is stored under that id.
        """
        self.known_id, self.is_new, self.may_be_stored = thread_id, is_new, False
        self.owner = self._person = owner
        self.owner_is_known, self.guard, self._guard_of_unstored = True, None, None
        # A turn is for an id.
        self.turn, self.has_lost_turn = None, False

    def guard_again(self, guard: Guard) -> None:
        """Have *guard* decide about the thread at the next read."""
        self.guard, self._guard_of_unstored = guard, None
        self.owner_is_known = False

    def touch(self) -> None:
        """Determine the thread's id, without asking the guard."""
        with self.lock:
            if self.known_id is not None:
                return
            assert self._identify is not None
            self.known_id, self.is_new = self._identify()
            # It refers to the request, which refers to this thread.
            self._identify = None
            if self.guard is not None:
                self.owner = self._person = self.guard.person
                if self.is_new:
                    self.guard = None
        if thread := self._bound():
            self.observer.thread_touched(thread)

    def ask_guard(self) -> None:
        """Read the thread's owner, and ask the guard; keep nothing else of what was read.

        :raises StoreError: if it cannot be read.
        :raises ThreadNotFound: if the guard refuses.
        """
        with self.lock:
            if self.guard is not None:
                snapshot = self.store.read_for(self.guard.person, self.unguarded_id, ())
                if self._is_admitted(snapshot):
                    self._note_owner(snapshot)

    def _is_admitted(self, snapshot: Snapshot | None) -> bool:
        """Ask the guard; if it refuses, become the source of a new thread."""
        assert self.guard is not None
        # The user may have changed since the id was determined.
        self.owner = self._person = self.guard.person
        owner = snapshot.owner if snapshot else None
        try:
            other = self.guard.check(self.unguarded_id, owner, is_stored=snapshot is not None)
        except ThreadNotFound:
            self.is_refused = True
            raise
        guard, self.guard = self.guard, None
        if other is not None:
            self._become_new(other)
            return False
        if snapshot is None:
            self._guard_of_unstored = guard
        return True

    def _ask_again(self, guard: Guard) -> None:
        snapshot = self.store.read_for(guard.person, self.unguarded_id, ())
        self._guard_of_unstored = None
        if snapshot is None:
            return
        other = guard.check(self.unguarded_id, snapshot.owner, is_stored=True)
        if other is None:
            self._note_owner(snapshot)
        else:
            self._become_new(other)

    def _become_new(self, thread_id: str) -> None:
        self.known_id, self.is_new, self.owner = thread_id, True, self._person
        if thread := self._bound():
            self.observer.thread_touched(thread)

    def _note_owner(self, snapshot: Snapshot | None) -> None:
        self.owner = snapshot.owner if snapshot else self._person
        self.owner_is_known = True

    def _bound(self) -> Thread | None:
        return self._thread() if self._thread is not None else None
