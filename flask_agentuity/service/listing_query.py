"""The parameters of a listing over HTTP, read from the query of the URL and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from ..document.messages import parse_any_message
from ..stores.listing import decode_cursor, require_filter

#: The default of the JavaScript client, which always sends a limit.
DEFAULT_LIMIT = 10
MAX_LIMIT = 100
#: Threads before an offset are read and discarded. A cursor costs nothing.
MAX_OFFSET = 10_000
#: Parameters of a query; further ones are an error.
_MAX_PARAMETERS = 20


@dataclass(frozen=True, slots=True)
class ListingQuery:
    """The parameters of ``GET /thread``. Those that are unknown, such as ``orgId``, are ignored."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    sort: Literal["created", "updated"] = "updated"
    direction: Literal["asc", "desc"] = "desc"
    metadata: dict[str, Any] = field(default_factory=dict)
    cursor: str | None = None

    @property
    def is_usual(self) -> bool:
        """Whether the order is the one in which stores list."""
        return (self.sort, self.direction) == ("updated", "desc")


def parse_listing_query(text: str) -> ListingQuery:
    """Read the query of a URL.

    :raises ValueError: if a parameter is wrong. The message says which one, and what is allowed.
    """
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise ValueError("The query of the URL is malformed.") from None
    given = dict(pairs)
    cursor = given.get("cursor") or None
    if cursor is not None:
        decode_cursor(cursor)
        if "offset" in given or "sort" in given or "direction" in given:
            raise ValueError("A cursor cannot be combined with offset, sort and direction.")
    return ListingQuery(
        limit=_integer(given, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        offset=_integer(given, "offset", 0, 0, MAX_OFFSET),
        sort=_sort(given.get("sort", "updated")),
        direction=_direction(given.get("direction", "desc")),
        metadata=_metadata(given.get("metadata", "{}")),
        cursor=cursor,
    )


def _sort(text: str) -> Literal["created", "updated"]:
    match text:
        case "created" | "updated":
            return text
    raise ValueError("sort must be created or updated.")


def _direction(text: str) -> Literal["asc", "desc"]:
    match text:
        case "asc" | "desc":
            return text
    raise ValueError("direction must be asc or desc.")


def _integer(given: dict[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and len(text) < 10:
        number = int(text)
        if lowest <= number <= highest:
            return number
    raise ValueError(f"{name} must be an integer from {lowest:,} to {highest:,}.")


def _metadata(text: str) -> dict[str, Any]:
    try:
        # JavaScript writes half an emoji as an escape.
        metadata = parse_any_message(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be a JSON object.")
    require_filter(metadata)
    return metadata
