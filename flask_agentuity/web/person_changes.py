"""Logins and logouts within a request that has used its thread before."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ThreadGone
from ..thread.thread import Thread, contents_of, leave
from .flask_internals import current_request
from .identity import another_id, given_id
from .ownership import ThreadGuard, Way
from .thread_ids import require_thread_id

if TYPE_CHECKING:
    from .app_threads import AppThreads
    from .scope import RequestScope


def load_person(
    threads: AppThreads, scope: RequestScope, *, keep_guest_changes: bool = False
) -> str | None:
    """Return the current user. If it has changed, leave the threads of the former user.

    What the request has changed there until now is saved. It cannot use those threads any more,
    and continues with a new one.

    :param keep_guest_changes: whether what a guest has changed belongs to the current person.
    :raises ConfigurationError: if the owner loader raises, or returns something else.
    :raises StoreError: if what was changed before cannot be saved.
    """
    person, identity = threads.load_person(), scope.identity
    if threads.owner_loader is None or identity is None:
        return person
    if identity.is_for_another(person) and not (keep_guest_changes and identity.person is None):
        for thread in (*scope.earlier, scope.thread):
            if contents_of(thread).source.guard is identity and thread.dirty:
                # It has not been checked yet. It is checked for the former user.
                _save(thread)
    former_person = identity.become(person)
    for thread in (*scope.earlier, scope.thread):
        source = contents_of(thread).source
        owner = source.owner if source.guard is None else former_person
        if source.known_id is not None and not source.destroyed and owner not in (None, person):
            _save(thread)
            leave(thread, ThreadGuard(Way.NAMED, person))
            if thread is scope.thread:
                scope.replace_thread(_make_other(threads, scope, person))
    return person


def make_new(threads: AppThreads, scope: RequestScope, person: str | None) -> Thread:
    """Return a new thread for the request."""
    thread = scope.make_thread(another_id(threads, current_request()), is_new=True, owner=person)
    # So that a redirect to the URL of the new conversation finds it.
    contents_of(thread).source.must_be_stored = person is not None
    return thread


def _make_other(threads: AppThreads, scope: RequestScope, person: str | None) -> Thread:
    """Return the thread that the request has as another person."""
    former, current = contents_of(scope.thread).source.unguarded_id, current_request()
    # The app's provider may depend on the person.
    vars(current).pop(threads.given_key, None)
    given = given_id(threads, current)
    if given is None or given == former:
        return make_new(threads, scope, person)
    guard = ThreadGuard(Way.PROVIDER, person)
    return scope.make_thread(require_thread_id(given), is_new=False, guard=guard)


def _save(thread: Thread) -> None:
    # The observer has logged it.
    with suppress(ThreadGone):
        thread.save()
