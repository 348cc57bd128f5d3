"""Stores of threads, and :func:`open_store`, which opens the store of a URL."""

from __future__ import annotations

from typing import Any

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.shown_url import without_secrets
from ..durations import LONGEST, is_duration
from ..errors import ConfigurationError
from .base import DEFAULT_TTL, ThreadStore
from .listing import ListedThread, Page, Query

__all__ = ["ListedThread", "Page", "Query", "ThreadStore", "open_store"]

#: The URLs of stores, for messages.
STORE_URLS = "sqlite:///PATH, redis://HOST, ws://HOST or wss://HOST, memory://"


def open_store(
    url: str,
    *,
    ttl: float | None = DEFAULT_TTL,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    folder: str | None = None,
    key: str | None = None,
    **client_options: Any,
) -> ThreadStore:
    """Return the store with a URL, such as ``sqlite:///threads.db``. It opens at its first use.

    ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``redis://...``, ``wss://...``
    (a thread service) or ``memory://``.

    :param ttl: seconds without use after which a thread expires; None: never. A thread service has
        its own.
    :param max_bytes: the largest document. For a thread service, at least the default.
    :param folder: the folder of relative paths; None for the working directory.
    :param key: the key of a thread service.
    :param client_options: for a thread service, see :class:`flask_agentuity.client.ThreadClient`.
    :raises ConfigurationError: if the URL or *ttl* is wrong, or a package is missing.
    """
    _check_ttl(ttl)
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigurationError(
            f"{without_secrets(url)} is not a store's URL. Allowed: {STORE_URLS}."
        )
    match scheme:
        case "memory":
            from .memory import MemoryStore

            return MemoryStore(ttl=ttl, max_bytes=max_bytes)
        case "sqlite":
            from .sqlite.store import SQLiteStore

            return SQLiteStore.from_url(url, folder=folder, ttl=ttl, max_bytes=max_bytes)
        case _ if scheme.partition("+")[0] in ("redis", "rediss", "unix", "valkey", "valkeys"):
            from .redis.store import RedisStore

            return RedisStore.from_url(url, ttl=ttl, max_bytes=max_bytes)
        case "ws" | "wss":
            from .remote import RemoteStore

            if not key:
                raise ConfigurationError("A thread service needs a key. Set AGENTUITY_SDK_KEY.")
            # The app may have a lower limit; that does not make stored threads unreadable.
            largest = max(max_bytes, MAX_DOCUMENT_BYTES)
            options = {"max_document_bytes": largest, **client_options}
            return RemoteStore.from_url(url, key=key, **options)
    raise ConfigurationError(
        f"There is no store for {without_secrets(f'{scheme}://')}. Allowed: {STORE_URLS}."
    )


def _check_ttl(ttl: object) -> None:
    if ttl is not None and not is_duration(ttl):
        raise ConfigurationError(
            f"ttl={ttl!r} is wrong. Allowed: seconds above 0, at most {LONGEST:,}; None: never."
        )
