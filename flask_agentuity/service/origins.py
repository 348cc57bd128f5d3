"""The origins of the web pages that may connect to a service."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from ..errors import ConfigurationError


def read_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return *origins* as browsers send them, in lower case.

    :raises ConfigurationError: if one of them has no scheme, or more than scheme, host and port: it
        would never match.
    """
    return frozenset(_read(origin) for origin in origins)


def _read(origin: str) -> str:
    text = origin.removesuffix("/").lower() if isinstance(origin, str) else ""
    try:
        parts = urlsplit(text)
        is_origin = parts.scheme and parts.hostname and text == f"{parts.scheme}://{parts.netloc}"
        is_origin = is_origin and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        is_origin = False
    # Pages without an origin, such as local files, send this word.
    if not is_origin and text != "null":
        raise ConfigurationError(
            f"allowed_origins must be origins such as https://example.com, not {origin!r}."
        )
    return text
