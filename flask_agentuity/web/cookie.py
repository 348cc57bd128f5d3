"""The cookie that contains a client's signed thread id, and the one that says when it was set."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie

#: The part of its maximum age after which a cookie is renewed.
_RENEWED_AFTER = 0.1
# A response that took longer than this, in seconds, does not renew the cookie: the client may
# have another conversation by then, which the response would replace.
_PROMPT = 2.0
# From this part of its maximum age on, every response renews it.
_OVERDUE_AFTER = 0.5
#: Prefixes of cookie names. Browsers accept such cookies only with certain attributes.
PREFIXES = ("__Host-", "__Secure-")
# The characters of a thread id by which the time of its cookie is recognized.
_HINT = 8


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """The attributes of the cookie. The maximum age is in seconds."""

    name: str = "atid"
    domain: str | None = None
    path: str = "/"
    secure: bool | Literal["auto"] = "auto"
    samesite: str | None = "Lax"
    max_age: int = 604_800
    partitioned: bool = False

    @property
    def requires_secure(self) -> str | None:
        """Return why browsers require ``Secure`` for the cookie; None if they do not."""
        if self.samesite == "None":
            return "SameSite=None"
        if self.partitioned:
            return "Partitioned"
        name = self.name.lower()
        return next((each for each in PREFIXES if name.startswith(each.lower())), None)


class ThreadCookie:
    """Writes the two cookies of an app, and decides when they have to be written again.

    The cookie ``<name>_at`` is not signed. It contains when the cookie was set, in seconds since
    1970, and the end of the thread id. If it is forged, the cookie is renewed earlier or later, or
    another one of the client's validly signed cookies is used.
    """

    def __init__(self, settings: CookieSettings) -> None:
        self.settings = settings
        self._at_name = f"{settings.name}_at"
        # The attributes as they are in Set-Cookie. To format them is most of the work of writing
        # it.
        self._attributes = {secure: _attributes(settings, secure) for secure in (False, True)}
        self._ending = {
            secure: _attributes(settings, secure, ended=True) for secure in (False, True)
        }

    def set(self, headers: Headers, request: Request, thread_id: str, value: str) -> None:
        """Set the client's cookie to *value*, the signed *thread_id*."""
        attributes = self._attributes[self._is_secure(request)]
        headers.add("Set-Cookie", f"{self.settings.name}={value}{attributes}")
        at = f"{int(time.time())}.{thread_id[-_HINT:]}"
        headers.add("Set-Cookie", f"{self._at_name}={at}{attributes}")

    def end(self, headers: Headers, request: Request) -> None:
        """Delete the client's cookie."""
        attributes = self._ending[self._is_secure(request)]
        for name in (self.settings.name, self._at_name):
            headers.add("Set-Cookie", f"{name}={attributes}")

    def is_due(self, set_at: int, began: float | None, *, is_current: bool) -> bool:
        """Return whether the client's cookie is to be renewed.

        :param set_at: when it was set, in seconds since 1970; 0 if it is not known.
        :param began: when the request began, by :func:`time.monotonic`; None for now.
        :param is_current: whether the cookie is signed with the secret that signs now.
        """
        age = abs(time.time() - set_at)
        if is_current and age < self.settings.max_age * _RENEWED_AFTER:
            return False
        is_prompt = began is None or time.monotonic() - began < _PROMPT
        return is_prompt or age > self.settings.max_age * _OVERDUE_AFTER

    def latest(self, request: Request, thread_ids: Iterable[str]) -> tuple[str, int]:
        """Return the one of *thread_ids* whose cookie was set last, and when it was set.

        The time is in seconds since 1970, and 0 if it is not known.

        A browser sends cookies of one name together if their domains or paths differ, as after
        a change of the configuration.
        """
        times = {each: self._set_at(request, each) for each in thread_ids}
        return max(times.items(), key=itemgetter(1))

    def _set_at(self, request: Request, thread_id: str) -> int:
        """Return when the cookie was set, in seconds since 1970; 0 if it is not known."""
        times = [0]
        for value in request.cookies.getlist(self._at_name):
            at, _, hint = value.partition(".")
            # Without the bound, int() would take long.
            if hint == thread_id[-_HINT:] and at.isascii() and at.isdigit() and len(at) < 12:
                times.append(int(at))
        return max(times)

    def _is_secure(self, request: Request) -> bool:
        secure = self.settings.secure
        if secure == "auto":
            return self.settings.requires_secure is not None or request.is_secure
        return secure


def _attributes(settings: CookieSettings, secure: bool, *, ended: bool = False) -> str:
    """Return the attributes of a cookie, from the first semicolon on."""
    cookie = dump_cookie(
        settings.name,
        max_age=0 if ended else settings.max_age,
        expires=0 if ended else None,
        path=settings.path,
        domain=settings.domain,
        secure=secure,
        httponly=True,
        samesite=settings.samesite,
        sync_expires=False,
    )
    # Werkzeug supports it only from 3.1 on.
    partitioned = "; Partitioned" if settings.partitioned else ""
    return cookie.removeprefix(f"{settings.name}=") + partitioned
