"""Listing the threads of a service, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..client import ThreadClient
from ..client.directory import MAX_LIMIT, FoundThread, FoundThreads, ThreadDirectory
from ..client.http import HTTPEndpoint, base_of
from ..document import codec
from ..per_process import PerProcess
from .finding import Finding
from .listing import ListedThread, Page, Query, encode_cursor
from .owners import owner_in

#: Marks the cursor of a listing at a service that takes offsets only.
_OFFSET = "offset"


class RemoteFinding(Finding):
    """Finds the threads of the service to which a client connects."""

    client: ThreadClient
    _directories: PerProcess[ThreadDirectory]

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        owner: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        query = self._query(metadata, owner, limit, cursor)
        found: list[ListedThread] = []
        while True:
            page = self.find(replace(query, limit=query.limit - len(found), cursor=cursor))
            found += [thread for thread in page.threads if not _is_empty(thread)]
            cursor = page.cursor
            if cursor is None or len(found) >= query.limit:
                return Page(found, cursor)

    def list_owned(self, owner: str, limit: int) -> Sequence[ListedThread]:
        return self.find(self._query(None, owner, limit)).threads

    def find(self, query: Query) -> Page:
        found: list[ListedThread] = []
        cursor = query.cursor
        while True:
            threads, cursor = self._some(query, cursor, query.limit - len(found))
            found += threads
            if cursor is None or len(found) >= query.limit:
                return Page(found, cursor)

    def describe(self, thread_id: str) -> ListedThread | None:
        found = self._directory().get(thread_id)
        listed = None if found is None else _listed(found)
        return None if listed is None or _is_empty(listed) else listed

    def scan(self) -> Iterator[ListedThread]:
        newest: float | None = None
        while True:
            # A thread that is updated moves to the front, where it is found in the next round.
            since, newest = newest, None
            changed = False
            for thread in self._all():
                newest = thread.updated if newest is None else newest
                if since is not None and thread.updated <= since:
                    break
                changed = True
                yield thread
            if newest is None or not changed:
                return

    def _all(self) -> Iterator[ListedThread]:
        cursor: str | None = None
        while True:
            page = self.find(Query(limit=MAX_LIMIT, cursor=cursor))
            yield from (thread for thread in page.threads if not _is_empty(thread))
            cursor = page.cursor
            if cursor is None:
                return

    def _some(
        self, query: Query, cursor: str | None, wanted: int
    ) -> tuple[Sequence[ListedThread], str | None]:
        """Return the threads that one call finds, and the cursor of the next ones."""
        limit = min(wanted, MAX_LIMIT)
        offset = _offset_of(cursor)
        given = None if offset is not None else cursor
        found = self._directory().list(
            query.metadata, limit=limit, offset=offset or 0, cursor=given
        )
        threads = [_listed(each) for each in found.threads if not each.deleted]
        # If a service does not know the filter, threads of other users must not be shown.
        matching = [thread for thread in threads if query.matches(thread)]
        return matching, _next_cursor(found, limit, offset or 0)

    def _directory(self) -> ThreadDirectory:
        return self._directories.get()


def directories_of(client: ThreadClient) -> PerProcess[ThreadDirectory]:
    """Return the directory of the service to which *client* connects, one in each process."""

    def make() -> ThreadDirectory:
        settings = client.settings
        endpoint = HTTPEndpoint(
            base_of(settings.address.url),
            settings.key,
            connect_timeout=settings.connect_timeout,
            request_timeout=settings.request_timeout,
            ca_file=settings.ca_file,
        )
        return ThreadDirectory(endpoint)

    return PerProcess(make)


def _next_cursor(found: FoundThreads, limit: int, offset: int) -> str | None:
    if found.has_cursors:
        return found.cursor
    if len(found.threads) < limit:
        return None
    return encode_cursor(float(offset + len(found.threads)), _OFFSET)


def _offset_of(cursor: str | None) -> int | None:
    """Return the offset that *cursor* stands for; None if it is the service's own."""
    if cursor is None:
        return None
    after = Query(cursor=cursor).after
    return int(after[0]) if after is not None and after[1] == _OFFSET else None


def _is_empty(thread: ListedThread) -> bool:
    """Return whether only the owner is stored, as for a conversation that has just begun.

    Stores with a field for the owner do not list such a thread.
    """
    if thread.owner is None or len(thread.metadata) != 1:
        return False
    return thread.size == codec.document_size(0, len(codec.encode(thread.metadata, "metadata")))


def _listed(found: FoundThread) -> ListedThread:
    owner = owner_in(codec.encode(found.metadata, "metadata"))
    return ListedThread(found.id, found.metadata, found.created, found.updated, found.size, owner)
