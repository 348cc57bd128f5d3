"""What belongs to one app: its settings, its store, and the scopes of its requests."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from blinker import NamedSignal
from flask import Blueprint, Flask, Request, current_app

from ..errors import ConfigurationError
from ..stores import ThreadStore, open_store
from ..thread.session import Session
from ..thread.thread import Thread
from . import events as signals
from .caching import SharedCaches
from .config import AppSettings
from .events import Reporting
from .flask_internals import current_app_object, current_request
from .identity import RequestIdentity
from .json_states import render_states
from .nearly_full import NearlyFull
from .ownership import OwnerLoader, load_owner
from .provider import SignedIDProvider, ThreadIDProvider
from .runs.app_runs import AppRuns
from .scope import RequestScope
from .settings_reader import ConfigWatch
from .signing import AppSecrets

NO_THREAD = (
    "This request has no thread: its view or blueprint is exempt, or it serves static files."
    " Remove the exemption to use a thread here."
)

_EXTENSION = "agentuity.app_threads"


class AppThreads:
    """The threads of one app, as the hooks, the command line and the test client use them."""

    #: Reports sessions. None: they are not reported.
    reporting: Reporting | None = None
    #: The app's owner loader, if it has one.
    owner_loader: OwnerLoader | None = None
    #: Whether a URL of the app contains a thread id.
    has_url_ids = False

    def __init__(
        self,
        app: Flask,
        settings: AppSettings,
        store: ThreadStore | str | None,
        exempt: set[Callable[..., Any] | Blueprint],
    ) -> None:
        """Open the store of *app*; nothing is connected yet.

        :param store: a store or its URL, instead of the one in *settings*.
        :param exempt: the views and blueprints without threads. It may change, see
            :meth:`forget_exempt`.
        :raises ConfigurationError: if *store* is not a store, or a secret is missing.
        """
        self.settings = _with_store(settings, store)
        self.store = (
            store if isinstance(store, ThreadStore) else self._open_store(app.instance_path)
        )
        _require_secret(app, settings, self.store)
        self.signed_provider = SignedIDProvider(
            AppSecrets(settings.secret, app.config, app.instance_path),
            settings.cookie,
            settings.header,
        )
        #: Decides which thread a request belongs to.
        self.provider: ThreadIDProvider = self.signed_provider
        #: The names of the request's attributes that hold its scope, and say that it was answered
        #: without one.
        self.scope_key = f"flask_agentuity.{id(self)}"
        self.answered_key = f"{self.scope_key}.answered"
        #: The key in the WSGI environment for the time at which the request began.
        self.began_key = f"{self.scope_key}.began"
        #: Keeps responses that depend on the visitor out of shared caches.
        self.shared_caches = SharedCaches(self.signed_provider)
        #: Knows which threads are about to reach their size limit.
        self.nearly_full = NearlyFull()
        #: The name of the request's attribute that holds the id from the app's own provider.
        self.given_key = f"{self.scope_key}.given"
        #: Receivers of signals, which hold them weakly.
        self.receivers: list[Callable[..., Any]] = []
        self._app = weakref.ref(app)
        self.config_watch = ConfigWatch(app.config)
        #: The streamed answers of the app.
        self.runs = AppRuns(self)
        self._exempt = exempt
        self._exempt_endpoints: dict[str | None, bool] = {}

    @property
    def app(self) -> Flask:
        """The app. It is referenced weakly, because it references this object."""
        app = self._app()
        assert app is not None, "an app outlives its requests"
        return app

    @property
    def has_own_provider(self) -> bool:
        """Whether the app has set a thread ID provider."""
        return self.provider is not self.signed_provider

    def scope(self) -> RequestScope:
        """Return the scope of the current request, which begins here if this is its first use.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        scope = self.begin_scope(current_request())
        if scope is None:
            raise RuntimeError(NO_THREAD)
        return scope

    def find_scope(self, current: Request) -> RequestScope | None:
        """Return the scope of the request *current* if it has begun."""
        scope: RequestScope | None = current.__dict__.get(self.scope_key)
        return scope

    def begin_scope(self, current: Request) -> RequestScope | None:
        """Return the scope of the request *current*, or None if the request has no threads."""
        # It is stored on the request, which copied contexts share. A middleware that retries a
        # request makes another request object of the same environ.
        found = current.__dict__
        scope: RequestScope | None = found.get(self.scope_key)
        if scope is not None:
            return scope
        endpoint = current.endpoint
        exempt = self._exempt_endpoints.get(endpoint)
        if exempt is None:
            # The app may have replaced its JSON provider since it was initialized.
            render_states(self.app)
            self.config_watch.look(self.app.config)
            exempt = self._exempt_endpoints[endpoint] = self._is_exempt(current, endpoint)
        if exempt:
            return None
        signed, identity = self.signed_provider, None
        if self.owner_loader is not None or self.has_url_ids or self.provider is not signed:
            identity = RequestIdentity(self)
        begun = RequestScope(
            self,
            partial((identity or signed).identify, current),
            identity,
            environ=current.environ,
            answered=self.answered_key in found,
        )
        # Atomic: threads with copied contexts get the same scope.
        scope = found.setdefault(self.scope_key, begun)
        return scope

    def send(
        self,
        signal: NamedSignal,
        thread: Thread | None,
        session: Session | None,
        error: BaseException | None = None,
        **more: Any,
    ) -> None:
        """Send *signal*, with the app as its sender and in a context of the app."""
        if not signal.receivers:
            return
        app = self.app
        if current_app and current_app_object() is app:
            signals.send(signal, app, thread=thread, session=session, error=error, **more)
            return
        # After a stream there is no context left, and receivers expect one.
        with app.app_context():
            signals.send(signal, app, thread=thread, session=session, error=error, **more)

    def forget_exempt(self) -> None:
        """Read the exempt views and blueprints again, after a change."""
        self._exempt_endpoints.clear()

    def load_person(self) -> str | None:
        """Return the id of the current person; None for a guest, or without an owner loader.

        :raises ConfigurationError: if the owner loader raises, or returns something else.
        """
        return None if self.owner_loader is None else load_owner(self.app, self.owner_loader)

    def _is_exempt(self, current: Request, endpoint: str | None) -> bool:
        if endpoint is None:
            return False
        app = self.app
        if _is_static(app, endpoint):
            return True
        view: Any = app.view_functions.get(endpoint) if self._exempt else None
        while view is not None:
            if view in self._exempt:
                return True
            # A decorator between the route and exempt() has wrapped the view.
            view = getattr(view, "__wrapped__", None)
        return any(app.blueprints[name] in self._exempt for name in current.blueprints)

    def _open_store(self, folder: str) -> ThreadStore:
        settings = self.settings
        return open_store(
            settings.store,
            ttl=settings.ttl,
            max_bytes=settings.max_bytes,
            folder=folder,
            key=settings.sdk_key,
            **settings.client_options,
            on_connected=lambda: self.send(signals.service_connected, None, None),
            on_disconnected=lambda error: self.send(
                signals.service_disconnected, None, None, error
            ),
        )


