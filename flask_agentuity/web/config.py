"""The settings of an app, read and checked once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from ..document.codec import MAX_DOCUMENT_BYTES
from ..errors import ConfigurationError
from ..stores.base import DEFAULT_TTL
from ..thread.reporter import SessionReporter
from .cookie import CookieSettings
from .provider import HeaderMode
from .report_settings import ReportSettings, read_report_settings, switch

#: The store if none is configured: a file in the instance folder.
DEFAULT_STORE = "sqlite:///agentuity_threads.db"

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_DOMAIN = re.compile(r"\.?[0-9A-Za-z-]{1,63}(\.[0-9A-Za-z-]{1,63})*", re.ASCII)
# A hundred years. The cookie's expiry date must be one that can be written.
_LONGEST_AGE = 36_525 * 86_400


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The settings of one app, checked. Times are in seconds, sizes in bytes."""

    store: str = field(repr=False)
    #: Where :attr:`store` was configured, for people who look for it.
    store_source: str
    sdk_key: str | None = field(repr=False)
    secret: bytes | None = field(repr=False)
    cookie: CookieSettings
    header: HeaderMode
    #: Whether URLs may contain thread ids although the app has no owner loader.
    public_urls: bool
    ttl: float | None
    max_bytes: int
    on_restore_error: Literal["empty", "raise"]
    on_save_error: Literal["log", "raise"]
    on_too_large: Literal["log", "raise"]
    #: What is configured of the client's options; the others have the client's own defaults.
    client_options: Mapping[str, Any]
    #: Where sessions are reported; None: nowhere.
    reports: ReportSettings | None
    #: Whether responses tell the session's id.
    session_header: bool


