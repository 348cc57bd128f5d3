"""ThreadManager: the extension, as an app uses it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar, cast

from flask import Blueprint, Flask, current_app
from werkzeug.exceptions import Conflict
from werkzeug.local import LocalProxy

from ..errors import ConfigurationError
from ..stores import Page, ThreadStore
from ..thread.session import Session
from ..thread.thread import Thread
from .app_threads import AppThreads, attach, threads_of
from .config import read_settings
from .flask_internals import current_app_object, current_request
from .hooks import register
from .observer import Observer
from .provider import ThreadIDProvider
from .thread_ids import make_thread_id, require_thread_id

_EXTENSION = "agentuity"

_View = TypeVar("_View", bound=Callable[..., Any])
_Exempt = TypeVar("_Exempt", bound=Callable[..., Any] | Blueprint)


class ThreadManager:
    """Gives every request of a Flask app a conversation thread, ``g.thread``.

    ::

        app = Flask(__name__)
        threads = ThreadManager(app)

        @app.post("/chat")
        def chat():
            g.thread.state.push("messages", {"role": "user", "content": request.json["text"]})

    One manager can serve several apps, each with its own configuration and store; see
    :meth:`init_app`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: ThreadStore | str | None = None,
        thread_id_provider: ThreadIDProvider | None = None,
    ) -> None:
        """Create a manager, and initialize *app* if it is given.

        :param store: a store or its URL, instead of the one that the app's configuration names.
        :param thread_id_provider: see :meth:`set_thread_id_provider`.
        """
        self._given_store = store
        self._provider = thread_id_provider
        self._exempt: set[Callable[..., Any] | Blueprint] = set()
        self._apps: weakref.WeakKeyDictionary[Flask, AppThreads] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add threads to the requests of *app*; nothing is opened or connected yet.

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
        register(app, threads)
        attach(app, threads)
        app.extensions[_EXTENSION] = self
        self._apps[app] = threads

    def exempt(self, view_or_blueprint: _Exempt) -> _Exempt:
        """Exclude a view, or all views of a blueprint, from having a thread.

        Use it for health checks and the like; static files never have a thread. It can be
        used as a decorator, above or below ``@app.route``::

            @app.get("/health")
            @threads.exempt
            def health(): ...
        """
        self._exempt.add(view_or_blueprint)
        for threads in self._apps.values():
            threads.forget_exempt()
        return view_or_blueprint

    def set_thread_id_provider(self, provider: ThreadIDProvider | None) -> None:
        """Let *provider* decide which thread a request belongs to.

        None restores the default: a signed header or cookie.
        """
        self._provider = provider
        for threads in self._apps.values():
            threads.provider = provider or threads.signed_provider

    def new(self) -> Thread:
        """Start another conversation: it replaces ``g.thread`` and the client's cookie.

        The earlier thread is kept, and its changes are saved with the response.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        return self._threads_of(current_app_object()).scope().start_another(current_request())

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return stored threads, the most recently updated first.

        For example, the conversations of one person::

            page = threads.list({"owner": current_user.id})
            page.threads[0].metadata["title"]
            threads.list({"owner": current_user.id}, cursor=page.cursor)

        :param metadata: only threads whose metadata contains these keys and values.
        :param limit: the maximum number of threads.
        :param cursor: the cursor of the previous page.
        :raises ValueError: if a value in *metadata* is not a scalar, or the cursor is invalid.
        :raises StoreError: if the store cannot list threads; the thread service cannot.
        """
        return self._threads_at_work().store.list(metadata, limit=limit, cursor=cursor)

    def one_at_a_time(
        self, on_busy: Literal["wait", "reject"] = "wait", timeout: float = 30.0
    ) -> Callable[[_View], _View]:
        """Return a decorator for views whose requests take turns if they share a thread.

        A turn lasts until the response has ended, including a streamed one. It excludes
        requests in other threads and processes, and on other machines if the store is shared
        (with the thread service only in the same process). Waiting requests are not
        queued; any of them may be next::

            @app.post("/chat")
            @threads.one_at_a_time(timeout=60)
            def chat(): ...

        What a ``before_request`` function has read of the thread was read before the turn and
        is not read again. Decorate that function too; it then takes the turn.

        :param on_busy: ``"wait"`` for the turn, or ``"reject"`` with 409 Conflict.
        :param timeout: how long to wait, in seconds; then the response is 409 Conflict.
        :raises ConfigurationError: if an argument is wrong.
        """
        _check_turn_arguments(on_busy, timeout)

        def decorate(view: _View) -> _View:
            @wraps(view)
            def take_turn_and_call(*args: Any, **kwargs: Any) -> Any:
                scope = self._threads_of(current_app_object()).scope()
                if not scope.acquire_turn(timeout if on_busy == "wait" else 0.0):
                    raise Conflict("This conversation is busy with another request.")
                return current_app.ensure_sync(view)(*args, **kwargs)

            return cast(_View, take_turn_and_call)

        return decorate

    @contextmanager
    def open(self, thread_id: str | None = None, *, create: bool | None = None) -> Iterator[Thread]:
        """Work on a thread outside a request: in a background job, a shell or a test.

        The thread is saved at the end of the block, unless the block raises. Errors of the
        store raise here, regardless of the app's configuration::

            with threads.open(thread_id) as thread:
                thread.state.push("messages", {"role": "assistant", "content": answer})

        :param thread_id: the thread's id; None, together with *create*, generates one.
        :param create: True starts the thread if it does not exist; False requires a stored
            thread. By default the thread may exist or not.
        :raises InvalidThreadId: if *thread_id* is not a valid thread id.
        :raises LookupError: with ``create=False``, if nothing is stored.
        :raises ThreadGone: if the thread was deleted during the block; the changes are dropped.
        :raises StoreError: if the thread cannot be read or saved.
        """
        threads = self._threads_at_work()
        is_new = thread_id is None
        if is_new and not create:
            raise ConfigurationError(
                "open() needs a thread id. Use open(create=True) to start a conversation."
            )
        known = make_thread_id() if thread_id is None else require_thread_id(thread_id)
        thread = Thread(
            threads.store, lambda: (known, is_new), Observer(threads), restore_policy="raise"
        )
        if create is False and thread.empty():
            raise LookupError(f"Nothing is stored of thread {known}.")
        yield thread
        thread.save()

    def _threads_of(self, app: Flask) -> AppThreads:
        threads = self._apps.get(app)
        if threads is None:
            raise ConfigurationError(
                f"This ThreadManager does not serve the app {app.name!r}."
                " Call threads.init_app(app) where the app is created."
            )
        return threads

    def _threads_at_work(self) -> AppThreads:
        """Return what belongs to the current app, or to the only one."""
        if current_app:
            return self._threads_of(current_app_object())
        apps = list(self._apps.values())
        if len(apps) != 1:
            raise ConfigurationError(
                f"This ThreadManager serves {len(apps)} apps."
                " Select one of them: with app.app_context(): ..."
                if apps
                else "This ThreadManager serves no app. Call threads.init_app(app) first."
            )
        return apps[0]


def _check_turn_arguments(on_busy: object, timeout: object) -> None:
    if callable(on_busy):
        raise ConfigurationError(
            "one_at_a_time is used without parentheses. Write @threads.one_at_a_time()."
        )
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigurationError(
            f"one_at_a_time(timeout={timeout!r}) is wrong. Allowed: seconds, 0 or more."
        )
    if on_busy not in ("wait", "reject"):
        raise ConfigurationError(
            f"one_at_a_time(on_busy={on_busy!r}) is wrong. Allowed: 'wait', 'reject'."
        )


current_thread = cast(Thread, LocalProxy(lambda: threads_of(current_app_object()).scope().thread))
current_session = cast(
    Session, LocalProxy(lambda: threads_of(current_app_object()).scope().session)
)
