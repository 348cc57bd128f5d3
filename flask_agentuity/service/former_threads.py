"""Threads of tenants that an earlier version kept among those of the store itself."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..errors import StoreError
from ..stores.base import ThreadStore

logger = logging.getLogger("flask_agentuity.service")

# Threads that are looked up at a time.
_BATCH = 100


def move_former_threads(namespace: str, store: ThreadStore, tenants_store: ThreadStore) -> None:
    """Move the threads of a tenant from *store* to the store for tenants, with their times.

    It can be repeated, also by several processes at once: a thread that was moved already, and has
    not changed since, is not replaced. A thread that cannot be moved stays where it is.
    """
    moved = sum(
        _move_batches(prefix, namespace, store, tenants_store)
        for prefix in (f"thrd_{namespace}-", f"{namespace}-")
    )
    if moved:
        logger.info(
            "%d threads of tenant %s were moved to the store for tenants.", moved, namespace
        )


def _move_batches(
    prefix: str, namespace: str, store: ThreadStore, tenants_store: ThreadStore
) -> int:
    moved, left = 0, 0
    while len(found := store.find_ids(prefix, left + _BATCH)) > left:
        left = 0
        for thread_id in found:
            try:
                _move(thread_id, namespace, store, tenants_store)
                moved += 1
            except StoreError as error:
                left += 1
                logger.warning(
                    "Thread %s could not be moved to the store for tenants: %s",
                    thread_id,
                    error,
                    extra={"thread_id": thread_id},
                )
    return moved


def _move(thread_id: str, namespace: str, store: ThreadStore, tenants_store: ThreadStore) -> None:
    listed = store.describe(thread_id)
    document = store.restore_without_renewing(thread_id)
    if listed is not None and document is not None:
        owner = namespace if tenants_store.owners else None
        tenants_store.import_thread(replace(listed, owner=owner), document)
    store.delete(thread_id)
