"""Listing threads: what a listing shows, its filter, its pages and its cursors."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import codec
from ..errors import StateNotSerializable

_LABEL_BYTES = 400


@dataclass(frozen=True, slots=True)
class ListedThread:
    """A thread as a listing shows it; times in seconds since 1970, sizes in bytes."""

    id: str
    metadata: dict[str, Any]
    created: float
    updated: float
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some threads of a listing, newest first, and the cursor of what follows, if anything does."""

    threads: list[ListedThread]
    cursor: str | None


def encode_labels(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what an index keeps of *metadata*: the scalars, each as its key and its JSON text.

    Long ones are cut: an index finds candidates, and :func:`matches` decides.
    """
    return [
        (key, codec.encode(value, "metadata")[:_LABEL_BYTES].decode(errors="ignore"))
        for key, value in metadata.items()
        if not isinstance(value, dict | list | tuple)
    ]


def require_question(metadata: Mapping[str, Any], limit: object) -> None:
    """Refuse what no listing can answer.

    :raises ValueError: which says what is wrong.
    """
    require_filter(metadata)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit={limit!r} is wrong: a page has a number of threads, at least one.")


def require_filter(metadata: Mapping[str, Any]) -> None:
    """Refuse a filter that no index can serve.

    :raises ValueError: which names the key.
    """
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise ValueError(f"The keys of metadata are texts, {key!r} is none.")
        if not (value is None or isinstance(value, str | int | float)):
            raise ValueError(
                f"Threads can be found by texts, numbers, booleans and None, not by a"
                f" {type(value).__name__} (key {key!r})."
            )
        try:
            codec.encode({key: value}, "metadata")
        except StateNotSerializable as error:
            raise ValueError(f"No thread can be found by that: {error}.") from None


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether *metadata* has every key of *wanted* with an equal value of one type."""
    return all(
        key in metadata
        and codec.encode(metadata[key], "metadata") == codec.encode(value, "metadata")
        for key, value in wanted.items()
    )


def encode_cursor(updated: float, thread_id: str) -> str:
    """Return an opaque cursor for what follows a thread in a listing."""
    return base64.urlsafe_b64encode(codec.encode([updated, thread_id])).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Read a cursor.

    :raises ValueError: when it is none.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        updated, thread_id = codec.decode(base64.urlsafe_b64decode(padded))
        return float(updated), str(thread_id)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{cursor!r} is not the cursor of a listing.") from error


def page_of(threads: Sequence[ListedThread], limit: int) -> Page:
    """Return the page of the first *limit* of *threads*, which has one more if more follow."""
    shown = list(threads[:limit])
    if len(threads) <= limit or not shown:
        return Page(shown, None)
    return Page(shown, encode_cursor(shown[-1].updated, shown[-1].id))
