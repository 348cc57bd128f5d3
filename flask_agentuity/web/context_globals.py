"""``g.thread`` and ``g.session``."""

from __future__ import annotations

from typing import Any

from .app_threads import NO_THREAD, AppThreads
from .flask_internals import AppContextGlobals, current_request

_NAMES = ("thread", "session")


class _OfRequest:
    """An attribute of ``g`` that is found in the scope of the current request.

    It has no ``__set__``, so that an attribute that was assigned takes precedence.
    """

    def __init__(self, name: str, threads: AppThreads) -> None:
        self._name = name
        self._threads = threads
        self._scope_key = threads.scope_key

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            # Faster than scope(), if the scope has begun.
            current = current_request()
            scope = current.__dict__.get(self._scope_key) or self._threads.begin_scope(current)
        except RuntimeError as error:
            raise AttributeError(str(error)) from None
        if scope is None:
            raise AttributeError(NO_THREAD)
        return getattr(scope, self._name)


def globals_class(base: type[AppContextGlobals], threads: AppThreads) -> type[AppContextGlobals]:
    """Return the class of an app's ``g``, derived from *base*.

    The thread and the session are found when they are used. A request that uses neither pays
    nothing, and a copied context, whose ``g`` is empty, finds those of its request.

    ``g.get("thread")``, ``"thread" in g``, ``hasattr(g, "thread")`` and ``g.setdefault()`` agree
    with ``g.thread``: outside a request and in an exempt view it is missing. None of them uses
    the thread, so none of them causes a cookie. Like other attributes of a class, it is not
    listed by ``iter(g)`` and cannot be removed by ``g.pop()``.
    """

    class ThreadGlobals(base):  # type: ignore[misc,valid-type]
        thread = _OfRequest("thread", threads)
        session = _OfRequest("session", threads)

        def __getattr__(self, name: str) -> Any:
            if name not in _NAMES:
                return super().__getattr__(name)
            # Called because the attribute above has raised; Flask's error would not say why.
            return getattr(type(self), name).__get__(self)

        def get(self, name: str, default: Any = None) -> Any:
            if name in _NAMES:
                return getattr(self, name, default)
            return super().get(name, default)

        def setdefault(self, name: str, default: Any = None) -> Any:
            if name in _NAMES and hasattr(self, name):
                return getattr(self, name)
            return super().setdefault(name, default)

        def __contains__(self, name: str) -> bool:
            return hasattr(self, name) if name in _NAMES else super().__contains__(name)

    return ThreadGlobals
