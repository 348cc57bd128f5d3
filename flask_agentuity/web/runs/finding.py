"""The thread of a request, without using it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Request

from ...errors import ThreadNotFound
from ...thread.thread import contents_of
from ..identity import given_id
from ..thread_ids import require_thread_id
from ..url_ids import url_thread_id

if TYPE_CHECKING:
    from ..app_threads import AppThreads
    from ..scope import RequestScope


def find_thread_id(threads: AppThreads, current: Request) -> str | None:
    """Return the id of the request's thread; None if it has none that it may use.

    :raises InvalidThreadId: if the app's provider gives a wrong id.
    :raises StoreError: if the owner of the thread cannot be read.
    """
    scope = threads.begin_scope(current)
    if scope is None:
        return None
    source = contents_of(scope.thread).source
    try:
        if source.known_id is not None:
            return source.id
        named = _named_id(threads, current)
        return named if named is None or _may_use(threads, scope, current, named) else None
    except ThreadNotFound:
        return None


def _named_id(threads: AppThreads, current: Request) -> str | None:
    """Return the id that the request names; None if it would get a new one."""
    if threads.has_url_ids and (url_id := url_thread_id(current)):
        return str(url_id)
    given = given_id(threads, current)
    if given is None:
        return threads.signed_provider.find_thread_id(current)
    return require_thread_id(given)


def _may_use(threads: AppThreads, scope: RequestScope, current: Request, thread_id: str) -> bool:
    identity = scope.identity
    if identity is None or threads.owner_loader is None:
        return True
    # Records how the request got the id.
    identity.identify(current)
    snapshot = threads.store.read_for(identity.person, thread_id, ())
    owner = snapshot.owner if snapshot else None
    return identity.check(thread_id, owner, is_stored=snapshot is not None) is None
