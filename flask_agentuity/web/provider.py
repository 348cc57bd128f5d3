"""Thread ID providers: which thread a request belongs to, and how the client is told."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict
from urllib.parse import unquote

from werkzeug.http import dump_cookie

from .signing import sign, verify
from .thread_ids import make_thread_id

if TYPE_CHECKING:
    from flask import Flask, Request, Response

#: The header of requests and responses, as the JavaScript runtime names it.
THREAD_HEADER = "x-thread-id"
_HEADER_IN_ENVIRON = "HTTP_X_THREAD_ID"

# A browser sends cookies of the same name once for each domain and path that set one.
_MOST_COOKIES = 8
# How many verified ids are remembered, in half a megabyte. A full cache starts again.
_MOST_VERIFIED = 1024


class ThreadIDProvider(ABC):
    """Decides which thread a request belongs to, and tells the client.

    Write your own provider if the id comes from elsewhere, for example one thread for each
    logged-in user, and set it with :meth:`ThreadManager.set_thread_id_provider`.
    """

    #: The request headers that the id depends on; they are added to the response's ``Vary``.
    vary: Sequence[str] = ("Cookie",)

    @abstractmethod
    def get_thread_id(self, app: Flask, request: Request) -> str:
        """Return the thread id of *request*.

        An invalid id raises :exc:`~flask_agentuity.errors.InvalidThreadId` in the request.
        """

    @abstractmethod
    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        """Tell the client the id, in the response to a request that used its thread."""

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:  # noqa: B027
        """Tell the client that the thread was deleted. Does nothing unless overridden."""

    def new_thread_id(self, app: Flask, request: Request) -> str:
        """Return the id of another conversation, for :meth:`ThreadManager.new`."""
        return make_thread_id()

    def is_made_now(self, thread_id: str, request: Request) -> bool:
        """Return whether *thread_id* was generated for this request, so nothing is stored yet.

        Returns False unless overridden: a thread is then new if nothing is stored under its id.
        """
        return False


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """The attributes of the default provider's cookie. The maximum age is in seconds."""

    name: str = "atid"
    domain: str | None = None
    path: str = "/"
    secure: bool | Literal["auto"] = "auto"
    samesite: str | None = "Lax"
    max_age: int = 604_800


class _CookieAttributes(TypedDict):
    path: str
    domain: str | None
    secure: bool
    httponly: bool
    samesite: str | None


class _Signed(NamedTuple):
    """A thread id as headers and cookies contain it, and the secrets that this depends on."""

    secrets: tuple[bytes, ...]
    header: str
    cookie: str


