"""The functions that Flask calls in each request."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, current_app
from flask.signals import got_request_exception
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)

from ..errors import (
    AgentuityError,
    ConfigurationError,
    InvalidArgument,
    InvalidCursor,
    StateTooLarge,
    StoreError,
    ThreadGone,
    ThreadNotFound,
    TooManyChanges,
    TurnLost,
)
from . import events as signals
from .app_threads import AppThreads, threads_of
from .context_globals import globals_class
from .flask_internals import (
    current_app_object,
    current_request,
    find_error_handler,
    is_before_request_function,
    move_last_after_view,
    run_before_all,
    set_default_error_handler,
)
from .json_states import render_states
from .log_ids import add_ids_of_requests
from .scope import RequestScope
from .switching import require_url_thread
from .url_ids import is_named_by_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("flask_agentuity")


def register(app: Flask, threads: AppThreads) -> None:
    """Register the hooks of *threads* with *app*.

    :raises ConfigurationError: if the app has handled a request already.
    """
    _register_end(app, threads)
    _note_beginning(app, threads)
    _begin_for_listeners(app, threads)
    set_default_error_handler(app, StoreError, _answer_store_error)
    set_default_error_handler(app, StateTooLarge, _answer_too_large)
    set_default_error_handler(app, ThreadNotFound, _answer_not_found)
    set_default_error_handler(app, InvalidArgument, _answer_invalid_argument)
    app.app_ctx_globals_class = globals_class(app.app_ctx_globals_class, threads)
    _note_exceptions(app, threads)
    add_ids_of_requests()
    render_states(app)


def _register_end(app: Flask, threads: AppThreads) -> None:
    """Save the thread, and write its headers, after all other ``after_request`` functions.

    The hooks are functions, because Flask inspects each hook in each request, which takes
    longer for a bound method.
    """
    scope_key, answered_key = threads.scope_key, threads.answered_key
    completed = signals.session_completed

    def answer_request(response: Response) -> Response:
        current = current_request()
        scope: RequestScope | None = current.__dict__.get(scope_key)
        if threads.has_url_ids and is_named_by_url(current):
            scope = threads.begin_scope(current)
            response = _require_url_thread(app, scope, response)
        if scope is None:
            # The usual body is a list, and the property is_streamed is slower.
            if response.response.__class__ is list or not response.is_streamed:
                current.__dict__[answered_key] = True
                return response
            # Its generator may still use the thread.
            scope = threads.begin_scope(current)
        return response if scope is None else scope.answer(response)

    def end_request(error: BaseException | None) -> None:
        scope: RequestScope | None = current_request().__dict__.get(scope_key)
        if scope is None and completed.receivers:
            scope = threads.begin_scope(current_request())
        if scope is not None:
            scope.tear_down(error)

    try:
        app.after_request(answer_request)
        app.teardown_request(end_request)
    except AssertionError as error:
        raise ConfigurationError(
            f"The app {app.name!r} has already handled a request, and that request had no"
            " thread. Call ThreadManager(app), or threads.init_app(app), where the app is"
            " created, before it handles its first request."
        ) from error
    move_last_after_view(app, answer_request, end_request)


def _note_beginning(app: Flask, threads: AppThreads) -> None:
    """Note in the WSGI environment when each request begins.

    A thread that is deleted during a request must not be written by it, even if the request
    first uses the thread afterwards. Flask does not record when a request began. Wrapping
    ``wsgi_app`` costs less than a ``before_request`` function, and the environment is the same
    in copied contexts. If two requests have the same environment, the beginning of the later one
    counts for both. Without a server (``test_request_context()``) a request begins with the first
    use of its thread.
    """
    wsgi_app, began_key = app.wsgi_app, threads.began_key
    config, watch = app.config, threads.config_watch

    def noting_wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[began_key] = time.monotonic()
        if len(config) != watch.length:
            watch.look(app.config)
        return wsgi_app(environ, start_response)

    app.wsgi_app = noting_wsgi_app  # type: ignore[method-assign]


def _begin_for_listeners(app: Flask, threads: AppThreads) -> None:
    """Begin each request with ``session_started``, once the signal has a receiver.

    Until then, a request that does not use its thread does not pay for it.
    """
    started = signals.session_started
    app_reference = weakref.ref(app)

    def begin_request() -> None:
        if started.receivers and (scope := threads.begin_scope(current_request())):
            threads.send(started, scope.thread, scope.session)

    def listen(*_: object, **__: object) -> None:
        app = app_reference()
        if app is not None and not is_before_request_function(app, begin_request):
            run_before_all(app, begin_request)

    _connect(started.receiver_connected, listen, threads)
    if started.receivers:
        listen()


def _note_exceptions(app: Flask, threads: AppThreads) -> None:
    def note_exception(sender: Flask, exception: BaseException, **extra: Any) -> None:
        if scope := threads.begin_scope(current_request()):
            scope.error = exception

    _connect(got_request_exception, note_exception, threads, app)


def _connect(
    signal: Any, receiver: Callable[..., Any], threads: AppThreads, *sender: Flask
) -> None:
    # Signals hold receivers weakly: this one lives as long as the app.
    threads.receivers.append(receiver)
    signal.connect(receiver, *sender)


def _answer_too_large(error: StateTooLarge) -> Any:
    if scope := threads_of(current_app_object()).begin_scope(current_request()):
        # The failure would be unknown otherwise, because the response is not a 5xx.
        scope.error = error
    if handler := find_error_handler(AgentuityError):
        return current_app.ensure_sync(handler)(error)
    words = "This conversation is full: it can store no more."
    if isinstance(error, TooManyChanges):
        words = "This request has changed too much at once."
    return current_app.handle_http_exception(RequestEntityTooLarge(words))


def _require_url_thread(app: Flask, scope: RequestScope | None, response: Response) -> Response:
    """Return *response*, or an error if the request may not use the thread that its URL names.

    The view may have used the id without using the thread.
    """
    if scope is None or response.status_code >= 500:
        return response
    try:
        require_url_thread(scope)
    except AgentuityError as error:
        response.close()
        return app.make_response(app.handle_user_exception(error))
    return response


def _answer_not_found(error: ThreadNotFound) -> Any:
    # A handler of the app comes first.
    if handler := find_error_handler(LookupError):
        return current_app.ensure_sync(handler)(error)
    return current_app.handle_http_exception(NotFound())


def _answer_invalid_argument(error: InvalidArgument) -> Any:
    for base in (AgentuityError, ValueError):
        if handler := find_error_handler(base):
            return current_app.ensure_sync(handler)(error)
    is_cursor = isinstance(error, InvalidCursor)
    words = "This is not the cursor of a page." if is_cursor else str(error)
    return current_app.handle_http_exception(BadRequest(words))


def _answer_store_error(error: StoreError) -> Any:
    # A handler of the app comes first. The text of a store's error is for the log only.
    if handler := find_error_handler(AgentuityError):
        return current_app.ensure_sync(handler)(error)
    if isinstance(error, ThreadGone):
        return current_app.handle_http_exception(
            Conflict("This conversation was deleted while the request was working on it.")
        )
    if isinstance(error, TurnLost):
        return current_app.handle_http_exception(
            Conflict("Another request has taken over this conversation. Nothing was saved.")
        )
    logger.error("A request was answered with 503: %s", error, exc_info=error)
    return current_app.handle_http_exception(ServiceUnavailable())
