"""Starting, finding and selecting other conversations in a request."""

from __future__ import annotations

from ..errors import ThreadNotFound
from ..thread.thread import Thread, contents_of
from .app_threads import AppThreads
from .flask_internals import current_request
from .ownership import ThreadGuard, Way
from .person_changes import load_person, make_new
from .scope import RequestScope
from .thread_ids import is_thread_id
from .url_ids import url_thread_id


def start_another(threads: AppThreads, scope: RequestScope) -> Thread:
    """Replace the request's thread with a new one."""
    before, person = scope.thread, load_person(threads, scope)
    if scope.thread is before:
        scope.replace_thread(make_new(threads, scope, person))
    return scope.thread


def select(threads: AppThreads, scope: RequestScope, thread: Thread | str) -> Thread:
    """Replace the request's thread with a stored one.

    :raises ThreadNotFound: if the request may not use it.
    """
    found = find(threads, scope, thread)
    scope.replace_thread(found)
    return found


def delete(threads: AppThreads, scope: RequestScope, thread: Thread | str) -> None:
    """Delete a stored thread permanently.

    :raises ThreadNotFound: if the request may not use it.
    """
    find(threads, scope, thread).destroy()


def find(threads: AppThreads, scope: RequestScope, thread: Thread | str) -> Thread:
    """Return a stored thread that the request may use.

    :raises ThreadNotFound: if there is none.
    """
    person = load_person(threads, scope)
    thread_id: object = thread.id if isinstance(thread, Thread) else thread
    if not isinstance(thread_id, str) or not is_thread_id(thread_id):
        raise ThreadNotFound(thread_id)
    current = current_request()
    signed_id = threads.signed_provider.find_thread_id(current)
    if thread_id in (signed_id, url_thread_id(current)):
        # It may be the thread of the request, whose cookie changes with it.
        contents_of(scope.thread).source.touch()
    if (known := _find_known(scope, thread_id)) and _exists(known):
        return known
    guard = _guard_of_named(threads, person, is_signed=signed_id == thread_id)
    found = scope.make_thread(str(thread_id), is_new=False, guard=guard)
    found.id  # noqa: B018 - asks the guard
    return found


def may_name(threads: AppThreads, thread_id: str) -> bool:
    """Return whether the current request may use a stored thread, which it does not use yet.

    :raises StoreError: if the owner of the thread cannot be read.
    """
    if not is_thread_id(thread_id):
        return False
    current = current_request()
    signed_id = threads.signed_provider.find_thread_id(current)
    scope = threads.find_scope(current)
    person = load_person(threads, scope) if scope is not None else threads.load_person()
    guard = _guard_of_named(threads, person, is_signed=signed_id == thread_id)
    snapshot = threads.store.read_for(guard.person, thread_id, ())
    try:
        guard.check(thread_id, snapshot.owner if snapshot else None, is_stored=snapshot is not None)
    except ThreadNotFound:
        return False
    return True


def _guard_of_named(threads: AppThreads, person: str | None, *, is_signed: bool) -> ThreadGuard:
    has_owners = threads.owner_loader is not None
    return ThreadGuard(Way.NAMED, person, has_owners=has_owners, is_signed=is_signed)


def require_url_thread(scope: RequestScope) -> None:
    """Check whether the request may use the thread that its URL names.

    :raises StoreError: if the owner of the thread cannot be read.
    :raises ThreadNotFound: if the request may not use it.
    """
    for thread in (scope.thread, *scope.earlier):
        source = contents_of(thread).source
        if source.guard is not None and source.guard is scope.identity:
            _ = source.id


def _find_known(scope: RequestScope, thread_id: str) -> Thread | None:
    """Return the thread with this id that the request uses already, if there is one."""
    for thread in (scope.thread, *scope.earlier):
        source = contents_of(thread).source
        if source.known_id == thread_id == thread.id and not source.destroyed:
            return thread
    return None


def _exists(thread: Thread) -> bool:
    source = contents_of(thread).source
    if source.was_missing is None and not source.is_new:
        _ = thread.metadata
    return not source.was_missing or thread.dirty or source.saved
