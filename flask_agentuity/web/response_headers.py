"""What the headers of a response say about the thread of its request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Request, Response

from ..thread.source import Source
from ..thread.thread import contents_of
from .caching import CACHE_HEADERS
from .flask_internals import current_request
from .identity import given_id
from .url_ids import url_thread_id

if TYPE_CHECKING:
    from .app_threads import AppThreads
    from .scope import RequestScope


# Most responses have no others.
_OF_BODIES = frozenset(("Content-Type", "Content-Length"))


def write_headers(scope: RequestScope, response: Response) -> None:
    """Add the headers to *response*, whose request has used its thread.

    They keep it out of shared caches, and tell the client its thread id if that has changed.
    """
    threads, identity, current = scope.threads, scope.identity, current_request()
    signed = threads.signed_provider
    _write_cache_headers(
        threads, current, response, signed.vary if identity is None else varying(threads, current)
    )
    if threads.settings.session_header:
        response.headers["x-session-id"] = scope.session.id
    source, gone = contents_of(scope.thread).source, scope.observer.gone
    if scope.failed and not (source.saved or source.destroyed):
        # Nothing is stored of a new thread, and the client had the others before.
        return
    thread_id = source.known_id or source.unguarded_id
    if identity is not None:
        _tell(scope, current, response, source)
    elif source.destroyed:
        signed.end_thread_id(threads.app, response, thread_id)
    elif not gone or thread_id not in gone:
        # Where another request has deleted it, the client may have begun another one.
        signed.tell(current, response, thread_id, scope.began)


def _write_cache_headers(
    threads: AppThreads, current: Request, response: Response, vary: Sequence[str]
) -> None:
    headers = response.headers
    varies = is_told_to_caches = False
    # Looking up a missing name in the headers would raise and catch an exception.
    for name, _ in headers:
        if name in _OF_BODIES:
            continue
        lower = name.lower()
        varies = varies or lower == "vary"
        is_told_to_caches = is_told_to_caches or lower in CACHE_HEADERS
    if varies:
        response.vary.update(vary)
    else:
        headers.add("Vary", ", ".join(vary))
    if is_told_to_caches:
        threads.shared_caches.exclude(response, current.endpoint)
    else:
        headers.add("Cache-Control", "private")


def _tell(scope: RequestScope, current: Request, response: Response, source: Source) -> None:
    """Tell the client, where a provider of the app or the URL may name the thread."""
    threads, thread_id = scope.threads, source.unguarded_id
    is_gone = scope.is_gone(scope.thread)
    provider, signed = threads.provider, threads.signed_provider
    if given_id(threads, current) is not None:
        if source.destroyed or (is_gone and not source.is_new):
            provider.end_thread_id(threads.app, response, thread_id)
        elif not is_gone:
            provider.set_thread_id(threads.app, response, thread_id)
    elif not is_gone and not _is_of_url_only(threads, current, thread_id):
        if source.destroyed:
            signed.end_thread_id(threads.app, response, thread_id)
        else:
            signed.tell(current, response, thread_id, scope.began)


def _is_of_url_only(threads: AppThreads, current: Request, thread_id: str) -> bool:
    """Return whether the URL names the thread, while the client's cookie is of another one."""
    return (
        threads.has_url_ids
        and thread_id == url_thread_id(current)
        and thread_id != threads.signed_provider.find_thread_id(current)
    )


def varying(threads: AppThreads, current: Request) -> Sequence[str]:
    """Return the request headers that decide which thread *current* belongs to."""
    provider, signed = threads.provider, threads.signed_provider
    if provider is signed or given_id(threads, current) is not None:
        return provider.vary
    return list(dict.fromkeys((*provider.vary, *signed.vary)))
