"""The blinker signals, and the way they are sent.

The sender is the app, so a receiver can be connected to one app only. Every signal
carries ``thread=``, ``session=`` and ``error=``, each None where there is none::

    @thread_restore_failed.connect_via(app)
    def count(app, error, **extra):
        metrics.increment("thread.unreadable")
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blinker import NamedSignal, Namespace

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger("flask_agentuity.signals")

_signals = Namespace()

#: A thread is new: its id was made, or it was stored for the first time.
thread_created = _signals.signal("thread.created")
#: A thread was read from its store.
thread_restored = _signals.signal("thread.restored")
#: Changes of a thread are stored.
thread_saved = _signals.signal("thread.saved")
#: A thread was deleted by ``destroy()``.
thread_destroyed = _signals.signal("thread.destroyed")
#: A thread could not be read; ``error=`` says why.
thread_restore_failed = _signals.signal("thread.restore_failed")
#: Changes of a thread could not be stored; ``error=`` says why.
thread_save_failed = _signals.signal("thread.save_failed")
#: A request began. Its thread was not touched yet.
session_started = _signals.signal("session.started")
#: A request and its response are over; ``error=`` is what ended it, if something did.
session_completed = _signals.signal("session.completed")
#: The connection to the thread service stands.
service_connected = _signals.signal("service.connected")
#: The connection to the thread service was lost; ``error=`` says why.
service_disconnected = _signals.signal("service.disconnected")


def send(
    signal: NamedSignal,
    app: Flask,
    *,
    thread: Any = None,
    session: Any = None,
    error: BaseException | None = None,
) -> None:
    """Send *signal*; what a receiver raises is logged, and the next one is called."""
    if signal.is_muted or not signal.receivers:
        return
    for receiver in signal.receivers_for(app):
        call(app, receiver, app, thread=thread, session=session, error=error)


def call(app: Flask, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call *function*, which may be async, and log what it raises."""
    try:
        if inspect.iscoroutinefunction(function):
            function = app.ensure_sync(function)
        elif inspect.iscoroutinefunction(method := getattr(function, "__call__", None)):  # noqa: B004
            function = app.ensure_sync(method)
        function(*arguments, **named)
    except Exception:
        name = getattr(function, "__qualname__", repr(function))
        logger.exception("%s raised; the others are called all the same.", name)
