"""Where documents live, and :func:`open_store`, which picks a store by its URL."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError
from .base import ThreadStore

__all__ = ["ThreadStore", "open_store"]

_ALLOWED = "sqlite:///PATH, redis://HOST, ws://HOST or wss://HOST, memory://"


def open_store(url: str, **options: Any) -> ThreadStore:
    """Return the store that *url* names.

    ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``redis://...``,
    ``ws://...``, ``memory://``. *options* go to the store's constructor (``ttl``,
    ``max_bytes``; for a service ``key``). Nothing is opened or connected before the
    first use.

    :raises ConfigurationError: when no store goes by that URL, or its package is missing.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigurationError(f"{url!r} is not a store's URL. Allowed: {_ALLOWED}.")
    match scheme:
        case "memory":
            from .memory import MemoryStore

            return MemoryStore(**options)
        case "sqlite":
            from .sqlite import SQLiteStore

            return SQLiteStore.from_url(url, **options)
    raise ConfigurationError(f"No store goes by {scheme}://. Allowed: {_ALLOWED}.")
