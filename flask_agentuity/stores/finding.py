"""The part of the store interface that lists threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from ..errors import StoreError
from .listing import LONGEST_PAGE, ListedThread, Page, Query, filter_of, require_owner
from .owners import OWNER, owner_of

#: The end of the message of a store that cannot do something.
WHO_CAN = "The stores in SQLite, in Redis and in memory can."


class Finding:
    """A store that may be able to list its threads."""

    #: Whether the owner of a thread is kept apart from its metadata. Otherwise it is the value of
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
        """Return a page of threads, the most recently updated first.

        :param metadata: only threads whose metadata contains these keys and values, which must be
            scalars. The first 64 scalars of a thread's metadata are indexed.
        :param owner: only threads of this owner.
        :param limit: the maximum number of threads, up to 1,000.
        :param cursor: the cursor of the previous page. A thread that is updated between two pages
            may be missed. None is returned twice, unless a machine's clock is slow.
        :raises InvalidArgument: a ValueError; if the filter or the limit is wrong.
        :raises InvalidCursor: an InvalidArgument; if the cursor did not come from a listing.
        :raises ValueError: if *owner* cannot be an owner.
        :raises StoreError: if this store cannot list threads.
        """
        page = self.find(self._query(metadata, owner, limit, cursor))
        return page if self.owners else _name_owners(page)

    def list_owned(self, owner: str, limit: int) -> Sequence[ListedThread]:
        """Return some threads of *owner*, including those that are still empty.

        :raises StoreError: if this store cannot list.
        """
        return self.list(owner=owner, limit=limit).threads

    def find(self, query: Query) -> Page:
        """Return a page of threads. Override it in a store that can list threads.

        If :attr:`owners` is False, the query has the owner in its metadata.

        :raises StoreError: if this store cannot list threads.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {WHO_CAN}")

    def describe(self, thread_id: str) -> ListedThread | None:
        """Return one thread as in a listing; None if it would not be listed.

        Like a listing, it does not renew the thread's time to live.

        :raises StoreError: if this store cannot list threads.
        """
        raise StoreError(f"{type(self).__name__} cannot describe threads. {WHO_CAN}")

    def scan(self) -> Iterator[ListedThread]:
        """Yield all threads, in any order.

        A thread that exists during the whole scan is included, even if it changes, but possibly
        twice. Damaged metadata is yielded as empty, and damaged times as 0; to restore the thread
        raises an error that says what is wrong.

        :raises StoreError: if this store cannot list threads.
        """
        raise StoreError(f"{type(self).__name__} cannot list threads. {WHO_CAN}")

    def find_all(
        self, metadata: Mapping[str, Any] | None = None, *, owner: str | None = None
    ) -> Iterator[ListedThread]:
        """Yield all threads with this metadata and this owner, as :meth:`scan` does.

        :raises ValueError: if the filter or the owner is wrong.
        :raises StoreError: if this store cannot list threads.
        """
        query = self._query(metadata, owner)
        found = self.scan_for(query) if query.metadata or query.owner else self.scan()
        return found if self.owners else map(_name_owner, found)

    def scan_for(self, query: Query) -> Iterator[ListedThread]:
        """Yield all threads that *query* matches, in any order. Its limit is ignored.

        Override it if the store has an index.

        :raises StoreError: if this store cannot list threads.
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
        wanted = filter_of(metadata)
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
    """Return the method ``list`` of a store, wrapped so that it takes ``owner``.

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
        wanted = metadata if owner is None else {**filter_of(metadata), OWNER: owner}
        return _name_owners(own(self, wanted, **options))

    return list


def _name_owners(page: Page) -> Page:
    return Page([_name_owner(thread) for thread in page.threads], page.cursor)


def _name_owner(thread: ListedThread) -> ListedThread:
    """Return *thread* with the owner that its metadata names."""
    return replace(thread, owner=thread.owner or owner_of(thread.metadata))
