"""The URL of an SQLite store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from ...document.shown_url import without_secrets
from ...durations import is_duration
from ...errors import ConfigurationError

_SCHEME = "sqlite://"


def read_url(url: str, folder: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the path and the options that a URL of a store names.

    Everything between ``sqlite:///`` and the first ``?`` is the path, also a ``#``. ``%3F`` stands
    for a question mark, ``%25`` for a percent sign. A relative path is taken from *folder*, or
    else from the working directory.

    :raises ConfigurationError: if there is no path, or an option is unknown or wrong.
    """
    # urlsplit() would take a fragment, tabs and line breaks out of the path.
    location, _, query = url[len(_SCHEME) :].partition("?")
    host, _, encoded = location.partition("/")
    try:
        path = os.fsdecode(unquote_to_bytes(os.fsencode(encoded)))
    except UnicodeEncodeError:
        path = ""
    if host or not path or path.startswith(":memory:") or "\0" in path:
        raise ConfigurationError(
            f"{without_secrets(url)!r} names no file. Allowed: sqlite:///relative/path, sqlite:////absolute/path;"
            " for threads in memory, memory://."
        )
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "synchronous":
            options["synchronous"] = value.lower()
        elif name == "timeout" and _is_seconds(value):
            options["timeout"] = float(value)
        else:
            option, shown = _option(name, value), without_secrets(url)
            raise ConfigurationError(
                f"{option} in {shown!r} is not known to the SQLite store."
                " Allowed: timeout=SECONDS, synchronous=normal or full. In the name of the file, ?"
                " is written %3F."
            )
    return Path(folder or ".") / path, options


def _option(name: str, value: str) -> str:
    # The URL of another store, with a wrong scheme, may have a password in its query.
    return f"{name}={value}" if name in ("timeout", "synchronous") else repr(name)


def _is_seconds(text: str) -> bool:
    try:
        return is_duration(float(text), or_zero=True)
    except ValueError:
        return False
