"""Where the service is, and what the environment says of a proxy on the way. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigurationError

#: The path of the endpoint, where the URL has none.
PATH = "/thread/ws"

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True)
class Address:
    """A service's URL: as it is dialled, and as it may be shown to people."""

    #: May hold secrets in its query.
    url: str = field(repr=False)
    #: Without user name, password and query.
    shown: str
    host: str
    secure: bool


def parse_address(url: str) -> Address:
    """Read a ws, wss, http or https URL; without a path it gets ``/thread/ws``.

    :raises ConfigurationError: when it is not one; the message holds no credentials.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except (ValueError, AttributeError):
        raise ConfigurationError("The URL of the thread service is not a URL.") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise ConfigurationError(
            f"The URL of the thread service must start with ws:// or wss:// and name a host;"
            f" {_shown(parts)!r} does not."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    location = host if port is None else f"{host}:{port}"
    path = parts.path if parts.path not in ("", "/") else PATH
    query = f"?{parts.query}" if parts.query else ""
    shown = f"{scheme}://{location}{path}"
    return Address(shown + query, shown, parts.hostname, scheme == "wss")


def without_secrets(url: str) -> str:
    """Return *url* without user name, password, query and fragment, for people to read."""
    try:
        return _shown(urlsplit(url))
    except ValueError:
        return "a URL that cannot be read"


def _shown(parts: SplitResult) -> str:
    location = parts.netloc.rpartition("@")[2]
    if not parts.netloc and "@" in parts.path:
        return "a URL without a scheme"
    start = f"{parts.scheme}:" if parts.scheme else ""
    return f"{start}//{location}{parts.path}" if location else f"{start}{parts.path}"


def proxy_warnings(environ: Mapping[str, str], address: Address) -> list[str]:
    """Say which proxy settings of the environment do not do what they seem to.

    websocket-client takes ``http_proxy`` for ws and ``https_proxy`` for wss, each an HTTP
    proxy that understands CONNECT, and nothing else.
    """
    warnings = []
    name = "https_proxy" if address.secure else "http_proxy"
    name = name if name in environ else name.upper()
    proxy = environ.get(name, "").replace(" ", "")
    excluded = [
        entry
        for entry in environ.get("no_proxy", environ.get("NO_PROXY", ""))
        .replace(" ", "")
        .split(",")
        if ":" in entry and entry.count(":") == 1
    ]
    if proxy and "://" not in proxy:
        warnings.append(f"{name} has no scheme, so it is not used: write http://host:port.")
    elif proxy and not proxy.lower().startswith("http://"):
        scheme = proxy.partition("://")[0]
        warnings.append(
            f"{name} names a proxy of the kind {scheme}://; it is spoken to as an http:// proxy."
        )
    if not proxy and (
        everything := next((n for n in ("all_proxy", "ALL_PROXY") if environ.get(n)), None)
    ):
        warnings.append(f"{everything} is not used; set {name.lower()} instead.")
    if proxy and excluded:
        warnings.append(f"no_proxy entries with a port are not used: {', '.join(excluded)}.")
    return warnings
