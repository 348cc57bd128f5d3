"""What is logged and signalled about a thread."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blinker import NamedSignal

from ..errors import AgentuityError, StoreError, ThreadGone
from ..thread.late_changes import forget_late_changes
from ..thread.session import Session
from ..thread.source import Source
from ..thread.thread import Thread, contents_of
from . import events as signals

if TYPE_CHECKING:
    from .app_threads import AppThreads
    from .scope import RequestScope

logger = logging.getLogger("flask_agentuity")


def _id_of(thread: Thread) -> str:
    # It is known without a read, also where the owner of the thread is not.
    return contents_of(thread).source.unguarded_id


def _was_deleted_meanwhile(source: Source) -> bool:
    """Return whether a thread that was stored is not stored any more."""
    if source.destroyed or not (source.saved or source.was_missing is False):
        return False
    try:
        return source.store.read(source.unguarded_id, ()) is None
    except StoreError:
        return False


class Observer:
    """Reports what happens to a thread outside a request, by signals and in the log.

    A thread holds its observer, which holds neither the thread nor the request. What a
    request has read is therefore freed when the request ends, without the garbage collector.
    """

    def __init__(self, threads: AppThreads) -> None:
        self._threads = threads

    @property
    def session(self) -> Session | None:
        """The session of the request, if there is one."""
        return None

    def send(self, signal: NamedSignal, thread: Thread, error: BaseException | None = None) -> None:
        """Send *signal* if it has receivers."""
        if signal.receivers:
            self._threads.send(signal, thread, self.session, error)

    def thread_touched(self, thread: Thread) -> None:
        if contents_of(thread).source.is_new:
            self.send(signals.thread_created, thread)

    def thread_restored(self, thread: Thread) -> None:
        if signals.thread_restored.receivers:
            self.send(signals.thread_restored, thread)

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        logger.error(
            "Thread %s could not be read: %s", _id_of(thread), error, extra=self._about(thread)
        )
        self.send(signals.thread_restore_failed, thread, error)

    def thread_saved(self, thread: Thread) -> None:
        contents = contents_of(thread)
        if contents.source.was_missing:
            self._tell_begun(thread)
        if self._threads.nearly_full.is_news(contents):
            logger.warning(
                "Thread %s holds %d bytes; the limit is %s. Keep less in it, for instance with"
                " push(..., max_records=N), before it is full.",
                thread.id,
                thread.size,
                thread.max_size,
                extra=self._about(thread),
            )
        if signals.thread_saved.receivers:
            self.send(signals.thread_saved, thread)

    def _tell_begun(self, thread: Thread) -> None:
        """Tell that the save has begun a thread under an id that was not made just now."""

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        if isinstance(error, ThreadGone):
            # Deleting a thread that is in use is normal operation, and its message is complete.
            logger.warning("Changes were dropped. %s", error, extra=self._about(thread))
        else:
            logger.error(
                "Thread %s could not be saved: %s", _id_of(thread), error, extra=self._about(thread)
            )
        self.send(signals.thread_save_failed, thread, error)

    def changes_dropped(self, source: Source) -> None:
        known, is_new = source.unguarded_id, source.is_new
        # The thread itself is gone.
        thread = Thread(source.store, lambda: (known, is_new), self)
        # Its first use was reported before.
        contents_of(thread).source.become(known, source.owner, is_new=is_new)
        self._report_loss(thread, source.destroyed, None)

    def report_late_changes(self, thread: Thread, cause: BaseException | None = None) -> None:
        """Report changes that came too late to be saved.

        :param cause: what ended the generator or the context, if it was an exception.
        """
        contents = contents_of(thread)
        forget_late_changes(contents)
        was_deleted = cause is None and _was_deleted_meanwhile(contents.source)
        if was_deleted or isinstance(cause, ThreadGone):
            self.thread_save_failed(thread, ThreadGone(_id_of(thread)))
            return
        self._report_loss(thread, contents.source.destroyed, cause)

    def _report_loss(
        self, thread: Thread, was_destroyed: bool, cause: BaseException | None
    ) -> None:
        error: AgentuityError
        if was_destroyed:
            logger.warning(
                "Thread %s was changed after destroy(); the change is not saved."
                " Start another conversation with new().",
                _id_of(thread),
                extra=self._about(thread),
            )
            error = ThreadGone(_id_of(thread))
        elif cause is not None:
            logger.error(
                "Changes to thread %s are lost: %s was raised.",
                _id_of(thread),
                type(cause).__name__,
                extra=self._about(thread),
            )
            error = AgentuityError(
                f"Changes to thread {_id_of(thread)} are lost: {cause!r} was raised."
            )
            error.__cause__ = cause
        else:
            logger.error(
                "Thread %s was changed after it had been saved; the change is lost. Call its"
                " save(), or make the change before the response, or the block of open(), ends.",
                _id_of(thread),
                extra=self._about(thread),
            )
            error = AgentuityError(f"Thread {_id_of(thread)} was changed too late to be saved.")
        self.send(signals.thread_save_failed, thread, error)

    def thread_destroyed(self, thread: Thread) -> None:
        self._threads.runs.thread_deleted(thread.id)
        self.send(signals.thread_destroyed, thread)

    def _about(self, thread: Thread) -> dict[str, str | None]:
        # After a stream, there is no current request to take the ids from.
        session = self.session
        return {"thread_id": _id_of(thread), "session_id": session.id if session else None}

    def call_listener(self, listener: Callable[..., Any], *arguments: Any) -> None:
        signals.call(self._threads.app, listener, *arguments)


class RequestObserver(Observer):
    """Reports what happens to the threads of a request."""

    #: The id of a thread that was first used too late for its cookie.
    unannounced: str | None = None
    #: The ids of threads that were deleted while this request was working on them.
    gone: frozenset[str] = frozenset()
    _has_begun = False

    def __init__(self, threads: AppThreads, scope: RequestScope, *, answered: bool) -> None:
        """Create the observer of *scope*.

        :param answered: whether the headers of the response are complete, so that it is too
            late for a cookie.
        """
        self._threads = threads
        self._scope = weakref.ref(scope)
        self.answered = answered

    @property
    def session(self) -> Session | None:
        scope = self._scope()
        return scope.session if scope else None

    def thread_touched(self, thread: Thread) -> None:
        reporting = self._threads.reporting
        if reporting is not None and (scope := self._scope()) is not None:
            scope.report_started(reporting)
        if not contents_of(thread).source.is_new:
            return
        self.send(signals.thread_created, thread)
        if self.answered:
            self.unannounced = _id_of(thread)
            logger.warning(
                "Thread %s was first used after its response had begun, too late for its cookie:"
                " the client will not find the thread again. Use g.thread.id in the view, before"
                " the response begins.",
                _id_of(thread),
                extra=self._about(thread),
            )

    def _tell_begun(self, thread: Thread) -> None:
        if not (self._has_begun or thread.is_new) and self._threads.has_own_provider:
            # The id came from the app's provider; only now is it known to begin a thread.
            self._has_begun = True
            self.send(signals.thread_created, thread)

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        if isinstance(error, ThreadGone):
            self.gone |= {_id_of(thread)}
        super().thread_save_failed(thread, error)