class SignedIDProvider(ThreadIDProvider):
    """The default provider: a signed header ``x-thread-id``, else a signed cookie, else a new id.

    Invalid headers and cookies are ignored.
    """

    vary = ("Cookie", THREAD_HEADER)
    _MADE = "flask_agentuity.made_thread_id"

    def __init__(
        self,
        secrets: Callable[[], Sequence[bytes]],
        cookie: CookieSettings,
        is_secure: Callable[[], bool],
    ) -> None:
        """Create the provider of one app.

        :param secrets: returns the secrets; the first one signs, each of them verifies.
        :param is_secure: returns whether the current request was made over HTTPS.
        """
        self._secrets = secrets
        self._is_secure = is_secure
        self.cookie = cookie
        # Only ids that a client has sent with a valid signature, so that others cannot fill it.
        self._verified: dict[str, _Signed] = {}
        # The attributes as Set-Cookie contains them, by whether the cookie is secure.
        self._attributes_text: dict[bool, str] = {}

    def identify(self, request: Request) -> tuple[str, bool]:
        """Return the thread id of *request*, and whether it was generated for this request."""
        if (found := self.find_thread_id(request)) is not None:
            return found, False
        # A request within this one, with the same environ, belongs to the same conversation.
        found = request.environ.get(self._MADE)
        if found is None:
            found = request.environ[self._MADE] = vars(request)[self._MADE] = make_thread_id()
        return found, self.is_made_now(found, request)

    def get_thread_id(self, app: Flask, request: Request) -> str:
        return self.identify(request)[0]

    def is_made_now(self, thread_id: str, request: Request) -> bool:
        return vars(request).get(self._MADE) == thread_id

    def find_thread_id(self, request: Request) -> str | None:
        """Return the id of a valid header, else of a valid cookie, else None."""
        secrets = tuple(self._secrets())
        # Looking up a missing name in request.headers raises and catches an exception.
        header: str | None = request.environ.get(_HEADER_IN_ENVIRON)
        if header and (found := self._read(header.strip(), ";", secrets)):
            return found
        for value in request.cookies.getlist(self.cookie.name)[:_MOST_COOKIES]:
            if found := self._read(value, ".", secrets):
                return found
        return None

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        signed = self._signed(thread_id)
        secure = self._is_secure() if self.cookie.secure == "auto" else self.cookie.secure
        attributes = self._attributes_text.get(secure) or self._write_attributes(secure)
        headers = response.headers
        headers.set(THREAD_HEADER, signed.header)
        headers.add("Set-Cookie", f"{self.cookie.name}={signed.cookie}{attributes}")

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        secure = self._is_secure() if self.cookie.secure == "auto" else self.cookie.secure
        response.delete_cookie(self.cookie.name, **self._cookie_attributes(secure))

    def cookie_value(self, thread_id: str) -> str:
        """Return the cookie's value for *thread_id*, percent-encoded."""
        return self._signed(thread_id).cookie

    def read_cookie_value(self, value: str) -> str | None:
        """Return the id in a cookie's *value*, or None if it is not valid."""
        return self._read(value, ".", tuple(self._secrets()))

    def _read(
        self, text: str, separator: Literal[";", "."], secrets: tuple[bytes, ...]
    ) -> str | None:
        """Return the id in a header or cookie if its signature is valid.

        :param separator: a semicolon for a header, a dot for a cookie.
        """
        thread_id, _, signature = text.partition(separator)
        known = self._verified.get(thread_id)
        if known is not None and known.secrets == secrets and text.isascii():
            # The time of compare_digest(), which takes only ASCII, does not depend on the text.
            expected = known.header if separator == ";" else known.cookie
            if hmac.compare_digest(text, expected):
                return thread_id
        if separator == ".":
            thread_id, _, signature = _unquote(text).partition(".")
        if not verify(thread_id, signature, secrets):
            return None
        if known is None or known.secrets != secrets:
            if len(self._verified) >= _MOST_VERIFIED:
                # Replaced rather than cleared, because other threads may be using it.
                self._verified = {}
            self._verified[thread_id] = _make_signed(thread_id, secrets)
        return thread_id

    def _signed(self, thread_id: str) -> _Signed:
        secrets = tuple(self._secrets())
        known = self._verified.get(thread_id)
        if known is not None and known.secrets == secrets:
            return known
        return _make_signed(thread_id, secrets)

    def _write_attributes(self, secure: bool) -> str:
        # Equal in every response, and most of the work of writing a cookie.
        cookie = dump_cookie(
            self.cookie.name,
            max_age=self.cookie.max_age,
            sync_expires=False,
            **self._cookie_attributes(secure),
        )
        text = self._attributes_text[secure] = cookie.removeprefix(f"{self.cookie.name}=")
        return text

    def _cookie_attributes(self, secure: bool) -> _CookieAttributes:
        return {
            "path": self.cookie.path,
            "domain": self.cookie.domain,
            "secure": secure,
            "httponly": True,
            "samesite": self.cookie.samesite,
        }


def _make_signed(thread_id: str, secrets: tuple[bytes, ...]) -> _Signed:
    signature = sign(thread_id, secrets[0])
    # These are all the characters of base64 that quote() encodes, at a tenth of its time.
    encoded = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return _Signed(secrets, f"{thread_id};{signature}", f"{thread_id}.{encoded}")


def _unquote(value: str) -> str:
    plain = value.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    # Other software may encode more characters, or with lowercase digits.
    return unquote(plain) if "%" in plain else plain
