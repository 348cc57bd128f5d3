"""Keeping the responses to one visitor out of caches that all visitors share.

A response that used its thread depends on the visitor, and often sets the visitor's cookie. A
shared cache that stores it gives both to the next visitor.
"""

from __future__ import annotations

import logging

from flask import Request, Response
from werkzeug.datastructures import ResponseCacheControl
from werkzeug.http import parse_cache_control_header

from .provider import SignedIDProvider, ThreadIDProvider

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
    "edge-control",
    "x-litespeed-cache-control",
)

#: The headers of a response, in lower case, that tell caches what to do with it.
CACHE_HEADERS = frozenset({_CACHE_CONTROL, *_TARGETED})

_DEPENDS = "it depends on the visitor's thread"
_MAY_DEPEND = "it is a stream, whose generator may use the visitor's thread"


class SharedCaches:
    """Forbids shared caches to store the responses of one app that depend on the visitor."""

    def __init__(self, signed: SignedIDProvider) -> None:
        self._signed = signed
        self._warned: set[str | None] = set()

    def exclude(self, response: Response, endpoint: str | None, why: str = _DEPENDS) -> None:
        """Make *response* private. If the app has allowed caches to share it, warn once.

        :param endpoint: the endpoint of the request; there is one warning for each.
        :param why: the reason, for the warning.
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
                "A response of the endpoint %s allows shared caches to store it (%s), but %s."
                " It was made private. Do not use the thread there, and exclude the view with"
                " ThreadManager.exempt().",
                endpoint,
                ", ".join(allowed),
                why,
            )

    def exclude_stream(
        self, response: Response, request: Request, provider: ThreadIDProvider
    ) -> None:
        """Make a stream private before its headers leave, as its generator may use the thread.

        That its generators have not used it so far says nothing about the next one.

        :param provider: the one that decides which thread a request belongs to.
        """
        if not _is_made_by_werkzeug(response):
            response.vary.update((*provider.vary, *self._signed.vary))
            self.exclude(response, request.endpoint, _MAY_DEPEND)


def _is_allowed(values: list[str]) -> bool:
    text = ",".join(values).lower()
    return bool(text) and not any(word in text for word in ("no-store", "private")) and text != "0"


def _is_made_by_werkzeug(response: Response) -> bool:
    # Werkzeug passes its error pages and redirects on as iterators, like streams.
    return response.status_code >= 300 and "Content-Length" in response.headers
