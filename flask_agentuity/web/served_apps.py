"""The apps that a manager serves: the base of :class:`~flask_agentuity.ThreadManager`."""

from __future__ import annotations

import weakref

from flask import Flask, current_app

from ..errors import ConfigurationError
from .app_threads import AppThreads
from .flask_internals import current_app_object
from .scope import RequestScope


class ServedApps:
    """Finds the app and the request for which a method of a manager was called."""

    def __init__(self) -> None:
        self._apps: weakref.WeakKeyDictionary[Flask, AppThreads] = weakref.WeakKeyDictionary()

    def _scope(self) -> RequestScope:
        """Return the scope of the current request.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        return self._threads_of(current_app_object()).scope()

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
