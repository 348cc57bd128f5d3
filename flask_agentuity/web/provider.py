"""Thread ids: make, check, sign and verify them, and who says which one a request has."""

from __future__ import annotations

import binascii
import hmac
import os
import re
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import unquote

from werkzeug.http import dump_cookie

from ..errors import ConfigurationError, InvalidThreadId

if TYPE_CHECKING:
    from flask import Flask, Request, Response

#: The header, in requests and responses, as the JavaScript runtime names it.
THREAD_HEADER = "x-thread-id"
_HEADER_IN_ENVIRON = "HTTP_X_THREAD_ID"

_RULE = "thrd_ and then only [a-zA-Z0-9-], 32 to 64 characters in all"
_THREAD_ID = re.compile(r"thrd_[a-zA-Z0-9-]{27,59}", re.ASCII)
# Both alphabets of base64, as the runtime takes them, with the padding of 32 bytes.
_SIGNATURE = re.compile(r"[a-zA-Z0-9+/_-]{43}=", re.ASCII)

# A browser sends a cookie of one name once for each domain and path that set it.
_MOST_COOKIES = 8


def make_thread_id() -> str:
    """Return a new thread id: ``thrd_`` and 32 random hex digits."""
    return f"thrd_{secrets.token_hex(16)}"


def is_thread_id(value: object) -> bool:
    """Return whether *value* is a thread id."""
    return isinstance(value, str) and _THREAD_ID.fullmatch(value) is not None


def require_thread_id(value: object) -> str:
    """Return *value* if it is a thread id.

    :raises InvalidThreadId: which names the id and the rule.
    """
    if not isinstance(value, str) or not is_thread_id(value):
        shown = repr(value)
        shown = shown if len(shown) <= 100 else shown[:100] + "..."
        raise InvalidThreadId(f"{shown} is not a thread id. The rule: {_RULE}.")
    return value


def sign(thread_id: str, secret: bytes) -> str:
    """Return the signature of *thread_id*: HMAC-SHA256 in standard base64, 44 characters."""
    return binascii.b2a_base64(_digest(thread_id, secret), newline=False).decode()


def verify(thread_id: str, signature: str, secrets: Sequence[bytes]) -> bool:
    """Return whether *signature* was made of *thread_id* with one of *secrets*."""
    if not is_thread_id(thread_id) or not _SIGNATURE.fullmatch(signature):
        return False
    try:
        given = binascii.a2b_base64(signature.replace("-", "+").replace("_", "/"))
    except binascii.Error:
        return False
    # Every secret is tried, so the time tells nothing about which one fits.
    fitting = [hmac.compare_digest(_digest(thread_id, secret), given) for secret in secrets]
    return any(fitting)


# A request verifies and signs one id, and a conversation comes back with it.
@lru_cache(maxsize=1024)
def _digest(thread_id: str, secret: bytes) -> bytes:
    return hmac.digest(secret, thread_id.encode(), "sha256")


class ThreadIDProvider(ABC):
    """Says which thread a request belongs to, and tells the client.

    Make your own where an id comes from elsewhere, e.g. one thread for each logged-in
    user, and set it with :meth:`ThreadManager.set_thread_id_provider`.
    """

    #: The request headers that an id is taken from, for the ``Vary`` of a response.
    vary: Sequence[str] = ("Cookie",)

    @abstractmethod
    def get_thread_id(self, app: Flask, request: Request) -> str:
        """Return the thread id of *request*.

        One that breaks the rule is an :exc:`~flask_agentuity.errors.InvalidThreadId`.
        """

    @abstractmethod
    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        """Tell the client, on the response of a request that touched its thread."""

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:  # noqa: B027
        """Tell the client that the thread was destroyed. Does nothing unless overridden."""

    def new_thread_id(self, app: Flask, request: Request) -> str:
        """Return the id of another conversation, for :meth:`ThreadManager.new`."""
        return make_thread_id()

    def is_made_now(self, thread_id: str, request: Request) -> bool:
        """Return whether *thread_id* was made for this request, so nothing is stored of it.

        False unless overridden: then a thread is new when nothing was stored of it.
        """
        return False


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """How the default provider's cookie looks."""

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


