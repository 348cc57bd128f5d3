"""The outcome of an attempt to send a report, and whether another one follows. Pure functions."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from ...document.foreign_text import printable
from ...document.messages import parse_message
from ...errors import OutcomeUnknown, RequestTimeout, ServiceUnavailable, StoreError
from ..http import HTTPReply

#: Attempts at a report to which the service answers 409 or 501.
MAX_ATTEMPTS = 4
#: Seconds for which a report is repeated while the service is unavailable (502, 503, no
#: connection).
MAX_OUTAGE = 30.0
#: The longest delay in seconds that a service can request with Retry-After.
MAX_RETRY_AFTER = 30.0

_FIRST_DELAY = 0.1
_FIRST_OUTAGE_DELAY = 1.0
_LONGEST_OUTAGE_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service took the report."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The service is busy with this report, or cannot take it yet (409, 501)."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The service is unavailable (502, 503, no connection)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Another attempt would not help, or should not be made."""

    reason: str


Outcome = Accepted | Conflict | Unavailable | Failed


def outcome_of_reply(reply: HTTPReply, now: float) -> Outcome:
    """Return what *reply* means. *now* is in seconds since 1970."""
    match reply.status:
        case 409:
            return Conflict(_reason(reply), _retry_after(reply, now))
        case 501:
            return Conflict(_reason(reply))
        case 502 | 503:
            return Unavailable(_reason(reply))
        case status if 300 <= status < 400:
            return Failed(f"{_reason(reply)} It is a redirect, which is not followed.")
        case status if 200 <= status < 300 and _field(reply, "success") is True:
            return Accepted()
        case _:
            return Failed(_reason(reply))


def outcome_of_error(error: StoreError) -> Outcome:
    """Return what an attempt without a reply means."""
    match error:
        case ServiceUnavailable() | OutcomeUnknown():
            return Unavailable(str(error))
        case RequestTimeout():
            # The service may have received it, and a slow service should not get it twice.
            return Failed(str(error))
        case _:
            return Failed(str(error))


class Repetition:
    """When a report is sent again."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """*uniform* returns a random number between its arguments."""
        self._uniform = uniform
        self._failures = 0
        self._unavailable_since: float | None = None

    def delay(self, outcome: Outcome, now: float) -> float | None:
        """Return the seconds until the next attempt; None if there is none.

        :param now: the time on a monotonic clock.
        """
        attempt, self._failures = self._failures, self._failures + 1
        match outcome:
            case Accepted() | Failed():
                return None
            case Conflict(retry_after=retry_after):
                if self._failures >= MAX_ATTEMPTS:
                    return None
                if retry_after is not None:
                    return min(retry_after, MAX_RETRY_AFTER)
                return self._jittered(_FIRST_DELAY, attempt)
            case Unavailable():
                if self._unavailable_since is None:
                    self._unavailable_since = now
                if now - self._unavailable_since >= MAX_OUTAGE:
                    return None
                return min(self._jittered(_FIRST_OUTAGE_DELAY, attempt), _LONGEST_OUTAGE_DELAY)
            case _:
                assert_never(outcome)

    def _jittered(self, first: float, attempt: int) -> float:
        return first * 2.0 ** min(attempt, 30) * self._uniform(0.5, 1.0)


def _reason(reply: HTTPReply) -> str:
    words = _field(reply, "message") or _field(reply, "error")
    if isinstance(words, str):
        return f"The answer was {reply.status}: {printable(words)}"
    if 200 <= reply.status < 300:
        return f"The answer was {reply.status}, but not a confirmation."
    return f"The answer was {reply.status}."


def _field(reply: HTTPReply, name: str) -> object:
    try:
        message = parse_message(reply.body)
    except ValueError:
        return None
    return message.get(name) if isinstance(message, dict) else None


def _retry_after(reply: HTTPReply, now: float) -> float | None:
    value = reply.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:10])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