def read_settings(
    config: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> AppSettings:
    """Read the settings from *config*, then from the environment variables of the same names.

    :raises ConfigurationError: if a value is wrong. The message contains the key, the value
        and what is allowed.
    """
    read = _Reader(config, environment)
    sdk_key = read("SDK_KEY", None, _sdk_key)
    store = read("THREAD_STORE", None, _url)
    source = read.source("THREAD_STORE")
    if store is None:
        store = _service_url(read) if sdk_key else DEFAULT_STORE
        source = read.source("SDK_KEY") if sdk_key else "the default: nothing is configured"
    if store.startswith(("ws:", "wss:")) and not sdk_key:
        raise ConfigurationError(
            f"AGENTUITY_THREAD_STORE={_without_password(store)!r} is a thread service, which"
            " requires a key. Set AGENTUITY_SDK_KEY."
        )
    secret = read("THREAD_SECRET", None, _secret)
    if secret is None and sdk_key is not None:
        secret = sdk_key.encode()
    return AppSettings(
        store=store,
        store_source=source,
        sdk_key=sdk_key,
        secret=secret,
        cookie=_read_cookie(read),
        header=read("THREAD_HEADER", "auto", _choice("auto", "always", "never")),
        public_urls=read("THREAD_PUBLIC_URLS", False, _boolean),
        ttl=read("THREAD_TTL", DEFAULT_TTL, _seconds_or_never, none_counts=True),
        max_bytes=read("THREAD_MAX_BYTES", MAX_DOCUMENT_BYTES, _positive_integer),
        on_restore_error=read("THREAD_ON_RESTORE_ERROR", "empty", _choice("empty", "raise")),
        on_save_error=read("THREAD_ON_SAVE_ERROR", "log", _choice("log", "raise")),
        on_too_large=read("THREAD_ON_TOO_LARGE", "raise", _choice("log", "raise")),
        client_options=_read_client_options(read),
        reports=read_report_settings(read, sdk_key, lambda: _service_base(read)),
        session_header=read("SESSION_HEADER", False, switch),
    )


def configured_reporter(settings: AppSettings) -> SessionReporter | None:
    """Return the reporter of sessions that *settings* ask for, if they do.

    :raises ConfigurationError: if the key cannot be one.
    """
    if settings.reports is None:
        return None
    # Only here, because it imports what speaks to the service.
    from .reporting import make_reporter

    return make_reporter(settings.reports, settings.client_options)


class _Reader:
    def __init__(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._config = config
        self._environment = environment

    def source(self, name: str) -> str:
        """Return where a setting was configured."""
        key = f"AGENTUITY_{name}"
        if self._config.get(key) is not None:
            return f"{key} in app.config"
        return f"{key} in the environment"

    def __call__(
        self,
        name: str,
        default: Any,
        parse: Callable[[Any], Any],
        *,
        none_counts: bool = False,
    ) -> Any:
        key = f"AGENTUITY_{name}"
        value = self._config.get(key)
        if value is None and none_counts and key in self._config:
            return None
        if value is None:
            value = self._environment.get(key) or None
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            shown = "(hidden)" if name in ("SDK_KEY", "THREAD_SECRET") else repr(value)
            raise ConfigurationError(f"{key}={shown} is wrong. Allowed: {error}.") from None


def _read_cookie(read: _Reader) -> CookieSettings:
    default = CookieSettings()
    return CookieSettings(
        name=read("THREAD_COOKIE_NAME", default.name, _cookie_name),
        domain=read("THREAD_COOKIE_DOMAIN", default.domain, _cookie_domain),
        path=read("THREAD_COOKIE_PATH", default.path, _cookie_path),
        secure=read("THREAD_COOKIE_SECURE", default.secure, _secure),
        samesite=read("THREAD_COOKIE_SAMESITE", default.samesite, _choice("Lax", "Strict", "None")),
        max_age=read("THREAD_COOKIE_MAX_AGE", default.max_age, _cookie_age),
    )


def _read_client_options(read: _Reader) -> dict[str, Any]:
    options = {
        "connect_timeout": read("CONNECT_TIMEOUT", None, _seconds),
        "request_timeout": read("REQUEST_TIMEOUT", None, _seconds),
        "reconnect_base": read("RECONNECT_BASE", None, _seconds),
        "reconnect_max": read("RECONNECT_MAX", None, _seconds),
        "ca_file": read("CA_FILE", None, _file),
    }
    return {name: value for name, value in options.items() if value is not None}


def _service_url(read: _Reader) -> str:
    parts = urlsplit(_service_base(read))
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    # The client adds the path of the endpoint.
    return urlunsplit((scheme, parts.netloc, "", "", ""))


def _service_base(read: _Reader) -> str:
    base: str | None = read("CATALYST_URL", None, _http_url)
    base = base or read("TRANSPORT_URL", None, _http_url)
    if base is None:
        region = read("REGION", "usc", _region)
        name = (
            "catalyst.agentuity.io" if region == "local" else f"catalyst-{region}.agentuity.cloud"
        )
        base = f"https://{name}"
    return base


def _file(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not Path(value).is_file():
        raise ValueError("the path of an existing file")
    return os.fspath(value)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _secret(value: Any) -> bytes:
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, str) and value and _is_unicode(value):
        return value.encode()
    raise ValueError("non-empty text or bytes")


def _sdk_key(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise ValueError("non-empty text")
    return value


def _is_unicode(text: str) -> bool:
    # An environment variable that is not valid UTF-8 contains surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _url(value: Any) -> str:
    if not isinstance(value, str) or "://" not in value:
        raise ValueError(
            "sqlite:///PATH, redis://HOST, ws://HOST/thread/ws, wss://HOST/thread/ws, memory://"
        )
    return value


def _http_url(value: Any) -> str:
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


def _region(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]+", value, re.IGNORECASE):
        raise ValueError("letters, digits and dashes, e.g. usc")
    return value


def _cookie_name(value: Any) -> str:
    if not isinstance(value, str) or not _COOKIE_NAME.fullmatch(value):
        raise ValueError("a cookie's name, e.g. atid")
    return value


def _cookie_domain(value: Any) -> str:
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value):
        raise ValueError("a host name, e.g. example.com")
    return value


def _cookie_age(value: Any) -> int:
    number = _positive_integer(value)
    if number > _LONGEST_AGE:
        raise ValueError(f"a positive integer, at most {_LONGEST_AGE:,}")
    return number


def _cookie_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[^;\x00-\x1f\x7f]*", value):
        raise ValueError("a path that begins with /")
    return value


def _secure(value: Any) -> bool | str:
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


def _boolean(value: Any) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError("True, False") from None


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        for choice in allowed:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise ValueError(", ".join(allowed))

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise ValueError("a positive number of seconds")
    return number


def _seconds_or_never(value: Any) -> float | None:
    if isinstance(value, str) and value.lower() in ("none", "never"):
        return None
    try:
        return _seconds(value)
    except ValueError:
        raise ValueError("a positive number of seconds, or None for never") from None


def _positive_integer(value: Any) -> int:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if isinstance(value, bool) or number < 1 or (isinstance(value, float) and number != value):
        raise ValueError("a positive integer")
    return number
