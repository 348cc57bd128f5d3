"""The format of an export: one JSON object on each line, one line for each thread.

Its fields are ``id``, ``created`` and ``updated`` in seconds since 1970, ``state``, ``metadata``
and, if the thread has one, ``owner``. Unknown fields are ignored.
"""

from __future__ import annotations

import time
from typing import Any

from ..document import codec
from ..stores import ListedThread
from ..stores.applying import require_complete
from ..stores.listing import require_owner, require_times
from .thread_ids import require_stored_id


def to_line(thread: ListedThread, document: bytes | None) -> bytes | None:
    """Return the line of a thread; None if the thread does not exist any more.

    :raises StoreError: if the thread is damaged.
    """
    snapshot = codec.split_document(document, thread.id)
    if snapshot is None:
        return None
    # A damaged time could not be imported again.
    created, updated = (min(value, time.time()) for value in (thread.created, thread.updated))
    fields = {"id": thread.id, "created": created, "updated": updated}
    if thread.owner is not None:
        fields["owner"] = thread.owner
    head = codec.encode(fields)
    # Joined as text, because state and metadata may nest as deep as the encoder can go.
    body = codec.join_document(require_complete(snapshot, thread.id), snapshot.metadata)
    return b"%b,%b\n" % (head[:-1], body[1:])


def from_line(line: bytes) -> tuple[ListedThread, bytes]:
    """Return the thread of a line, and the document of its state.

    :raises ValueError: if the line is not in this format.
    """
    record = codec.decode_exactly(line)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    thread_id = require_stored_id(record.get("id"))
    created, updated = (_seconds(record, name) for name in ("created", "updated"))
    state, metadata = record.get("state", {}), record.get("metadata", {})
    if not isinstance(state, dict) or not isinstance(metadata, dict):
        raise ValueError("state and metadata must be objects")
    if not state and not metadata:
        raise ValueError("it has neither state nor metadata")
    document = codec.join_document(
        {key: codec.encode_unchecked(value) for key, value in state.items()}
    )
    owner = record.get("owner")
    if owner is not None:
        require_owner(owner)
    thread = ListedThread(thread_id, metadata, created, updated, len(document), owner)
    require_times(thread)
    return thread, document


def _seconds(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number of seconds since 1970")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is out of range") from None
