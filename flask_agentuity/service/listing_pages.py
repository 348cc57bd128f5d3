"""The replies to listings. They block, so the event loop must not make them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..document.messages import encode_message
from ..errors import StoreError
from ..stores.listing import ListedThread, Page, encode_cursor
from .listing_query import ListingQuery
from .tenants import Tenant

#: Threads that are read at once. The metadata of each can be large.
_STEP = 20
#: The largest reply, in bytes of metadata.
_MAX_PAGE_BYTES = 4 * 1024 * 1024
#: The most threads that are sorted in another order than the store's.
MAX_SORTED = 1_000


class CannotList(StoreError):
    """The store cannot list this tenant's threads separately from others."""


class TooMuch(ValueError):
    """The reply would be too large, or too expensive."""


def list_threads(tenant: Tenant, query: ListingQuery) -> bytes:
    """Return the reply to a listing.

    :raises CannotList: if the store cannot.
    :raises TooMuch: if it would be too large. The text says what to do.
    :raises StoreError: if the store cannot be read.
    """
    threads = _usual(tenant, query) if query.is_usual else _sorted(tenant, query)
    more = len(threads) > query.limit
    shown = threads[: query.limit]
    cursor = encode_cursor(shown[-1].updated, shown[-1].id) if more and query.is_usual else None
    return encode_message(
        {
            "success": True,
            "data": [_as_json(tenant, thread) for thread in shown],
            "cursor": cursor,
        }
    )


def describe_thread(tenant: Tenant, thread_id: str) -> bytes | None:
    """Return the reply about one thread with its document; None if there is none.

    :raises StoreError: if the store cannot be read.
    """
    inside = tenant.stored_id(thread_id)
    thread = tenant.store.describe(inside)
    if thread is None:
        return None
    document = tenant.store.restore_without_renewing(inside) or b""
    described = _as_json(tenant, thread) | {"user_data": document.decode()}
    return encode_message({"success": True, "data": described})


def delete_thread(tenant: Tenant, thread_id: str) -> bytes:
    """Delete a thread and return the reply. A missing thread is not an error.

    :raises StoreError: if the store cannot.
    """
    tenant.store.delete(tenant.stored_id(thread_id))
    return encode_message({"success": True})


def _usual(tenant: Tenant, query: ListingQuery) -> list[ListedThread]:
    """Return the threads of a page, and one more if more follow."""
    wanted, left, size = query.limit + 1, query.offset, 0
    found: list[ListedThread] = []
    for page in _pages(tenant, query, query.cursor, left + wanted):
        for thread in page.threads[left:]:
            size += thread.size
            found.append(thread)
        left = max(0, left - len(page.threads))
        if sum(_metadata_size(thread) for thread in found) > _MAX_PAGE_BYTES:
            raise TooMuch(
                f"The metadata of {query.limit} threads is too large. Ask for fewer at a time."
            )
        if len(found) >= wanted:
            break
    return found[:wanted]


def _sorted(tenant: Tenant, query: ListingQuery) -> list[ListedThread]:
    threads: list[ListedThread] = []
    for page in _pages(tenant, query, None, MAX_SORTED + 1):
        threads += page.threads
        if len(threads) > MAX_SORTED:
            raise TooMuch(
                f"More than {MAX_SORTED:,} threads match. They are listed with sort=updated and"
                " direction=desc only."
            )
    descending = query.direction == "desc"
    threads.sort(key=lambda each: (getattr(each, query.sort), each.id), reverse=descending)
    return threads[query.offset : query.offset + query.limit + 1]


def _pages(tenant: Tenant, query: ListingQuery, cursor: str | None, most: int) -> Iterator[Page]:
    if not tenant.lists:
        raise CannotList("The store of this service cannot list the threads of one key.")
    while most > 0:
        page = tenant.store.list(
            query.metadata, owner=tenant.owner, limit=min(most, _STEP), cursor=cursor
        )
        yield page
        most -= len(page.threads)
        cursor = page.cursor
        if cursor is None:
            return


def _metadata_size(thread: ListedThread) -> int:
    return len(encode_message(thread.metadata))


def _as_json(tenant: Tenant, thread: ListedThread) -> dict[str, Any]:
    """Return a thread as the JavaScript client expects it, and with our client's own fields."""
    return {
        "id": tenant.client_id(thread.id),
        "created_at": _time(thread.created),
        "updated_at": _time(thread.updated),
        "deleted": False,
        "deleted_at": None,
        "deleted_by": None,
        "org_id": "",
        "project_id": "",
        "metadata": thread.metadata,
        "created": thread.created,
        "updated": thread.updated,
        "size": thread.size,
    }


def _time(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
