"""The settings of an app, read and checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.shown_url import without_secrets
from ..errors import ConfigurationError
from ..stores.base import DEFAULT_TTL
from ..thread.reporter import SessionReporter
from . import setting_values as values
from .cookie import CookieSettings
from .cookie_config import find_mismatch, read_cookie
from .guessable import find_guessable
from .provider import HeaderMode
from .report_settings import ReportSettings, read_report_settings
from .runs.settings import RunSettings, read_run_settings
from .settings_reader import SettingsReader

#: The store if none is configured: a file in the instance folder.
DEFAULT_STORE = "sqlite:///agentuity_threads.db"


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
    #: The options of the client that are configured; the client has defaults for the others.
    client_options: Mapping[str, Any]
    #: Where sessions are reported; None: nowhere.
    reports: ReportSettings | None
    #: Whether responses have a header with the session's id.
    session_header: bool
    runs: RunSettings
    #: Likely mistakes, each with its correction.
    warnings: Sequence[str]


def read_settings(
    config: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> AppSettings:
    """Read the settings from *config*, then from the environment variables of the same names.

    :raises ConfigurationError: if a value is wrong. The message contains the key, the value
        and what is allowed.
    """
    read = SettingsReader(config, environment)
    sdk_key = read("SDK_KEY", None, values.sdk_key)
    store = read("THREAD_STORE", None, values.store_url)
    source = read.source("THREAD_STORE")
    if store is None:
        store = _service_url(read) if sdk_key else DEFAULT_STORE
        source = read.source("SDK_KEY") if sdk_key else "the default: nothing is configured"
    if store.startswith(("ws:", "wss:")) and not sdk_key:
        raise ConfigurationError(
            f"AGENTUITY_THREAD_STORE={without_secrets(store)!r} is a thread service, which"
            " requires a key. Set AGENTUITY_SDK_KEY."
        )
    secret = read("THREAD_SECRET", None, values.secret)
    if secret is None and sdk_key is not None:
        secret = sdk_key.encode()
    settings = AppSettings(
        store=store,
        store_source=source,
        sdk_key=sdk_key,
        secret=secret,
        cookie=read_cookie(read),
        header=read("THREAD_HEADER", "auto", values.choice("auto", "always", "never")),
        public_urls=read("THREAD_PUBLIC_URLS", False, values.switch),
        ttl=read("THREAD_TTL", DEFAULT_TTL, values.seconds_or_never, none_counts=True),
        max_bytes=read("THREAD_MAX_BYTES", MAX_DOCUMENT_BYTES, values.positive_integer),
        on_restore_error=read("THREAD_ON_RESTORE_ERROR", "empty", values.choice("empty", "raise")),
        on_save_error=read("THREAD_ON_SAVE_ERROR", "log", values.choice("log", "raise")),
        on_too_large=read("THREAD_ON_TOO_LARGE", "raise", values.choice("log", "raise")),
        client_options=_read_client_options(read),
        reports=read_report_settings(read, sdk_key, lambda: _service_base(read)),
        session_header=read("SESSION_HEADER", False, values.switch),
        runs=read_run_settings(read),
        warnings=[],
    )
    return replace(settings, warnings=_find_warnings(read, settings))


def _find_warnings(read: SettingsReader, settings: AppSettings) -> list[str]:
    # They are read only in some configurations.
    read.expect("CATALYST_URL", "TRANSPORT_URL", "REGION")
    read.expect("CLOUD_DEPLOYMENT_ID", "ENVIRONMENT", "SDK_DEV_MODE")
    warnings = read.find_unknown()
    warnings += find_guessable(settings.sdk_key, settings.secret)
    # A thread service has its own time to live.
    if not settings.store.startswith(("ws:", "wss:")):
        warnings += find_mismatch(settings.cookie, settings.ttl)
    return warnings


def configured_reporter(settings: AppSettings) -> SessionReporter | None:
    """Return the reporter of sessions that *settings* ask for, if they do.

    :raises ConfigurationError: if the key cannot be one.
    """
    if settings.reports is None:
        return None
    # Imported only here, because it imports the service's client.
    from .reporting import make_reporter

    return make_reporter(settings.reports, settings.client_options)


def _read_client_options(read: SettingsReader) -> dict[str, Any]:
    options = {
        "connect_timeout": read("CONNECT_TIMEOUT", None, values.seconds),
        "request_timeout": read("REQUEST_TIMEOUT", None, values.seconds),
        "reconnect_base": read("RECONNECT_BASE", None, values.seconds),
        "reconnect_max": read("RECONNECT_MAX", None, values.seconds),
        "ca_file": read("CA_FILE", None, values.existing_file),
    }
    return {name: value for name, value in options.items() if value is not None}


def _service_url(read: SettingsReader) -> str:
    parts = urlsplit(_service_base(read))
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    # The client adds the path of the endpoint.
    return urlunsplit((scheme, parts.netloc, "", "", ""))


def _service_base(read: SettingsReader) -> str:
    base: str | None = read("CATALYST_URL", None, values.http_url)
    base = base or read("TRANSPORT_URL", None, values.http_url)
    if base is None:
        region = read("REGION", "usc", values.region)
        name = (
            "catalyst.agentuity.io" if region == "local" else f"catalyst-{region}.agentuity.cloud"
        )
        base = f"https://{name}"
    return base
