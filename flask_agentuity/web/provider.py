"""Thread ID providers: which thread a request belongs to, and how the client is told."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from .cookie import CookieSettings, ThreadCookie
from .flask_internals import current_request
from .signing import sign, verify
from .thread_ids import make_thread_id

if TYPE_CHECKING:
    from flask import Flask, Request, Response

#: The header of requests and responses, as the JavaScript runtime names it.
THREAD_HEADER = "x-thread-id"
#: When responses have the header: always, never, or if the request had it.
HeaderMode = Literal["auto", "always", "never"]
_HEADER_IN_ENVIRON = "HTTP_X_THREAD_ID"

# A browser sends cookies of the same name once for each domain and path that set one.
_MOST_COOKIES = 8
# How many verified ids are remembered, in half a megabyte, and how many headers with cookies, in
# a megabyte. A full cache starts again.
_MOST_VERIFIED = 1024
_LONGEST_REMEMBERED = 1000


class ThreadIDProvider(ABC):
    """The base class of providers, which decide which thread a request belongs to.

    Write a provider if the id does not come from a cookie or header, for example for one thread
    per user, and set it with :meth:`ThreadManager.set_thread_id_provider`.
    """

    #: The request headers that the id depends on. They are added to the response's ``Vary``.
    vary: Sequence[str] = ("Cookie",)

    @abstractmethod
    def get_thread_id(self, app: Flask, request: Request) -> str | None:
        """Return the thread id of *request*, or None to use the signed header or cookie.

        For an invalid id, the request raises :exc:`~flask_agentuity.errors.InvalidThreadId`.
        """

    @abstractmethod
    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        """Send the id to the client, in the response to a request that used its thread."""

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:  # noqa: B027
        """Remove the id from the client, after the thread was deleted. By default, do nothing."""

    def new_thread_id(self, app: Flask, request: Request) -> str:
        """Return an id for :meth:`ThreadManager.new`: by default, a random one."""
        return make_thread_id()

    def is_made_now(self, thread_id: str, request: Request) -> bool:
        """Return whether *thread_id* was generated for this request, so nothing is stored yet.

        By default, return False. Then a thread is new if nothing is stored under its id.
        """
        return False


class _Signed(NamedTuple):
    """A thread id as headers and cookies contain it, and the secrets that this depends on."""

    secrets: tuple[bytes, ...]
    header: str
    cookie: str


class _Sent(NamedTuple):
    """The valid thread ids in a request; *cookie* is only read without a header.

    *is_current*: whether the cookie is as it would be written now, with the secret that signs.
    *set_at*: when the cookie was set, in seconds since 1970; 0 if it is not known.
    """

    header: str | None
    cookie: str | None = None
    is_current: bool = False
    set_at: int = 0


class SignedIDProvider(ThreadIDProvider):
    """The default provider: a signed header ``x-thread-id``, else a signed cookie, else a new id.

    Invalid headers and cookies are ignored.
    """

    _MADE = "flask_agentuity.made_thread_id"

    def __init__(
        self,
        secrets: Callable[[], Sequence[bytes]],
        cookie: CookieSettings,
        header: HeaderMode = "auto",
    ) -> None:
        """Create the provider of one app.

        :param secrets: returns the secrets; the first one signs, each of them verifies.
        :param header: when a response has the header; with ``"never"``, requests cannot use it
            either.
        """
        self._secrets = secrets
        self._header = header
        self.cookie = cookie
        self._thread_cookie = ThreadCookie(cookie)
        self.vary = ("Cookie",) if header == "never" else ("Cookie", THREAD_HEADER)
        # Attributes of requests, which several apps may share.
        self._sent_key = f"flask_agentuity.sent.{id(self)}"
        # Only ids that a client has sent with a valid signature, so that others cannot fill it.
        self._verified: dict[str, _Signed] = {}
        # What whole headers with such cookies contain, and the secrets that this depends on.
        self._cookies: dict[str, tuple[tuple[bytes, ...], _Sent]] = {}

    def identify(self, request: Request) -> tuple[str, bool]:
        """Return the thread id of *request*, and whether it was generated for this request."""
        if request.environ.get(_HEADER_IN_ENVIRON):
            sent = self._sent(request)
        else:
            # Faster than _sent(), for most requests.
            sent = vars(request)[self._sent_key] = self._sent_cookie(request)
        if (found := sent.header or sent.cookie) is not None:
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
        sent = self._sent(request)
        return sent.header or sent.cookie

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        """Send the header if the client uses it, and the cookie if it tells the client something
        new.

        That is so if the thread is new to this client, or replaces the one that its cookie names,
        or if the cookie has to be renewed. If a response only repeated the cookie, a client that
        has begun another thread meanwhile would get back to this one.
        """
        self.tell(current_request(), response, thread_id, None)

    def tell(
        self, request: Request, response: Response, thread_id: str, began: float | None
    ) -> None:
        """Do what :meth:`set_thread_id` does, in the response to *request*.

        :param began: when the request began, by :func:`time.monotonic`.
        """
        sent: _Sent = vars(request).get(self._sent_key) or self._sent(request)
        if sent.header is None:
            has_news = sent.cookie != thread_id or self._thread_cookie.is_due(
                sent.set_at, began, is_current=sent.is_current
            )
        else:
            # A client with the header keeps the id itself. Its cookie may be of another thread.
            has_news = thread_id != sent.header == self._sent_cookie(request).cookie
        if has_news:
            value = self.cookie_value(thread_id)
            self._thread_cookie.set(response.headers, request, thread_id, value)
        if self._header == "always" or (
            self._header == "auto" and _HEADER_IN_ENVIRON in request.environ
        ):
            response.headers.set(THREAD_HEADER, self.header_value(thread_id))

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        """End the client's cookie, unless the header named the thread and the cookie another."""
        request = current_request()
        sent = self._sent(request)
        if sent.header is None:
            ends = sent.cookie is not None
        else:
            ends = sent.header == self._sent_cookie(request).cookie
        if ends:
            self._thread_cookie.end(response.headers, request)

    def cookie_value(self, thread_id: str) -> str:
        """Return the cookie's value for *thread_id*, percent-encoded."""
        return self._signed(thread_id).cookie

    def header_value(self, thread_id: str) -> str:
        """Return the header's value for *thread_id*."""
        return self._signed(thread_id).header

    def read_cookie_value(self, value: str) -> str | None:
        """Return the id in a cookie's *value*, or None if it is not valid."""
        return self._read(value, ".", tuple(self._secrets()))

    def _sent(self, request: Request) -> _Sent:
        found = vars(request)
        sent: _Sent | None = found.get(self._sent_key)
        if sent is None:
            # Looking up a missing name in request.headers raises and catches an exception.
            header = request.environ.get(_HEADER_IN_ENVIRON)
            thread_id = None
            if header and self._header != "never":
                thread_id = self._read(header.strip(), ";", tuple(self._secrets()))
            sent = _Sent(thread_id) if thread_id else self._sent_cookie(request)
            found[self._sent_key] = sent
        return sent

    def _sent_cookie(self, request: Request) -> _Sent:
        text = request.environ.get("HTTP_COOKIE")
        if not text:
            return _Sent(None)
        secrets = tuple(self._secrets())
        if (known := self._cookies.get(text)) is not None and known[0] == secrets:
            return known[1]
        sent = self._find_cookie(request, secrets)
        if sent.cookie is not None and len(text) <= _LONGEST_REMEMBERED:
            if len(self._cookies) >= _MOST_VERIFIED:
                # Replaced rather than cleared, because other threads may be using it.
                self._cookies = {}
            self._cookies[text] = secrets, sent
        return sent

    def _find_cookie(self, request: Request, secrets: tuple[bytes, ...]) -> _Sent:
        values = request.cookies.getlist(self.cookie.name)[:_MOST_COOKIES]
        ids = [each for value in values if (each := self._read(value, ".", secrets))]
        if not ids:
            return _Sent(None)
        thread_id, set_at = self._thread_cookie.latest(request, ids)
        known = self._verified.get(thread_id)
        return _Sent(None, thread_id, known is not None and known.cookie in values, set_at)

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


def _make_signed(thread_id: str, secrets: tuple[bytes, ...]) -> _Signed:
    signature = sign(thread_id, secrets[0])
    # These are all the characters of base64 that quote() encodes, at a tenth of its time.
    encoded = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return _Signed(secrets, f"{thread_id};{signature}", f"{thread_id}.{encoded}")


def _unquote(value: str) -> str:
    plain = value.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    # Other software may encode more characters, or with lowercase digits.
    return unquote(plain) if "%" in plain else plain
