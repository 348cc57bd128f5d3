"""The ids that log records of a request carry."""

from __future__ import annotations

from ..log_context import RequestIds, find_request_ids_with
from ..thread.thread import contents_of
from .app_threads import find_threads_of
from .flask_internals import current_app_object, current_request


def add_ids_of_requests() -> None:
    """Have the log records of requests that have used their thread carry both ids."""
    find_request_ids_with(_ids_of_request)


def _ids_of_request() -> RequestIds:
    try:
        current, threads = current_request(), find_threads_of(current_app_object())
    except RuntimeError:
        return None, None
    scope = None if threads is None else vars(current).get(threads.scope_key)
    if scope is None:
        return None, None
    source = contents_of(scope.thread).source
    if source.known_id is None or source.guard is not None:
        return None, None
    return source.known_id, scope.session.id
