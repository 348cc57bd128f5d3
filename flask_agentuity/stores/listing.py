"""Listing threads: what a listing shows, its filter, its pages and its cursors."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..document import codec
from ..document.well_formed import make_well_formed
from ..errors import InvalidArgument, InvalidCursor, StateNotSerializable, invalid_argument
from .owners import OWNER

_TERM_BYTES = 400
#: By how many values of its metadata a thread can be found: the first ones that are not containers.
MOST_TERMS = 64
#: The last second that a datetime can represent: of the year 9999.
LATEST = 253_402_300_799.0
#: The maximum number of threads in a page, even if more are requested.
LONGEST_PAGE = 1_000
#: How far the clock of another machine may be ahead, in seconds.
_CLOCK_DIFFERENCE = 86_400.0
#: A thread with a time that is later than now by more than this, in seconds, was written before the
#: clock was set back.
AHEAD = 60.0


@dataclass(frozen=True, slots=True)
class ListedThread:
    """A thread in a listing. Times are in seconds since 1970, sizes in bytes.

    ``expires`` is when it expires if it is not used before; None if never, or if that is unknown.
    """

    id: str
    metadata: dict[str, Any]
    created: float
    updated: float
    size: int
    owner: str | None = None
    expires: float | None = field(default=None, compare=False)

    @property
    def created_at(self) -> datetime:
        """When the thread was created, in UTC."""
        return datetime.fromtimestamp(self.created, UTC)

    @property
    def updated_at(self) -> datetime:
        """When the thread was last changed, in UTC."""
        return datetime.fromtimestamp(self.updated, UTC)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing: the most recently updated threads first.

    ``cursor`` is the argument for the next page; None on the last page.
    """

    threads: list[ListedThread]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """The checked arguments of a listing.

    ``metadata``: only threads whose metadata contains these keys and values. ``owner``: only
    threads of this owner; None for all. ``limit``: the maximum number of threads, up to 1,000.
    ``cursor``: the cursor of the previous page.

    :raises InvalidArgument: if the filter or the limit is wrong.
    :raises InvalidCursor: if the cursor did not come from a listing.
    :raises ValueError: if *owner* cannot be an owner.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None
    limit: int = 20
    cursor: str | None = None
    #: The time and the id of the last thread of the page before, None for the first page.
    after: tuple[float, str] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_filter(self.metadata)
        # As the metadata of threads is stored.
        object.__setattr__(self, "metadata", make_well_formed(dict(self.metadata)))
        if self.owner is not None:
            require_owner(self.owner)
        limit = self.limit
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise invalid_argument("limit", limit, "an integer from 1 on")
        object.__setattr__(self, "limit", min(limit, LONGEST_PAGE))
        after = decode_cursor(self.cursor) if self.cursor else None
        object.__setattr__(self, "after", after)

    def matches(self, thread: ListedThread) -> bool:
        """Return whether *thread* has the owner and the metadata."""
        is_owned = self.owner is None or thread.owner == self.owner
        return is_owned and matches(thread.metadata, self.metadata)

    def includes(self, thread: ListedThread) -> bool:
        """Return whether *thread* matches and comes after the previous page."""
        is_behind = self.after is None or (thread.updated, thread.id) < self.after
        return is_behind and self.matches(thread)

    def page_of(self, threads: Sequence[ListedThread]) -> Page:
        """Return a page with the first of *threads*, and with a cursor if there are more."""
        return page_of(threads, self.limit)


def index_terms(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the terms that an index keeps for *metadata*, each as its key and its JSON text.

    Long ones are cut: an index finds candidates, and :func:`matches` decides.
    """
    return [
        (key, codec.encode(value, "metadata")[:_TERM_BYTES].decode(errors="ignore"))
        for key, value in _indexed(metadata).items()
    ]


