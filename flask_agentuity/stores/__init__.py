"""Where documents live, and :func:`open_store`, which picks a store by its URL."""

from __future__ import annotations

from typing import Any

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.shown_url import without_secrets
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
    """Return the store that *url* names.

    ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``redis://...``,
    ``ws://...``, ``memory://``. Nothing is opened or connected before the first use.

    :param ttl: seconds without use after which a thread expires in an own store; None: never.
    :param max_bytes: the largest document in an own store. One of a thread service may be as large,
        or have the default size.
    :param folder: what a relative path is relative to; the working directory if None.
    :param key: the key of a thread service.
    :param client_options: for a thread service, see :class:`flask_agentuity.client.ThreadClient`.
    :raises ConfigurationError: if no store has such a URL, or its package is missing.
    """
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
