"""ThreadManager: the extension, as an app uses it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar, cast

from flask import Blueprint, Flask
from werkzeug.local import LocalProxy

from ..errors import ConfigurationError
from ..stores import ThreadStore
from ..thread.reporter import SessionReporter
from ..thread.session import Session
from ..thread.thread import Thread
from .app_threads import AppThreads, attach, threads_of
from .config import configured_reporter, read_settings
from .conversations import Conversations
from .events import Reporting
from .flask_internals import current_app_object
from .hooks import register
from .opening import open_thread
from .owners import owner_name
from .provider import ThreadIDProvider
from .runs.methods import StreamedRuns
from .turns import MOST_WAITING, View, in_turns
from .url_ids import register_converter

logger = logging.getLogger("flask_agentuity")

_EXTENSION = "agentuity"

_Exempt = TypeVar("_Exempt", bound=Callable[..., Any] | Blueprint)


class ThreadManager(Conversations, StreamedRuns):
    """Gives every request of a Flask app a conversation thread, ``g.thread``.

    ::

        app = Flask(__name__)
        threads = ThreadManager(app)

        @app.post("/chat")
        def chat():
            g.thread.state.push("messages", {"role": "user", "content": request.json["text"]})

    One manager can serve several apps, each with its own configuration and store.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: ThreadStore | str | None = None,
        thread_id_provider: ThreadIDProvider | None = None,
        session_reporter: SessionReporter | None = None,
    ) -> None:
        """Create a manager, and initialize *app* if it is given.

        :param app: None to call :meth:`init_app` later.
        :param store: a store or its URL, instead of the app's configuration.
        :param thread_id_provider: see :meth:`set_thread_id_provider`.
        :param session_reporter: replaces the reporter of sessions to Agentuity.
        """
        super().__init__()
        self._given_store = store
        self._provider = thread_id_provider
        self._reporter = session_reporter
        self._exempt: set[Callable[..., Any] | Blueprint] = set()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add threads to the requests of *app*. The store is opened when it is first used.

        :raises ConfigurationError: if a setting is wrong, if the app has a manager already, or
            if it has already handled a request.
        """
        if _EXTENSION in app.extensions:
            raise ConfigurationError(
                "This app has a ThreadManager already. Call either ThreadManager(app) or"
                " threads.init_app(app), once for each app."
            )
        threads = AppThreads(app, read_settings(app.config), self._given_store, self._exempt)
        threads.provider = self._provider or threads.signed_provider
        reporter = self._reporter or configured_reporter(threads.settings)
        threads.reporting = Reporting.to(app, reporter) if reporter is not None else None
        register_converter(app, threads)
        register(app, threads)
        attach(app, threads)
        app.extensions[_EXTENSION] = self
        self._add_app(app, threads)
        for warning in threads.settings.warnings:
            logger.warning("The configuration may be wrong: %s", warning)

    def exempt(self, view_or_blueprint: _Exempt) -> _Exempt:
        """Do not give a view, or the views of a blueprint, a thread; for example a health check.

        Static files never have one. As a decorator, it may be above or below ``@app.route``::

            @app.get("/health")
            @threads.exempt
            def health(): ...
        """
        self._exempt.add(view_or_blueprint)
        for threads in self._apps.values():
            threads.forget_exempt()
        return view_or_blueprint

    def set_thread_id_provider(self, provider: ThreadIDProvider | None) -> None:
        """Have *provider* decide which thread a request belongs to.

        :param provider: None for the default, a signed header or cookie.
        """
        self._provider = provider
        for threads in self._apps.values():
            threads.provider = provider or threads.signed_provider

    def one_at_a_time(
        self,
        on_busy: Literal["wait", "reject"] = "wait",
        timeout: float = 30.0,
        max_waiting: int = MOST_WAITING,
    ) -> Callable[[View], View]:
        """Decorate a view to handle one request of each thread at a time.

        A request has the turn until its response has ended, including a streamed one. Other
        requests wait or are rejected, also in other processes, and on other machines if the store
        is shared by them (with a thread service, only in the same process). They are not queued:
        any waiting request may be next::

            @app.post("/chat")
            @threads.one_at_a_time(timeout=60)
            def chat(): ...

        If a ``before_request`` function reads the state, decorate it too: it then takes the turn.
        Otherwise the state was read before the turn, and may be out of date.

        The turn of a killed worker is taken over after 5 seconds of waiting. If a worker was
        suspended for that long and continues, it may have lost its turn. Then it saves nothing:
        ``save()`` raises :exc:`~flask_agentuity.TurnLost`.

        :param on_busy: ``"wait"`` for the turn, or ``"reject"`` with 409 Conflict.
        :param timeout: how long to wait, in seconds; then the response is 409 Conflict.
        :param max_waiting: how many requests may wait for one thread, in all workers together;
            the response to others is 409 Conflict at once.
        :raises ConfigurationError: if an argument is wrong.
        """
        return in_turns(self._scope, on_busy, timeout, max_waiting)

    def open(
        self,
        thread_id: str | None = None,
        *,
        create: bool | None = None,
        owner: str | int | None = None,
    ) -> AbstractContextManager[Thread]:
        """Open a thread outside a request: in a background job, a shell or a test.

        The thread is saved at the end of the block, unless the block raises. Errors of the
        store are raised, regardless of the app's configuration::

            with threads.open(thread_id) as thread:
                thread.state.push("messages", {"role": "assistant", "content": answer})

        The owner of the thread is not checked: do not pass an id that a client has sent.

        :param thread_id: None, together with ``create=True``, for a new thread.
        :param create: what happens if nothing is stored under the id. True starts a new thread,
            False raises LookupError. By default, a new thread is started, unless the id was in
            use within the last hour, before a deletion, :meth:`claim` or :meth:`rotate`.
        :param owner: the owner of the thread if it is new. If the thread has another owner,
            nothing is saved.
        :raises InvalidThreadId: if *thread_id* is not a valid thread id.
        :raises LookupError: with ``create=False``, if nothing is stored.
        :raises ThreadGone: if the thread was deleted, got another id, or has another owner than
            *owner*. The changes are dropped.
        :raises StoreError: if the thread cannot be read or saved.
        """
        name = None if owner is None else owner_name(owner)
        return open_thread(self._threads_at_work(), thread_id, create, name)


current_thread = cast(Thread, LocalProxy(lambda: threads_of(current_app_object()).scope().thread))
current_session = cast(
    Session, LocalProxy(lambda: threads_of(current_app_object()).scope().session)
)
