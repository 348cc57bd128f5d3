"""The settings of the cookie, and whether they are consistent."""

from __future__ import annotations

from ..errors import ConfigurationError
from . import setting_values as values
from .cookie import CookieSettings
from .settings_reader import SettingsReader

# Browsers keep cookies for at most 400 days.
_LONGEST_KEPT = 400 * 86_400


def read_cookie(read: SettingsReader) -> CookieSettings:
    """Read the settings of the cookie.

    :raises ConfigurationError: if one of them is wrong, or if browsers would reject the cookie.
    """
    default = CookieSettings()
    samesite = values.choice("Lax", "Strict", "None")
    cookie = CookieSettings(
        name=read("THREAD_COOKIE_NAME", default.name, values.cookie_name),
        domain=read("THREAD_COOKIE_DOMAIN", default.domain, values.cookie_domain),
        path=read("THREAD_COOKIE_PATH", default.path, values.cookie_path),
        secure=read("THREAD_COOKIE_SECURE", default.secure, values.secure),
        samesite=read("THREAD_COOKIE_SAMESITE", default.samesite, samesite),
        max_age=read("THREAD_COOKIE_MAX_AGE", default.max_age, values.cookie_age),
        partitioned=read("THREAD_COOKIE_PARTITIONED", default.partitioned, values.switch),
    )
    for fault in _find_faults(cookie):
        raise ConfigurationError(f"Browsers reject the cookie {cookie.name!r}: {fault}")
    return cookie


def _find_faults(cookie: CookieSettings) -> list[str]:
    faults = []
    if cookie.secure is False and (reason := cookie.requires_secure):
        faults.append(
            f"{reason} requires Secure. Set AGENTUITY_THREAD_COOKIE_SECURE to True or auto."
        )
    if cookie.name.lower().startswith("__host-"):
        if cookie.domain is not None:
            faults.append(
                "the prefix __Host- forbids a domain. Remove AGENTUITY_THREAD_COOKIE_DOMAIN, or"
                " use the prefix __Secure-."
            )
        if cookie.path != "/":
            faults.append(
                "the prefix __Host- requires the path /. Remove AGENTUITY_THREAD_COOKIE_PATH, or"
                " use the prefix __Secure-."
            )
    return faults


def find_mismatch(cookie: CookieSettings, ttl: float | None) -> list[str]:
    """Return a warning if the ages of the cookie and of threads do not fit together.

    :param ttl: after how many seconds without use a thread expires; None: never.
    """
    age = cookie.max_age
    ages = (
        f"AGENTUITY_THREAD_COOKIE_MAX_AGE is {age:,} seconds, and AGENTUITY_THREAD_TTL is"
        f" {'None' if ttl is None else f'{ttl:,.0f} seconds'}"
    )
    if ttl is not None and age > ttl:
        return [
            f"{ages}. A visitor who comes back in between has a cookie, but the conversation has"
            " expired. Set both to the same time."
        ]
    if (ttl is None or age < ttl) and age < _LONGEST_KEPT:
        return [
            f"{ages}. A visitor who comes back in between has no cookie, and does not find the"
            " conversation again, although it is kept. Set both to the same time (browsers keep"
            " cookies for 400 days at most)."
        ]
    return []
