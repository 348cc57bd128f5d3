"""Checks of the values of settings.

Each function returns a value as the package uses it, or raises ValueError with what is allowed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..durations import LONGEST, is_duration
from ..stores import STORE_URLS

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_DOMAIN = re.compile(r"\.?[0-9A-Za-z-]{1,63}(\.[0-9A-Za-z-]{1,63})*", re.ASCII)


def existing_file(value: Any) -> str:
    """Return the path of a file that exists."""
    if not isinstance(value, str | os.PathLike) or not Path(value).is_file():
        raise ValueError("the path of an existing file")
    return os.fspath(value)


def secret(value: Any) -> bytes:
    """Return a secret as bytes."""
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, str) and value and _is_unicode(value):
        return value.encode()
    raise ValueError("non-empty text or bytes")


def sdk_key(value: Any) -> str:
    """Return the key of a service."""
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise ValueError("non-empty text")
    return value


def _is_unicode(text: str) -> bool:
    # An environment variable that is not valid UTF-8 contains surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def store_url(value: Any) -> str:
    """Return a store's URL."""
    if not isinstance(value, str) or "://" not in value:
        raise ValueError(STORE_URLS)
    return value


def http_url(value: Any) -> str:
    """Return the URL of a service."""
    allowed = "a URL with its scheme, e.g. https://catalyst.example.com"
    if not isinstance(value, str):
        raise ValueError(allowed)
    try:
        parts = urlsplit(value)
        # Reading the port validates it.
        complete = parts.scheme in ("http", "https", "ws", "wss") and parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    if not complete:
        raise ValueError(allowed)
    return value


def region(value: Any) -> str:
    """Return the name of a region."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]+", value, re.IGNORECASE):
        raise ValueError("letters, digits and dashes, e.g. usc")
    return value


def cookie_name(value: Any) -> str:
    """Return a cookie's name."""
    if not isinstance(value, str) or not _COOKIE_NAME.fullmatch(value):
        raise ValueError("a cookie's name, e.g. atid")
    return value


def cookie_domain(value: Any) -> str:
    """Return a cookie's domain."""
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value):
        raise ValueError("a host name, e.g. example.com")
    return value


def cookie_age(value: Any) -> int:
    """Return a cookie's maximum age in seconds."""
    number = positive_integer(value)
    if number > LONGEST:
        raise ValueError(f"a positive integer, at most {LONGEST:,}")
    return number


def cookie_path(value: Any) -> str:
    """Return a cookie's path."""
    if not isinstance(value, str) or not re.fullmatch(r"/[^;\x00-\x1f\x7f]*", value):
        raise ValueError("a path that begins with /")
    return value


def secure(value: Any) -> bool | str:
    """Return whether a cookie is secure, or ``"auto"``."""
    known: dict[str, bool | str] = {
        "auto": "auto",
        "true": True,
        "1": True,
        "false": False,
        "0": False,
    }
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError("auto, True, False") from None


def switch(value: Any) -> bool:
    """Return what an on-off setting says.

    :raises ValueError: if it says neither.
    """
    known = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError("on, off") from None


def choice(*allowed: str) -> Callable[[Any], str]:
    """Return a function that returns one of *allowed*."""

    def parse(value: Any) -> str:
        for choice in allowed:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise ValueError(", ".join(allowed))

    return parse


def seconds(value: Any) -> float:
    """Return a positive number of seconds."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not is_duration(number):
        raise ValueError(f"a positive number of seconds, at most {LONGEST:,}")
    return number


def seconds_or_never(value: Any) -> float | None:
    """Return a positive number of seconds, or None."""
    if isinstance(value, str) and value.lower() in ("none", "never"):
        return None
    try:
        return seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or None for never") from None


def positive_integer(value: Any) -> int:
    """Return a positive integer."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if isinstance(value, bool) or number < 1 or (isinstance(value, float) and number != value):
        raise ValueError("a positive integer")
    return number
