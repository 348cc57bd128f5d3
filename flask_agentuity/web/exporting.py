"""What :meth:`.ThreadManager.export` and ``flask threads export`` have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ..errors import AuthenticationFailed, RequestTimeout, ServiceUnavailable, StoreError
from ..stores import ListedThread, ThreadStore
from .export_format import to_line

logger = logging.getLogger("flask_agentuity")

#: Errors that do not concern one thread: the next call would fail in the same way.
UNREACHABLE = (AuthenticationFailed, RequestTimeout, ServiceUnavailable)


def export_owner(store: ThreadStore, owner: str) -> Iterator[bytes]:
    """Return the lines of all threads of *owner*. The first one is read now.

    So a store that fails is noticed before a response with the lines has begun.

    :raises StoreError: if the store cannot be read, or cannot list threads.
    """
    lines = _lines_of(store, owner)
    return chain(list(islice(lines, 1)), lines)


def each_once(found: Iterable[ListedThread]) -> Iterator[ListedThread]:
    """Yield each thread once."""
    seen: set[str] = set()
    for thread in found:
        if thread.id not in seen:
            seen.add(thread.id)
            yield thread


def _lines_of(store: ThreadStore, owner: str) -> Iterator[bytes]:
    for thread in each_once(store.find_all(owner=owner)):
        try:
            line = to_line(thread, store.restore_without_renewing(thread.id))
        except UNREACHABLE:
            raise
        except StoreError as error:
            logger.error(  # noqa: TRY400 - the error says what is damaged
                "A damaged thread is left out of an export: %s",
                error,
                extra={"thread_id": thread.id},
            )
            continue
        if line is not None:
            yield line
