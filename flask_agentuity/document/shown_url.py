"""URLs for logs and error messages. Pure functions."""

from __future__ import annotations

import re

from .foreign_text import printable

#: What begins with a slash is a path there, which may contain an @. Elsewhere it is a mistake, and
#: what is before the @ may be a password.
_WITHOUT_HOST = ("sqlite", "unix")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def without_secrets(url: str) -> str:
    """Return *url* without user name, password, query and fragment.

    An unescaped password may contain any character, so everything up to the last ``@`` is removed,
    and the rest too if it may be part of a query.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return "(a URL without a scheme)"
    before, at, location = rest.rpartition("@")
    if rest.startswith("/") and scheme.lower() in _WITHOUT_HOST:
        at, location = "", rest
    shown = re.split(r"[?#]", location, maxsplit=1)[0]
    if at and "?" in before:
        shown = "..."
    return printable(f"{scheme}://{shown}")
