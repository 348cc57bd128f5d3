"""ThreadManager: binds threads to a Flask app, and takes each request its way."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from flask import Blueprint, Flask, Request, Response, current_app, request
from flask.ctx import _AppCtxGlobals
from flask.signals import got_request_exception
from werkzeug.exceptions import Conflict, ServiceUnavailable
from werkzeug.local import LocalProxy

from ..errors import AgentuityError, ConfigurationError, StoreError
from ..stores import Page, ThreadStore, open_store
from ..thread.session import Session
from ..thread.thread import Thread
from . import events as signals
from .config import Settings, read_settings
from .provider import (
    SignedIDProvider,
    ThreadIDProvider,
    instance_secret,
    make_thread_id,
    require_thread_id,
)
from .scope import Exchange, Observer

logger = logging.getLogger("flask_agentuity")

_EXTENSION = "agentuity"
_SECRET_FILE = "agentuity_secret"

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

    One manager can serve many apps, by :meth:`init_app`; what belongs to an app is kept
    for that app.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: ThreadStore | str | None = None,
        thread_id_provider: ThreadIDProvider | None = None,
    ) -> None:
        """Make a manager, and bind it to *app* if one is given.

        :param store: a store or its URL, instead of what the app's configuration says.
        :param thread_id_provider: see :meth:`set_thread_id_provider`.
        """
        self._given_store = store
        self._provider = thread_id_provider
        self._exempt: set[Callable[..., Any] | Blueprint] = set()
        self._bindings: weakref.WeakKeyDictionary[Flask, _Binding] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind this manager to *app*; nothing is opened or connected yet.

        :raises ConfigurationError: when a setting is wrong, or the app has threads already.
        """
        if _EXTENSION in app.extensions:
            raise ConfigurationError(
                "This app has a ThreadManager already. Use ThreadManager(app) or"
                " threads.init_app(app), not both, and once for each app."
            )
        binding = _Binding(self, app, read_settings(app.config), self._given_store)
        app.extensions[_EXTENSION] = self
        self._bindings[app] = binding
        binding.register(app)

    def exempt(self, view_or_blueprint: _Exempt) -> _Exempt:
        """Have no thread in the requests of a view or of a whole blueprint.

        For health checks and the like; static files have none anyway. Can be used as a
        decorator, above or below ``@app.route``::

            @app.get("/health")
            @threads.exempt
            def health(): ...
        """
        self._exempt.add(view_or_blueprint)
        for binding in self._bindings.values():
            binding.forget_exempt()
        return view_or_blueprint

    def set_thread_id_provider(self, provider: ThreadIDProvider | None) -> None:
        """Have *provider* say which thread a request belongs to; None: signed header or cookie."""
        self._provider = provider

    def new(self) -> Thread:
        """Start another conversation: it takes the place of ``g.thread`` and its cookie's.

        The thread there was until now is kept, and what was changed in it is saved.
        """
        return self._binding_of(_current_app()).exchange().start_another(_current_request())

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return stored threads, the latest updated first, e.g. one person's conversations::

            page = threads.list({"owner": current_user.id})
            page.threads[0].metadata["title"]
            threads.list({"owner": current_user.id}, cursor=page.cursor)

        :param metadata: only threads whose metadata has these keys with these values.
        :raises ValueError: for a filter by something that is no scalar, or a wrong cursor.
        :raises StoreError: when the store cannot list; the thread service cannot.
        """
        return self.store().list(metadata, limit=limit, cursor=cursor)

    def one_at_a_time(
        self, on_busy: Literal["wait", "reject"] = "wait", timeout: float = 30.0
    ) -> Callable[[_View], _View]:
        """Have the requests of a view that share a thread follow one another.

        The turn lasts until the response has ended, a streamed one too. It holds across
        threads and processes, and machines where the store is shared (for the thread service
        within this process only). Who waits is not in a queue: of several, any may be next::

            @app.post("/chat")
            @threads.one_at_a_time(timeout=60)
            def chat(): ...

        What a ``before_request`` function has read of the thread is from before the turn, and
        is not read again: decorate that function as well, the turn is then taken there.

        :param on_busy: ``"wait"`` for the turn, or ``"reject"`` with 409 Conflict.
        :param timeout: seconds to wait, then 409.
        """
        if callable(on_busy):
            raise ConfigurationError(
                "one_at_a_time is used without its parentheses. Write @threads.one_at_a_time()."
            )
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
            raise ConfigurationError(
                f"one_at_a_time(timeout={timeout!r}) is wrong. Allowed: seconds, 0 or more."
            )
        if on_busy not in ("wait", "reject"):
            raise ConfigurationError(
                f"one_at_a_time(on_busy={on_busy!r}) is wrong. Allowed: 'wait', 'reject'."
            )

        def decorate(view: _View) -> _View:
            @wraps(view)
            def alone(*args: Any, **kwargs: Any) -> Any:
                exchange = self._binding_of(_current_app()).exchange()
                if not exchange.be_alone(timeout if on_busy == "wait" else 0.0):
                    raise Conflict("This conversation is busy with another request.")
                return _current_app().ensure_sync(view)(*args, **kwargs)

            return cast(_View, alone)

        return decorate

    @contextmanager
    def open(self, thread_id: str | None = None, *, create: bool | None = None) -> Iterator[Thread]:
        """Work on a thread outside a request: in a background job, a shell, a test.

        It is saved at the end of the block, and not if the block raises. Whatever goes
        wrong with the store raises here, whatever the app's configuration says::

            with threads.open(thread_id) as thread:
                thread.state.push("messages", {"role": "assistant", "content": answer})

        :param thread_id: the thread's id; None with *create* makes one.
        :param create: True starts the thread if there is none; False takes only one that is
            stored. By default an id is taken as it is, stored or not.
        :raises InvalidThreadId: when *thread_id* breaks the rule.
        :raises LookupError: with ``create=False``, when nothing is stored.
        :raises StoreError: when the thread cannot be read or saved.
        """
        binding = self._binding_of_work()
        is_new = thread_id is None
        if is_new and not create:
            raise ConfigurationError(
                "open() needs a thread id. Use open(create=True) to start a conversation."
            )
        known = make_thread_id() if thread_id is None else require_thread_id(thread_id)
        thread = Thread(binding.store, lambda: (known, is_new), Observer(binding))
        if create is False and thread.empty():
            raise LookupError(f"Nothing is stored of thread {known}.")
        yield thread
        thread.save()

    def store(self) -> ThreadStore:
        """Return the store of the current app, or of the only one."""
        return self._binding_of_work().store

    def settings(self) -> Settings:
        """Return the settings of the current app, or of the only one."""
        return self._binding_of_work().settings

    def provider_of(self, default: ThreadIDProvider) -> ThreadIDProvider:
        """Return the provider that was set, or *default*."""
        return self._provider or default

    def is_exempt(self, view: Callable[..., Any] | None, blueprints: Sequence[object]) -> bool:
        """Return whether a view, or one of the blueprints it belongs to, was exempted."""
        if not self._exempt:
            return False
        while view is not None:
            if view in self._exempt:
                return True
            # A decorator between the route and exempt() has wrapped the view.
            view = getattr(view, "__wrapped__", None)
        return any(blueprint in self._exempt for blueprint in blueprints)

    def _binding_of(self, app: Flask) -> _Binding:
        binding = self._bindings.get(app)
        if binding is None:
            raise ConfigurationError(
                f"This ThreadManager does not serve the app {app.name!r}."
                " Call threads.init_app(app) where the app is made."
            )
        return binding

    def _binding_of_work(self) -> _Binding:
        if current_app:
            return self._binding_of(_current_app())
        bindings = list(self._bindings.values())
        if len(bindings) != 1:
            raise ConfigurationError(
                f"This ThreadManager serves {len(bindings)} apps."
                " Say which one is meant: with app.app_context(): ..."
                if bindings
                else "This ThreadManager serves no app. Call threads.init_app(app) first."
            )
        return bindings[0]


class _Binding:
    """What belongs to one app, and the hooks that Flask calls."""

    def __init__(
        self,
        manager: ThreadManager,
        app: Flask,
        settings: Settings,
        store: ThreadStore | str | None,
    ) -> None:
        if not (store is None or isinstance(store, ThreadStore | str)):
            raise ConfigurationError(
                f"store= is no store but a {type(store).__name__}. Give a URL or a ThreadStore;"
                " for a client of redis-py, flask_agentuity.stores.redis.RedisStore(client)."
            )
        if store is not None:
            url = store if isinstance(store, str) else f"{type(store).__name__.lower()}://"
            settings = replace(settings, store=url, store_source="ThreadManager(store=...)")
        self.settings = settings
        self.store = (
            store if isinstance(store, ThreadStore) else self._open_store(app.instance_path)
        )
        if self.store.shared_by_machines and not (settings.secret or app.secret_key):
            raise ConfigurationError(
                "Threads that several machines share need one secret for their ids."
                " Set SECRET_KEY or AGENTUITY_THREAD_SECRET before init_app."
            )
        self._manager = manager
        self._app = weakref.ref(app)
        self._config = app.config
        self._key = f"flask_agentuity.{id(self)}"
        self._answered_key = f"{self._key}.answered"
        self.signed_provider = SignedIDProvider(
            self._secrets, settings.cookie, lambda: _current_request().is_secure
        )
        self._instance_secret: bytes | None = None
        self._exempt_endpoints: dict[str, bool] = {}

    @property
    def app(self) -> Flask:
        app = self._app()
        assert app is not None, "an app outlives its requests"
        return app

    @property
    def provider(self) -> ThreadIDProvider:
        return self._manager.provider_of(self.signed_provider)

    @property
    def has_own_provider(self) -> bool:
        return self.provider is not self.signed_provider

    def register(self, app: Flask) -> None:
        """Hook into *app*. What every request pays is here: functions, for Flask looks at
        each hook in each request, and at a bound method for longer.
        """
        key, answered_key = self._key, self._answered_key
        # Found once: the way through the proxy's attributes is three times as long.
        current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
        completed = signals.session_completed

        def answer_request(response: Response) -> Response:
            found = current_request().__dict__
            exchange: Exchange | None = found.get(key)
            if exchange is None:
                if not response.is_streamed:
                    found[answered_key] = True
                    return response
                # Its generator may still touch the thread.
                exchange = self._begin(current_request())
            return response if exchange is None else exchange.answer(response)

        def end_request(error: BaseException | None) -> None:
            exchange: Exchange | None = current_request().__dict__.get(key)
            if exchange is None and completed.receivers:
                exchange = self._begin(current_request())
            if exchange is not None:
                exchange.tear_down(error)

        self._begin_for_listeners(app)
        # Last of all after the view: whatever another extension or the app does with the
        # thread is then seen.
        app.after_request_funcs.setdefault(None, []).insert(0, answer_request)
        app.teardown_request_funcs.setdefault(None, []).insert(0, end_request)
        # The app may have registered one of its own already.
        app.error_handler_spec[None][None].setdefault(StoreError, _answer_unavailable)
        app.app_ctx_globals_class = _globals_class(app.app_ctx_globals_class, self)
        got_request_exception.connect(self._note_exception, app)

    def _begin_for_listeners(self, app: Flask) -> None:
        """Begin each request with ``session_started``, from the first listener on.

        Without one, a request that uses no thread has nothing to begin.
        """
        started = signals.session_started
        app_reference = weakref.ref(app)

        def begin_request() -> None:
            if started.receivers and (exchange := self._begin(_current_request())):
                self.send(started, exchange.thread, exchange.session)

        def listen(*_: object, **__: object) -> None:
            app = app_reference()
            hooks = app.before_request_funcs.setdefault(None, []) if app else []
            if app and begin_request not in hooks:
                # First of all. In a list of its own: another thread may be going through this one.
                app.before_request_funcs[None] = [begin_request, *hooks]

        self._listen = listen  # The signal holds it weakly.
        started.receiver_connected.connect(listen)
        if started.receivers:
            listen()

    def exchange(self) -> Exchange:
        """Return the exchange of the request under way, which begins here if it is not used yet."""
        exchange = self._begin(_current_request())
        if exchange is None:
            raise RuntimeError(
                "This request has no thread: its view or blueprint is exempt, or it serves"
                " static files. Remove the exemption to use a thread here."
            )
        return exchange

    def forget_exempt(self) -> None:
        self._exempt_endpoints.clear()

    def send(
        self,
        signal: Any,
        thread: Thread | None,
        session: Session | None,
        error: BaseException | None = None,
    ) -> None:
        if not signal.receivers:
            return
        app = self.app
        if current_app and _current_app() is app:
            signals.send(signal, app, thread=thread, session=session, error=error)
            return
        # After a plain stream there is no context left, and receivers are used to one.
        with app.app_context():
            signals.send(signal, app, thread=thread, session=session, error=error)

    def _begin(self, current: Request) -> Exchange | None:
        # On the request, which copied contexts share, and which is another one where a
        # middleware tries again in the same environ.
        found = current.__dict__
        exchange: Exchange | None = found.get(self._key)
        if exchange is None and not self._is_exempt(current):
            # Atomic: threads with copied contexts that come at once get one exchange.
            exchange = found.setdefault(
                self._key, Exchange(self, current, answered=self._answered_key in found)
            )
        return exchange

    def _note_exception(self, sender: Flask, exception: BaseException, **extra: Any) -> None:
        if exchange := self._begin(_current_request()):
            exchange.error = exception

    def _is_exempt(self, current: Request) -> bool:
        endpoint = current.endpoint
        if endpoint is None:
            return False
        exempt = self._exempt_endpoints.get(endpoint)
        if exempt is None:
            app = self.app
            exempt = _is_static(app, current) or self._manager.is_exempt(
                app.view_functions.get(endpoint),
                [app.blueprints[name] for name in current.blueprints],
            )
            self._exempt_endpoints[endpoint] = exempt
        return exempt

    def _open_store(self, folder: str) -> ThreadStore:
        settings = self.settings
        return open_store(
            settings.store,
            ttl=settings.ttl,
            max_bytes=settings.max_bytes,
            folder=folder,
            key=settings.sdk_key,
            connect_timeout=settings.connect_timeout,
            request_timeout=settings.request_timeout,
            reconnect_base=settings.reconnect_base,
            reconnect_max=settings.reconnect_max,
            ca_file=settings.ca_file,
            on_connected=lambda: self.send(signals.service_connected, None, None),
            on_disconnected=lambda error: self.send(
                signals.service_disconnected, None, None, error
            ),
        )

    def _secrets(self) -> list[bytes]:
        config = self._config
        secret = self.settings.secret or _to_bytes(config["SECRET_KEY"])
        if not secret:
            if self._instance_secret is None:
                path = Path(self.app.instance_path) / _SECRET_FILE
                self._instance_secret = instance_secret(path)
            secret = self._instance_secret
        fallbacks = config.get("SECRET_KEY_FALLBACKS")
        if not fallbacks:
            return [secret]
        if isinstance(fallbacks, str | bytes):
            # Taken letter by letter, each would be a secret that anyone can guess.
            fallbacks = [fallbacks]
        # So would an empty one, which an unset variable of the environment leaves.
        return [secret, *(_to_bytes(fallback) for fallback in fallbacks if fallback)]


def _globals_class(base: type[_AppCtxGlobals], binding: _Binding) -> type[_AppCtxGlobals]:
    """Return the class of an app's ``g``, which finds the thread and session of the request.

    They are looked up when they are used: a request that uses none pays nothing, and a
    copied context, whose ``g`` is empty, finds those of its request as well.
    """

    class ThreadGlobals(base):  # type: ignore[misc,valid-type]
        def __getattr__(self, name: str) -> Any:
            if name not in ("thread", "session"):
                return super().__getattr__(name)
            try:
                return getattr(binding.exchange(), name)
            except RuntimeError as error:
                raise AttributeError(str(error)) from None

    return ThreadGlobals


def _current_app() -> Flask:
    return cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]


def _current_request() -> Request:
    return cast(Request, request._get_current_object())  # type: ignore[attr-defined]


def signed_provider(app: Flask) -> SignedIDProvider:
    """Return what signs and verifies the ids of *app* where no other provider was set."""
    return _manager_of(app)._binding_of(app).signed_provider


def _manager_of(app: Flask) -> ThreadManager:
    manager = app.extensions.get(_EXTENSION)
    if manager is None:
        raise ConfigurationError(
            f"The app {app.name!r} has no ThreadManager. Call ThreadManager(app), or"
            " threads.init_app(app), where the app is made."
        )
    return cast(ThreadManager, manager)


def _find_exchange() -> Exchange:
    app = _current_app()
    return _manager_of(app)._binding_of(app).exchange()


current_thread = cast(Thread, LocalProxy(lambda: _find_exchange().thread))
current_session = cast(Session, LocalProxy(lambda: _find_exchange().session))


def _answer_unavailable(error: StoreError) -> Any:
    # What the app has to say comes first; a store's own words are for the log.
    for name in (*request.blueprints, None):
        if handler := current_app.error_handler_spec[name][None].get(AgentuityError):
            return current_app.ensure_sync(handler)(error)
    logger.error("A request was answered with 503: %s", error, exc_info=error)
    return current_app.handle_http_exception(ServiceUnavailable())


def _is_static(app: Flask, current: Request) -> bool:
    endpoint = current.endpoint
    if endpoint == "static":
        return app.has_static_folder
    blueprint, _, name = (endpoint or "").rpartition(".")
    return (
        name == "static"
        and blueprint in app.blueprints
        and (app.blueprints[blueprint].has_static_folder)
    )


def _to_bytes(secret: str | bytes | None) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret or b""