def changed_terms(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the index terms that only *old* has, and those that only *new* has."""
    before, after = _indexed(old), _indexed(new)
    missing = object()
    # Unchanged values are the same object, so only changed ones are encoded.
    gone = {key: value for key, value in before.items() if after.get(key, missing) is not value}
    added = {key: value for key, value in after.items() if before.get(key, missing) is not value}
    return index_terms(gone), index_terms(added)


def _indexed(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return those values of *metadata* by which a thread can be found."""
    scalars = {
        key: value for key, value in metadata.items() if not isinstance(value, dict | list | tuple)
    }
    if len(scalars) <= MOST_TERMS:
        return scalars
    # In stores without a field for it, the owner is one of them.
    keys = sorted(scalars, key=lambda key: key != OWNER)
    return {key: scalars[key] for key in keys[:MOST_TERMS]}


def require_owner(owner: object) -> None:
    """Refuse a value that is not the name of an owner.

    :raises ValueError: which says what is wrong.
    """
    if not isinstance(owner, str) or not owner:
        raise ValueError(f"owner={owner!r} is wrong: an owner is a string that is not empty.")
    try:
        owner.encode()
    except UnicodeEncodeError:
        raise ValueError(f"owner={owner!r} is wrong: it has an unpaired surrogate.") from None


def filter_of(metadata: object) -> dict[str, Any]:
    """Return a filter, which a client may have sent, as a dictionary; an empty one for None.

    :raises InvalidArgument: if it is no mapping.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise invalid_argument("metadata", metadata, "a mapping of keys to values")
    return dict(metadata)


def require_filter(metadata: Mapping[str, Any]) -> None:
    """Refuse a filter that no index can serve.

    :raises InvalidArgument: which names the key.
    """
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise InvalidArgument(f"The keys of metadata are strings; {key!r} is not one.")
        if not (value is None or isinstance(value, str | int | float)):
            raise InvalidArgument(
                f"Threads can be found by strings, numbers, booleans and None, not by a"
                f" {type(value).__name__} (key {key!r})."
            )
        try:
            codec.encode({key: value}, "metadata")
        except StateNotSerializable as error:
            raise InvalidArgument(f"Threads cannot be found by this filter: {error}.") from None


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether *metadata* has every key of *wanted* with an equal value of one type.

    As in an index, only the first :data:`MOST_TERMS` values count.
    """
    indexed = _indexed(metadata) if wanted else {}
    return all(
        key in indexed and codec.encode(indexed[key], "metadata") == codec.encode(value, "metadata")
        for key, value in wanted.items()
    )


def encode_cursor(updated: float, thread_id: str) -> str:
    """Return an opaque cursor for the threads after this one in a listing."""
    return base64.urlsafe_b64encode(codec.encode([updated, thread_id])).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return the time and the id in a cursor.

    :raises InvalidCursor: if it is not a cursor.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        updated, thread_id = codec.decode(base64.urlsafe_b64decode(padded))
        if type(updated) in (float, int) and isinstance(thread_id, str):
            return float(updated), thread_id
        reason = None
    except (ValueError, TypeError, OverflowError) as error:
        reason = error
    raise InvalidCursor(cursor) from reason


def plausible_time(value: object) -> float:
    """Return a stored time in seconds since 1970, or the nearest one that a datetime can have.

    Anything that is not a number becomes the latest time, because SQLite sorts it after all
    numbers.
    """
    if not isinstance(value, int | float):
        return LATEST
    return float(min(max(value, 0.0), LATEST))


def require_times(thread: ListedThread) -> None:
    """Refuse to import a thread with times that it cannot have.

    A time in the future would keep the thread at the top of each listing.

    :raises ValueError: which names the time.
    """
    latest = time.time() + _CLOCK_DIFFERENCE
    for name, value in (("created", thread.created), ("updated", thread.updated)):
        if not 0 <= value < latest:
            raise ValueError(f"{name} is out of range: {value!r}. It must be between 1970 and now.")


def page_of(threads: Sequence[ListedThread], limit: int) -> Page:
    """Return the page of the first *limit* of *threads*, which has one more if more follow."""
    shown = list(threads[:limit])
    if len(threads) <= limit or not shown:
        return Page(shown, None)
    return Page(shown, encode_cursor(shown[-1].updated, shown[-1].id))
