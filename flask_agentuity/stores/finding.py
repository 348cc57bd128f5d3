"""How the threads of a store are found: the part of the interface that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from ..errors import StoreError
from .listing import LONGEST_PAGE, ListedThread, Page, Query, require_owner
from .owners import OWNER, owner_of

#: The end of the message of a store that cannot do something.
WHO_CAN = "The stores in SQLite, in Redis and in memory can."


class Finding:
    """A store that may be able to list its threads."""

    #: Whether the owner of a thread is kept beside its metadata. Otherwise it is the value of
    #: ``owner`` in the metadata.
    owners = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "list" in vars(cls):
            cls.list = _accept_owner(cls.list)  # type: ignore[method-assign]

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        owner: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return threads, the latest updated first, in pages.

        :param metadata: only threads whose metadata has these keys with these values, which
            must be scalars. The first 64 scalars of a thread's metadata are indexed.
        :param owner: only threads of this owner.
        :param limit: how many threads a page has at most; more than 1,000 count as 1,000.
        :param cursor: the cursor of the page before. A thread that is updated between two
            pages moves to the front and may be missed. No thread is seen twice, unless it was
            updated by a clock that is behind.
        :raises InvalidArgument: a ValueError; for another filter or limit.
        :raises InvalidCursor: an InvalidArgument; for another cursor.
        :raises ValueError: for a wrong owner.
        :raises StoreError: if this store cannot list.
        """
        page = self.find(self._query(metadata, owner, limit, cursor))
        return page if self.owners else _name_owners(page)

    def list_owned(self, owner: str, limit: int) -> Sequence[ListedThread]:
        """Return some threads of *owner*, with those of which nothing else is stored yet.

        :raises StoreError: if this store cannot list.
        """
        return self.list(owner=owner, limit=limit).threads

    def find(self, query: Query) -> Page:
        """Return the page that *query* asks for. Override it to list threads.

        Where :attr:`owners` is False, the query has the owner in its metadata.

        :raises StoreError: if this store cannot list.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {WHO_CAN}")

    def describe(self, thread_id: str) -> ListedThread | None:
        """Return what a listing shows of one thread; None if it would not be listed.

        Like a listing, it does not postpone the time at which the thread expires.

        :raises StoreError: if this store cannot list.
        """
        raise StoreError(f"{type(self).__name__} cannot describe threads. {WHO_CAN}")

    def scan(self) -> Iterator[ListedThread]:
        """Yield every thread, in no order.

        A thread that exists from the beginning to the end is not left out, even if it changes
        meanwhile; it may come twice. Damaged metadata and times are given as empty and 0;
        restoring the thread says what is wrong.

        :raises StoreError: if this store cannot list.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {WHO_CAN}")

    def find_all(
        self, metadata: Mapping[str, Any] | None = None, *, owner: str | None = None
    ) -> Iterator[ListedThread]:
        """Yield every thread with this metadata and this owner, as :meth:`scan` does.

        A thread that has them from the beginning to the end is not left out.

        :raises ValueError: for another filter, or a wrong owner.
        :raises StoreError: if this store cannot list.
        """
        query = self._query(metadata, owner)
        found = self.scan_for(query) if query.metadata or query.owner else self.scan()
        return found if self.owners else map(_name_owner, found)

    def scan_for(self, query: Query) -> Iterator[ListedThread]:
        """Yield every thread that *query* matches, in no order. Its limit does not count.

        Override it if the store has an index.

        :raises StoreError: if this store cannot list.
        """
        if type(self).scan is Finding.scan:
            return self._list_all(query)
        return (thread for thread in self.scan() if query.matches(thread))

    def _list_all(self, query: Query) -> Iterator[ListedThread]:
        cursor = None
        while True:
            page = self.list(query.metadata, owner=query.owner, limit=LONGEST_PAGE, cursor=cursor)
            yield from page.threads
            if (cursor := page.cursor) is None:
                break

    def _query(
        self,
        metadata: Mapping[str, Any] | None,
        owner: str | None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Query:
        wanted = dict(metadata or {})
        if owner is not None and not self.owners:
            require_owner(owner)
            wanted[OWNER], owner = owner, None
        return Query(wanted, owner, limit, cursor)

    def find_ids(self, prefix: str, limit: int) -> Sequence[str]:
        """Return up to *limit* ids of threads that begin with *prefix*, in no order.

        :raises StoreError: if this store cannot list.
        """
        found: dict[str, None] = {}
        for thread in self.scan():
            if thread.id.startswith(prefix):
                found[thread.id] = None
                if len(found) == limit:
                    break
        return list(found)


def _accept_owner(own: Callable[..., Page]) -> Callable[..., Page]:
    """Return the method ``list`` of a store so that it takes ``owner``.

    Stores that were written for version 1 have a method without it.
    """
    parameters = signature(own).parameters.values()
    if any(each.name == OWNER or each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return own

    @wraps(own)
    def list(
        self: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        owner: str | None = None,
        **options: Any,
    ) -> Page:
        if self.owners:
            if owner is None:
                return own(self, metadata, **options)
            return Finding.list(self, metadata, owner=owner, **options)
        wanted = metadata if owner is None else {**(metadata or {}), OWNER: owner}
        return _name_owners(own(self, wanted, **options))

    return list


def _name_owners(page: Page) -> Page:
    return Page([_name_owner(thread) for thread in page.threads], page.cursor)


def _name_owner(thread: ListedThread) -> ListedThread:
    """Return *thread* with the owner that its metadata names."""
    return replace(thread, owner=thread.owner or owner_of(thread.metadata))
