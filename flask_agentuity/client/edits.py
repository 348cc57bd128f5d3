"""Merged edits over a client's connection: making the frames and reading the replies.

All of it needs a service that announced ``edits``. Without one the functions raise
:exc:`~flask_agentuity.client.FeatureMissing`, and nothing was sent.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .. import wire
from ..document.operations import Operation
from ..errors import ThreadGone
from ..wire import Applied, Conflicting
from .client import ThreadClient
from .request import ServiceRefusal

__all__ = [
    "Applied",
    "Conflicting",
    "delete_document",
    "read_document",
    "replace_document",
    "send_edits",
]


def send_edits(
    client: ThreadClient,
    thread_id: str,
    operations: Sequence[Operation],
    *,
    began: float,
    version: int = 0,
    counted: Collection[str] = (),
) -> Applied | Conflicting:
    """Apply *operations*, or nothing if there is a conflict.

    :param began: when the request began that makes the change, by :func:`time.monotonic`.
    :param version: what that request's first read found; 0 if there was none.
    :param counted: the keys for which the reply must say how many items were before the pushed
        ones.
    :raises ThreadGone: if the thread was deleted after the request began.
    :raises OutcomeUnknown: if it was sent and not answered; it is never sent twice.
    :raises StoreError: as for other calls of the client.
    """

    def encode(id: str) -> bytes:
        return wire.encode_edits(
            id, thread_id, operations, began=_since(began), version=version, counted=counted
        )

    try:
        reply = client.merge_edits(thread_id, encode)
    except ServiceRefusal as refusal:
        _raise_if_gone(refusal, thread_id)
        conflict = wire.conflict_of(refusal.fields)
        if conflict is None:
            raise
        return conflict
    return wire.applied_of(reply.fields)


def delete_document(client: ThreadClient, thread_id: str, version: int) -> None:
    """Delete a thread, unless it began after what the request has read was deleted.

    A service that knows the extension without this part of it deletes whatever is stored.

    :param version: what that request's first read found.
    :raises StoreError: as for other calls of the client.
    """
    began = time.monotonic()

    def encode(id: str) -> bytes:
        return wire.encode_delete(id, thread_id, _since(began), version)

    client.delete(thread_id, encode)


def replace_document(
    client: ThreadClient,
    thread_id: str,
    document: bytes,
    metadata: Mapping[str, Any] | None,
) -> None:
    """Replace the whole document, and the metadata unless it is None.

    It counts as a change of a request that begins now.

    :raises ThreadGone: if the thread is deleted meanwhile.
    :raises OutcomeUnknown: if it was sent and not answered.
    :raises StoreError: as for other calls of the client.
    """
    began = time.monotonic()

    def encode(id: str) -> bytes:
        return wire.encode_save(id, thread_id, document, metadata, _since(began))

    try:
        client.merge_edits(thread_id, encode)
    except ServiceRefusal as refusal:
        _raise_if_gone(refusal, thread_id)
        raise


def read_document(client: ThreadClient, thread_id: str) -> tuple[bytes | None, int]:
    """Return the document (None: there is none) and its version (0: not known).

    :raises StoreError: as for other calls of the client.
    """
    began = time.monotonic()

    def encode(id: str) -> bytes:
        return wire.encode_restore(id, thread_id, _since(began))

    reply = client.restore_reply(thread_id, encode, requires="edits")
    limit = client.settings.max_document_bytes
    return wire.document_of(reply.data, limit), wire.version_of(reply.fields)


def _since(began: float) -> wire.Began:
    now = time.monotonic()
    return wire.Began(max(0.0, now - began), now)


def _raise_if_gone(refusal: ServiceRefusal, thread_id: str) -> None:
    if wire.is_gone(refusal.fields):
        raise ThreadGone(thread_id) from refusal