class SignedIDProvider(ThreadIDProvider):
    """The default: a signed header ``x-thread-id``, else a signed cookie, else a new id.

    Invalid ones are as if absent.
    """

    vary = ("Cookie", THREAD_HEADER)
    _MADE = "flask_agentuity.made_thread_id"

    def __init__(
        self,
        secrets: Callable[[], Sequence[bytes]],
        cookie: CookieSettings,
        is_secure: Callable[[], bool],
    ) -> None:
        """Make the provider of one app.

        :param secrets: returns the secrets; the first signs, all of them verify.
        :param is_secure: returns whether the request under way came over https.
        """
        self._secrets = secrets
        self._is_secure = is_secure
        self.cookie = cookie
        # What follows the value in Set-Cookie, for a request that is secure and one that is not.
        self._cookie_endings: dict[bool, str] = {}

    def get_thread_id(self, app: Flask, request: Request) -> str:
        # A request within this one, in the same environ, is part of the same conversation.
        found = self.find_thread_id(request) or request.environ.get(self._MADE)
        if found is None:
            found = request.environ[self._MADE] = vars(request)[self._MADE] = make_thread_id()
        return found

    def find_thread_id(self, request: Request) -> str | None:
        """Return the id of a valid header or else of a valid cookie, or None."""
        secrets = self._secrets()
        for thread_id, signature in self._candidates(request):
            if verify(thread_id, signature, secrets):
                return thread_id
        return None

    def is_made_now(self, thread_id: str, request: Request) -> bool:
        return vars(request).get(self._MADE) == thread_id

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        signature = sign(thread_id, self._secrets()[0])
        response.headers[THREAD_HEADER] = f"{thread_id};{signature}"
        cookie = _cookie_value(thread_id, signature)
        response.headers.add("Set-Cookie", f"{self.cookie.name}={cookie}{self._cookie_ending()}")

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        response.delete_cookie(self.cookie.name, **self._cookie_attributes())

    def _cookie_ending(self) -> str:
        secure = self._is_cookie_secure()
        ending = self._cookie_endings.get(secure)
        if ending is None:
            # The same for every response, and most of the work of writing a cookie.
            empty = dump_cookie(
                self.cookie.name,
                max_age=self.cookie.max_age,
                sync_expires=False,
                **self._cookie_attributes(),
            )
            ending = self._cookie_endings[secure] = empty.removeprefix(f"{self.cookie.name}=")
        return ending

    def _cookie_attributes(self) -> _CookieAttributes:
        return {
            "path": self.cookie.path,
            "domain": self.cookie.domain,
            "secure": self._is_cookie_secure(),
            "httponly": True,
            "samesite": self.cookie.samesite,
        }

    def _is_cookie_secure(self) -> bool:
        return self._is_secure() if self.cookie.secure == "auto" else self.cookie.secure

    def header_value(self, thread_id: str) -> str:
        """Return what the header says for *thread_id*."""
        return f"{thread_id};{sign(thread_id, self._secrets()[0])}"

    def cookie_value(self, thread_id: str) -> str:
        """Return what the cookie says for *thread_id*, percent-encoded."""
        return _cookie_value(thread_id, sign(thread_id, self._secrets()[0]))

    def read_cookie_value(self, value: str) -> str | None:
        """Return the id in a cookie's *value*, or None where it is not valid."""
        thread_id, _, signature = _unquote(value).partition(".")
        return thread_id if verify(thread_id, signature, self._secrets()) else None

    def _candidates(self, request: Request) -> Iterator[tuple[str, str]]:
        # From the environ: asking the headers for one that is missing costs an exception.
        if header := request.environ.get(_HEADER_IN_ENVIRON):
            thread_id, _, signature = header.strip().partition(";")
            yield thread_id, signature
        for value in request.cookies.getlist(self.cookie.name)[:_MOST_COOKIES]:
            thread_id, _, signature = _unquote(value).partition(".")
            yield thread_id, signature


def _cookie_value(thread_id: str, signature: str) -> str:
    # All that urllib's quote() would find in an id and its base64, in a tenth of its time.
    encoded = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"{thread_id}.{encoded}"


def _unquote(value: str) -> str:
    plain = value.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    # Whoever else has written the cookie may have quoted more, or with small letters.
    return unquote(plain) if "%" in plain else plain


def instance_secret(path: Path) -> bytes:
    """Return the secret kept at *path*, which is made at random at the first call.

    Only its owner can read the file. Several processes that come at once get one secret.

    :raises ConfigurationError: when it can be neither read nor made.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            try:
                # Unlike a rename, a link never replaces what another process has made.
                with suppress(FileExistsError):
                    os.link(made, path)
            finally:
                Path(made).unlink()
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"The secret that signs thread ids can be neither read from nor kept at {path}:"
            f" {error}. Set SECRET_KEY or AGENTUITY_THREAD_SECRET."
        ) from error
    if len(secret) < 32:
        raise ConfigurationError(
            f"{path} holds no secret of flask_agentuity. Remove it to have one made, or set"
            " SECRET_KEY or AGENTUITY_THREAD_SECRET."
        )
    return secret
