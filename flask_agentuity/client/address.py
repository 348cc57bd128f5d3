"""The URL of the service, and the environment's proxy settings. Pure functions."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..document.shown_url import without_secrets
from ..errors import ConfigurationError
from ..wire.limits import PATH

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True)
class Address:
    """The URL of a service.

    ``url`` is the URL to connect to; its query may contain secrets. ``shown`` is the URL for
    logs and errors, without user name, password and query.
    """

    url: str = field(repr=False)
    shown: str
    host: str
    secure: bool

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_address(url: str) -> Address:
    """Parse a ws, wss, http or https URL. Without a path it gets ``/thread/ws``.

    :raises ConfigurationError: if it is not such a URL. The message contains no credentials.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except (ValueError, AttributeError):
        raise ConfigurationError("The URL of the thread service is not a valid URL.") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise ConfigurationError(
            f"The URL of the thread service must start with ws:// or wss:// and contain a host;"
            f" {without_secrets(url)!r} does not."
        )
    if "@" in parts.path:
        raise ConfigurationError(
            "The path of the URL of the thread service must not contain '@'. In a user name or"
            " password, write %2F for /."
        )
    if parts.fragment:
        raise ConfigurationError(
            "The URL of the thread service must not contain '#'. In a user name or password,"
            " write %23."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    location = host if port is None else f"{host}:{port}"
    path = parts.path if parts.path not in ("", "/") else PATH
    query = f"?{parts.query}" if parts.query else ""
    shown = f"{scheme}://{location}{path}"
    return Address(shown + query, shown, parts.hostname, scheme == "wss")


def connection_warnings(environ: Mapping[str, str], address: Address) -> list[str]:
    """Return what is questionable about connecting to *address* in this environment."""
    warnings = proxy_warnings(environ, address)
    if not address.secure and not address.is_local:
        warnings.append(
            f"The connection to {address.shown} is not encrypted: the key and all threads can be"
            " read on the network. Use wss://."
        )
    return warnings


def proxy_warnings(environ: Mapping[str, str], address: Address) -> list[str]:
    """Return which proxy settings of the environment have no or an unexpected effect.

    websocket-client uses ``http_proxy`` for ws and ``https_proxy`` for wss. Each must be an HTTP
    proxy that supports CONNECT.
    """
    warnings = []
    name, proxy = _proxy_setting(environ, address)
    if proxy and "://" not in proxy:
        warnings.append(f"{name} has no scheme, so it is ignored: write http://host:port.")
    elif proxy and not proxy.lower().startswith("http://"):
        scheme = proxy.partition("://")[0]
        warnings.append(f"{name} has the scheme {scheme}://, but it is used as an http:// proxy.")
    if not proxy and (
        everything := next((n for n in ("all_proxy", "ALL_PROXY") if environ.get(n)), None)
    ):
        warnings.append(f"{everything} is ignored; set {name.lower()} instead.")
    with_port = [entry for entry in _no_proxy(environ) if entry.count(":") == 1]
    if proxy and with_port:
        warnings.append(f"no_proxy entries with a port are ignored: {', '.join(with_port)}.")
    return warnings


def proxy_hint(environ: Mapping[str, str], address: Address) -> str:
    """Return a sentence for errors that names the configured proxy, or an empty string."""
    name, proxy = _proxy_setting(environ, address)
    excluded = _no_proxy(environ)
    if "://" not in proxy or "*" in excluded or address.host in excluded:
        return ""
    return (
        f" {name} is set to {without_secrets(proxy)}, which is used for this host unless no_proxy"
        " excludes it."
    )


def _proxy_setting(environ: Mapping[str, str], address: Address) -> tuple[str, str]:
    name = "https_proxy" if address.secure else "http_proxy"
    name = name if name in environ else name.upper()
    return name, environ.get(name, "").replace(" ", "")


def _no_proxy(environ: Mapping[str, str]) -> list[str]:
    entries = environ.get("no_proxy", environ.get("NO_PROXY", "")).replace(" ", "")
    return entries.split(",")
