"""Thread ids in URLs: the converter of ``"/c/<thread:conversation>"``."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from werkzeug.routing import BaseConverter, Map

from ..errors import ConfigurationError
from ..stores import ListedThread
from ..thread.thread import Thread
from .thread_ids import THREAD_ID_PATTERN

if TYPE_CHECKING:
    from .app_threads import AppThreads


# Flask sets the attribute of a rule, as it describes for view functions.
_AUTOMATIC = "provide_automatic_options"


class URLThreadId(str):
    """A thread id from a URL. It is not known yet whether the request may use the thread.

    Pickled or copied, for example as the argument of a job, it is a plain string.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def register_converter(app: Flask, threads: AppThreads) -> None:
    """Add the converter ``thread`` to the URLs of *app*."""
    reference = weakref.ref(threads)

    class ThreadConverter(BaseConverter):
        regex = THREAD_ID_PATTERN
        weight = 50

        def __init__(self, map: Map, *args: Any, **kwargs: Any) -> None:
            super().__init__(map, *args, **kwargs)
            if (threads := reference()) is not None:
                threads.has_url_ids = True

        def to_python(self, value: str) -> URLThreadId:
            threads = reference()
            if threads is not None:
                _require_guard(threads)
            return URLThreadId(value)

        def to_url(self, value: Any) -> str:
            return super().to_url(value.id if isinstance(value, Thread | ListedThread) else value)

    app.url_map.converters["thread"] = ThreadConverter


def url_thread_id(request: Request) -> URLThreadId | None:
    """Return the thread id in the URL of *request*, if there is one."""
    for value in (request.view_args or {}).values():
        if isinstance(value, URLThreadId):
            return value
    return None


def is_named_by_url(request: Request) -> bool:
    """Return whether the view of *request* got a thread id from its URL."""
    if request.method == "OPTIONS" and getattr(request.url_rule, _AUTOMATIC, False):
        # Flask answers it without the view. A browser asks so before a request of another
        # origin, and sends no cookie with it.
        return False
    return url_thread_id(request) is not None


def _require_guard(threads: AppThreads) -> None:
    if threads.owner_loader is None and not threads.settings.public_urls:
        raise ConfigurationError(
            "A URL with <thread:...> opens the conversation to everyone who learns the URL: from"
            " a history, a log or a forwarded link. Register a function with"
            " @threads.owner_loader, so that each user reaches only their own conversations, or"
            " set AGENTUITY_THREAD_PUBLIC_URLS=True if they are meant to be public."
        )
