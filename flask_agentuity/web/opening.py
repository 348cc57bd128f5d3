"""Threads outside requests: what :meth:`.ThreadManager.open` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import has_request_context

from ..errors import ConfigurationError
from ..thread.late_changes import forget_late_changes
from ..thread.thread import Thread, contents_of
from .app_threads import AppThreads
from .observer import Observer
from .switching import require_url_thread
from .thread_ids import make_thread_id, require_thread_id
from .url_ids import URLThreadId


@contextmanager
def open_thread(
    threads: AppThreads, thread_id: str | None, create: bool | None, owner: str | None
) -> Iterator[Thread]:
    """Open a thread, and save it unless the block raises."""
    is_new = thread_id is None
    if is_new and not create:
        raise ConfigurationError(
            "open() needs a thread id. Use open(create=True) to start a conversation."
        )
    if isinstance(thread_id, URLThreadId) and has_request_context():
        # It is as the client sent it, and has not been checked yet.
        require_url_thread(threads.scope())
    known = make_thread_id() if thread_id is None else require_thread_id(thread_id)
    thread = Thread(
        threads.store,
        lambda: (known, is_new),
        Observer(threads),
        restore_policy="raise",
        owner=owner,
    )
    contents_of(thread).source.revives_deleted = is_new or create is True
    if create is False and thread.empty():
        raise LookupError(
            f"Thread {known} is not stored. It may have expired or been deleted, or have got"
            " another id at a login."
        )
    try:
        yield thread
    except BaseException:
        # The caller knows that the block has failed.
        forget_late_changes(contents_of(thread))
        raise
    thread.save()
