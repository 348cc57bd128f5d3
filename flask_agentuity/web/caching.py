"""What keeps the responses of one visitor out of the caches that all visitors share.

A response that used its thread depends on the visitor, and often sets the visitor's cookie. A
shared cache that stores it gives both to the next visitor.
"""

from __future__ import annotations

import logging

from flask import Request, Response
from werkzeug.datastructures import ResponseCacheControl
from werkzeug.http import parse_cache_control_header

from .provider import SignedIDProvider, ThreadIDProvider
from .url_ids import url_thread_id

logger = logging.getLogger("flask_agentuity")

_CACHE_CONTROL = "cache-control"
# They take precedence over Cache-Control: in the cache of nginx, and in content delivery networks.
_TARGETED = (
    "x-accel-expires",
    "surrogate-control",
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "vercel-cdn-cache-control",
    "netlify-cdn-cache-control",
    "akamai-cache-control",
)

#: The headers of a response, in lower case, that tell caches what to do with it.
CACHE_HEADERS = frozenset({_CACHE_CONTROL, *_TARGETED})


class SharedCaches:
    """Forbids shared caches to store the responses of one app that depend on the visitor."""

    def __init__(self, signed: SignedIDProvider) -> None:
        self._signed = signed
        self._warned: set[str | None] = set()
        # The endpoints whose generators have used the thread.
        self._using: set[str] = set()

    def exclude(self, response: Response, endpoint: str | None) -> None:
        """Make *response* private. If the app has allowed caches to share it, warn once.

        :param endpoint: the endpoint of the request; each is warned of once.
        """
        allowed = [name for name in _TARGETED if _is_allowed(response.headers.getlist(name))]
        for name in allowed:
            del response.headers[name]
        values = response.headers.getlist(_CACHE_CONTROL)
        told = parse_cache_control_header(", ".join(values), cls=ResponseCacheControl)
        control = ResponseCacheControl({name.lower(): value for name, value in told.items()})
        for directive in ("public", "s-maxage"):
            if directive in control:
                allowed.append(directive)
                del control[directive]
        # In the form private="Set-Cookie" it concerns one header only.
        if "no-store" not in control:
            control["private"] = None
        response.headers["Cache-Control"] = control.to_header()
        if allowed and endpoint not in self._warned:
            self._warned.add(endpoint)
            logger.warning(
                "A response of the endpoint %s allows shared caches to store it (%s), but it"
                " depends on the visitor's thread. It was made private. Do not use the thread"
                " there, or exclude the view with ThreadManager.exempt().",
                endpoint,
                ", ".join(allowed),
            )

    def exclude_stream(
        self, response: Response, request: Request, provider: ThreadIDProvider
    ) -> None:
        """Make a stream private before its headers leave, as its generator may use the thread.

        A stream for a client that has no thread is left as it is, unless a stream of the same
        endpoint was seen to use its thread.

        :param provider: the one that decides which thread a request belongs to.
        """
        may_use = request.endpoint in self._using or self._may_have_thread(request, provider)
        if may_use and not _is_error_page(response):
            response.vary.update((*provider.vary, *self._signed.vary))
            self.exclude(response, request.endpoint)

    def note_use(self, endpoint: str) -> None:
        """Take note that a generator of *endpoint* uses the thread, for any client."""
        self._using.add(endpoint)

    def _may_have_thread(self, request: Request, provider: ThreadIDProvider) -> bool:
        """Return whether *request* may carry the id of a thread. The id is not looked at."""
        if self._signed.is_carried_by(request) or url_thread_id(request):
            return True
        if provider is self._signed:
            return False
        # A provider that depends on no header finds the id in the URL.
        return not provider.vary or any(name in request.headers for name in provider.vary)


def _is_allowed(values: list[str]) -> bool:
    text = ",".join(values).lower()
    return bool(text) and not any(word in text for word in ("no-store", "private")) and text != "0"


def _is_error_page(response: Response) -> bool:
    # Werkzeug passes its error pages on as iterators, like streams.
    return response.status_code >= 400 and "Content-Length" in response.headers
