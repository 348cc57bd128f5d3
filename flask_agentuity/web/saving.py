"""Saving the threads of a request: with the response, after it, and without one."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Request

from ..errors import AgentuityError, StateTooLarge, StoreError, ThreadGone, ThreadNotFound
from ..per_process import PerProcess
from ..thread.late_changes import forget_late_changes, has_late_changes
from ..thread.thread import Thread, contents_of

if TYPE_CHECKING:
    from .scope import RequestScope

# Threads of contexts without a response. Their unsaved changes are reported at the end of the
# process.
_unanswered: PerProcess[weakref.WeakSet[Thread]] = PerProcess(weakref.WeakSet)


def save_all(scope: RequestScope) -> Exception | None:
    """Save all threads of a request, and return the first error that the app wants raised."""
    settings = scope.threads.settings
    failure: Exception | None = None
    for thread in (*scope.earlier, scope.thread):
        if (scope.observer.gone or scope.identity) and scope.is_gone(thread):
            continue
        try:
            thread.save()
        except (ThreadGone, ThreadNotFound):
            # The observer has logged it. It is no failure of the store.
            continue
        except StateTooLarge as error:
            if settings.on_too_large == "raise":
                failure = failure or error
        except StoreError as error:
            if settings.on_save_error == "raise":
                failure = failure or error
    return failure


def settle_late_changes(
    scope: RequestScope,
    error: BaseException | None,
    *,
    failed_before: bool,
    is_copy: bool,
    had_turn: bool,
) -> None:
    """Save changes that were made after the response had begun, or report that they are lost.

    Listeners, teardown functions, copied contexts and generators make such changes.

    :param error: the exception that ended the generator, the copied context or the request.
    :param failed_before: whether the request had failed before that.
    :param is_copy: whether a copied context ends, after its request.
    :param had_turn: whether the request had its thread for itself, which is over now.
    """
    view_failed = not scope.observer.answered and isinstance(error, Exception)
    if (failed_before or view_failed) and not is_copy:
        # A failed request changes nothing, and its failure is known.
        _discard(scope)
    elif error is None and not scope.failed and not had_turn:
        _save(scope)
    else:
        for thread in _changed_threads(scope):
            scope.observer.report_late_changes(thread, error)


def save_unanswered(scope: RequestScope, error: BaseException | None) -> None:
    """Save what was changed in a context without a response.

    If an exception has ended the context, the changes are lost, and that is reported.
    """
    if error is None:
        _save(scope)
        return
    for thread in _changed_threads(scope):
        scope.observer.report_late_changes(thread, error)


def is_event_of_a_socket(request: Request) -> bool:
    """Return whether *request* is the context of an event handler of Flask-SocketIO.

    Its environment is that of the handshake, which has been or will be answered by itself.
    """
    attributes = vars(request)
    return "sid" in attributes and "namespace" in attributes


def report_at_exit(thread: Thread) -> None:
    """Report unsaved changes of *thread* at the end of the process.

    This is for contexts without a response, which may never end.
    """
    _unanswered.get().add(thread)


@atexit.register
def _report_unanswered() -> None:
    for thread in list(_unanswered.get()):
        contents = contents_of(thread)
        if has_late_changes(contents):
            forget_late_changes(contents)
            contents.source.tell_dropped()


def _save(scope: RequestScope) -> None:
    for thread in _changed_threads(scope):
        if contents_of(thread).source.known_id == scope.observer.unannounced:
            # Its cookie was not sent, so the client could not find it again.
            scope.observer.report_late_changes(thread)
            continue
        # The observer reports a failure, and nothing waits for it.
        with suppress(AgentuityError):
            thread.save()


def _discard(scope: RequestScope) -> None:
    for thread in (*scope.earlier, scope.thread):
        forget_late_changes(contents_of(thread))


def _changed_threads(scope: RequestScope) -> Iterator[Thread]:
    for thread in (*scope.earlier, scope.thread):
        contents = contents_of(thread)
        if (scope.observer.gone or scope.identity) and scope.is_gone(thread):
            forget_late_changes(contents)
        elif has_late_changes(contents):
            yield thread
