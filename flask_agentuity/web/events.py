"""The blinker signals, and how they are sent.

The sender is the app, so that a receiver can be connected to one app only. Every signal
has the keyword arguments ``thread=``, ``session=`` and ``error=``; they are None if they do
not apply::

    @thread_restore_failed.connect_via(app)
    def count(app, error, **extra):
        metrics.increment("thread.unreadable")
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from blinker import NamedSignal, Namespace

if TYPE_CHECKING:
    from flask import Flask

    from ..thread.reporter import SessionReporter
    from ..thread.session import Session

logger = logging.getLogger("flask_agentuity.signals")

_signals = Namespace()

#: A thread is new: its id was generated, or it was stored for the first time.
thread_created = _signals.signal("thread.created")
#: A thread was read from its store.
thread_restored = _signals.signal("thread.restored")
#: Changes to a thread were stored.
thread_saved = _signals.signal("thread.saved")
#: A thread was deleted by ``destroy()``.
thread_destroyed = _signals.signal("thread.destroyed")
#: A thread could not be read; ``error=`` is the reason.
thread_restore_failed = _signals.signal("thread.restore_failed")
#: Changes to a thread were not stored; ``error=`` is the reason. It is a
#: :exc:`~flask_agentuity.ThreadGone` if the thread had been deleted.
thread_save_failed = _signals.signal("thread.save_failed")
#: A run has ended and its end is stored; ``run=`` is the :class:`~flask_agentuity.Run`, ``status=``
#: its status, ``error=`` what made it fail.
thread_run_finished = _signals.signal("thread.run_finished")
#: A request began. It has not used its thread yet.
session_started = _signals.signal("session.started")
#: A request and its response have ended; ``error=`` is the exception that ended them, if any.
session_completed = _signals.signal("session.completed")
#: The connection to the thread service was established.
service_connected = _signals.signal("service.connected")
#: The connection to the thread service was lost; ``error=`` is the reason.
service_disconnected = _signals.signal("service.disconnected")


def send(
    signal: NamedSignal,
    app: Flask,
    *,
    thread: Any = None,
    session: Any = None,
    error: BaseException | None = None,
    **more: Any,
) -> None:
    """Send *signal*. If a receiver raises, that is logged and the next one is called."""
    if signal.is_muted or not signal.receivers:
        return
    for receiver in signal.receivers_for(app):
        call(app, receiver, app, thread=thread, session=session, error=error, **more)


def call(app: Flask, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call *function*, which may be async. If it raises, that is logged."""
    try:
        if inspect.iscoroutinefunction(function):
            function = app.ensure_sync(function)
        elif inspect.iscoroutinefunction(method := getattr(function, "__call__", None)):  # noqa: B004
            function = app.ensure_sync(method)
        function(*arguments, **named)
    except Exception:
        name = getattr(function, "__qualname__", repr(function))
        logger.exception("%s raised an exception; continuing with the remaining receivers.", name)


class Reporting(NamedTuple):
    """The methods of a session reporter, none of which is async. Callers log what they raise."""

    #: Reports that a session has used its thread.
    started: Callable[[Session], Any]
    #: Reports that a session has ended.
    completed: Callable[[Session], Any]

    @classmethod
    def to(cls, app: Flask, reporter: SessionReporter) -> Reporting:
        """Return the methods of *reporter*, which may be async, for *app*."""
        return cls(app.ensure_sync(reporter.started), app.ensure_sync(reporter.completed))
