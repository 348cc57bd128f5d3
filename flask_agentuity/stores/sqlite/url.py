"""The URL of an SQLite store."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import ConfigurationError


def read_url(url: str, folder: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the path and the options that a URL of a store names.

    A relative path is taken from *folder*, or else from the working directory.

    :raises ConfigurationError: if there is no path, or an option is unknown or wrong.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or path.startswith(":memory:"):
        raise ConfigurationError(
            f"{url!r} names no file. Allowed: sqlite:///relative/path, sqlite:////absolute/path;"
            " for threads in memory, memory://."
        )
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "synchronous":
            options["synchronous"] = value.lower()
        elif name == "timeout" and _is_seconds(value):
            options["timeout"] = float(value)
        else:
            raise ConfigurationError(
                f"{name}={value} in {url!r} is not known to the SQLite store."
                " Allowed: timeout=SECONDS, synchronous=normal or full."
            )
    return Path(folder or ".") / path, options


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False
