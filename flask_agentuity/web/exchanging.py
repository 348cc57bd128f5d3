"""New ids for conversations: after a login, and for copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError, ThreadNotFound
from ..stores import ThreadStore
from ..thread.thread import Thread, contents_of, exchange_id
from .app_threads import AppThreads
from .flask_internals import current_request
from .identity import given_id
from .ownership import Way, may_use
from .person_changes import load_person, make_new
from .scope import RequestScope
from .switching import find
from .thread_ids import make_thread_id


def claim(threads: AppThreads, scope: RequestScope) -> Thread:
    """Give the guest's conversation to the current person, under a new id."""
    if threads.owner_loader is None:
        raise ConfigurationError(
            "claim() needs to know the current user. Register a function with"
            " @threads.owner_loader, or use rotate(), which gives a new id without an owner."
        )
    _require_exchangeable(threads)
    person = load_person(threads, scope, keep_guest_changes=True)
    if person is None:
        raise RuntimeError(
            "claim() needs a logged-in user, but the owner loader returned None. Call it after the"
            " login."
        )
    thread, source = scope.thread, contents_of(scope.thread).source
    source.touch()
    if source.destroyed:
        scope.replace_thread(make_new(threads, scope, person))
        return scope.thread
    if source.guard is not None:
        if not _is_claimable(threads, source.unguarded_id, person):
            # It is the person's own already, or the guard gives them another one.
            _admitted(thread)
            source.must_be_stored = source.is_new
            return thread
        source.guard = None
    elif source.owner is not None:
        source.must_be_stored = source.is_new and not source.saved
        return thread
    _exchange(threads.store, scope, person)
    # So that a redirect to its URL finds it.
    source.must_be_stored = source.is_new
    return thread


def rotate(threads: AppThreads, scope: RequestScope) -> Thread:
    """Give the request's thread a new id."""
    _require_exchangeable(threads)
    load_person(threads, scope)
    thread = _admitted(scope.thread)
    _exchange(threads.store, scope, None)
    return thread


def fork(
    threads: AppThreads,
    scope: RequestScope,
    thread: Thread | str | None,
    keep: Mapping[str, int] | None,
    metadata: Mapping[str, Any] | None,
) -> Thread:
    """Copy a thread that the request may use."""
    person = load_person(threads, scope)
    original = _admitted(scope.thread) if thread is None else find(threads, scope, thread)
    # The view's changes are part of the conversation that it copies.
    original.save()
    store = threads.store
    new_id = store.propose_id(original.id, make_thread_id)
    if not store.copy(original.id, new_id, keep=keep, metadata=metadata, owner=person):
        raise ThreadNotFound(original.id)
    if person is None and threads.owner_loader is not None:
        _require_unowned(store, new_id, original.id)
    copied = scope.make_thread(new_id, is_new=False, owner=person)
    scope.earlier = (*scope.earlier, copied)
    return copied


def _require_unowned(store: ThreadStore, copy_id: str, original_id: str) -> None:
    """Undo the copy of a guest if a user has started another thread under the original's id."""
    snapshot = store.read(copy_id, ())
    if snapshot is not None and snapshot.owner is not None:
        store.delete(copy_id)
        raise ThreadNotFound(original_id)


def _require_exchangeable(threads: AppThreads) -> None:
    if given_id(threads, current_request()) is not None:
        raise RuntimeError(
            "The id of this request's thread comes from the app's thread ID provider, so the"
            " thread cannot get another one."
        )


def _admitted(thread: Thread) -> Thread:
    """Return *thread*, about which the guard has decided."""
    _ = contents_of(thread).source.id
    return thread


def _is_claimable(threads: AppThreads, thread_id: str, person: str) -> bool:
    snapshot = threads.store.read(thread_id, ())
    if snapshot is not None and snapshot.owner is not None:
        return False
    signed_id = threads.signed_provider.find_thread_id(current_request())
    return may_use(
        Way.CLAIM,
        person,
        None,
        is_stored=snapshot is not None,
        is_signed=signed_id == thread_id,
    )


def _exchange(store: ThreadStore, scope: RequestScope, owner: str | None) -> None:
    """Give the request's thread another id, and *owner* unless that is None."""
    thread, source = scope.thread, contents_of(scope.thread).source
    owner_then = source.owner if owner is None else owner
    former_id = source.unguarded_id
    if source.is_new and not source.may_be_stored:
        exchange_id(thread, make_thread_id(), owner=owner_then, is_stored=False)
    else:
        thread.save()
        new_id = store.propose_id(former_id, make_thread_id)
        is_stored = store.move(former_id, new_id, owner=owner, expected=source.expected)
        exchange_id(thread, new_id, owner=owner_then, is_stored=is_stored)
    if scope.turn is not None:
        scope.turn.follow(thread, former_id)
