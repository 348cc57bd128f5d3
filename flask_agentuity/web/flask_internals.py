"""The parts of Flask that this package uses although they are not public, each with the reason.

Everything else in this package uses public hooks, so a change in Flask affects only this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Request, current_app, request

# The class of ``g``. ``app.app_ctx_globals_class`` is public, but its base class is not.
from flask.ctx import _AppCtxGlobals as AppContextGlobals

__all__ = [
    "AppContextGlobals",
    "current_app_object",
    "current_request",
    "find_error_handler",
    "is_before_request_function",
    "move_last_after_view",
    "run_before_all",
    "set_default_error_handler",
]

ErrorHandler = Callable[[Any], Any]

#: Return the current request itself. Flask documents the method, but its types hide it.
#: It is taken from the proxy once, because each attribute of a proxy costs four calls.
current_request = cast(
    "Callable[[], Request]",
    request._get_current_object,  # type: ignore[attr-defined]
)

#: Return the current app itself, for the same reasons.
current_app_object = cast(
    "Callable[[], Flask]",
    current_app._get_current_object,  # type: ignore[attr-defined]
)


def move_last_after_view(
    app: Flask,
    after_request: Callable[..., Any],
    teardown_request: Callable[..., Any],
) -> None:
    """Have two registered functions called after all others of their kind.

    Flask calls them in the reverse order of registration, and has no public way to be last
    when an extension is initialized late. Changes that other functions make to the thread
    would then not be saved.
    """
    for functions, function in (
        (app.after_request_funcs[None], after_request),
        (app.teardown_request_funcs[None], teardown_request),
    ):
        functions.remove(function)
        functions.insert(0, function)


def is_before_request_function(app: Flask, function: Callable[[], Any]) -> bool:
    """Return whether *function* is called before each request."""
    return function in app.before_request_funcs.get(None, ())


def run_before_all(app: Flask, function: Callable[[], Any]) -> None:
    """Have *function* called before all other ``before_request`` functions, from now on.

    The public hook is refused after the first request, and appends.
    """
    # A new list, because another thread may be iterating over the current one.
    app.before_request_funcs[None] = [function, *app.before_request_funcs.get(None, ())]


def set_default_error_handler(
    app: Flask, exception: type[Exception], handler: ErrorHandler
) -> None:
    """Have *handler* called for *exception*, unless the app has a handler for it.

    The public hook replaces the app's handler if that was registered earlier.
    """
    app.error_handler_spec[None][None].setdefault(exception, handler)


def find_error_handler(exception: type[Exception]) -> ErrorHandler | None:
    """Return the handler of the current app, or of the request's blueprint, for *exception*.

    Flask calls the handler of the most specific class. There is no public way to find the
    one of a base class.
    """
    for name in (*request.blueprints, None):
        if handler := current_app.error_handler_spec[name][None].get(exception):
            return handler
    return None