def attach(app: Flask, threads: AppThreads) -> None:
    """Make *threads* the ones that :func:`threads_of` finds for *app*."""
    app.extensions[_EXTENSION] = threads


def threads_of(app: Flask) -> AppThreads:
    """Return what belongs to *app*.

    :raises ConfigurationError: if the app has no ThreadManager.
    """
    threads = find_threads_of(app)
    if threads is None:
        raise ConfigurationError(
            f"The app {app.name!r} has no ThreadManager. Call ThreadManager(app), or"
            " threads.init_app(app), where the app is created."
        )
    return threads


def find_threads_of(app: Flask) -> AppThreads | None:
    """Return what belongs to *app*, or None if the app has no ThreadManager."""
    return cast("AppThreads | None", app.extensions.get(_EXTENSION))


def _with_store(settings: AppSettings, store: ThreadStore | str | None) -> AppSettings:
    if store is None:
        return settings
    if not isinstance(store, ThreadStore | str):
        raise ConfigurationError(
            f"store= is a {type(store).__name__}, which is not a store. Pass a URL or a"
            " ThreadStore; for a client of redis-py, use"
            " flask_agentuity.stores.redis.RedisStore(client)."
        )
    url = store if isinstance(store, str) else f"{type(store).__name__.lower()}://"
    return replace(settings, store=url, store_source="ThreadManager(store=...)")


def _require_secret(app: Flask, settings: AppSettings, store: ThreadStore) -> None:
    if store.shared_by_machines and not (settings.secret or app.secret_key):
        raise ConfigurationError(
            "A store that several machines share needs one secret for the thread ids."
            " Set SECRET_KEY or AGENTUITY_THREAD_SECRET before calling init_app()."
        )


def _is_static(app: Flask, endpoint: str) -> bool:
    if endpoint == "static":
        return app.has_static_folder
    blueprint, _, name = endpoint.rpartition(".")
    return (
        name == "static"
        and blueprint in app.blueprints
        and app.blueprints[blueprint].has_static_folder
    )
