"""The calls that a client can make, described. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import wire
from ..document.operations import Operation
from .request import Call

#: The feature of a service that merges edits.
EDITS = "edits"


def restore(thread_id: str, limit: int) -> Call:
    """Read a document of at most *limit* bytes. The result is the document, or None."""
    return Call(
        "restore",
        thread_id,
        lambda id: wire.encode_restore(id, thread_id),
        lambda reply: wire.document_of(reply.data, limit),
    )


def restore_reply(
    thread_id: str, encode: Callable[[str], bytes] | None, requires: str | None
) -> Call:
    """Read a document. The result is the whole reply."""
    make = encode or (lambda id: wire.encode_restore(id, thread_id))
    return Call("restore", thread_id, make, _reply, requires=requires)


def save(thread_id: str, document: bytes, metadata: Mapping[str, Any] | None) -> Call:
    """Replace a document."""
    return Call(
        "save",
        thread_id,
        lambda id: wire.encode_save(id, thread_id, document, metadata),
        _nothing,
    )


def merge(
    thread_id: str, operations: Sequence[Operation], metadata: Mapping[str, Any] | None
) -> Call:
    """Apply operations. They may contain a push, so they are not sent twice."""
    return Call(
        "merge",
        thread_id,
        lambda id: wire.encode_merge(id, thread_id, operations, metadata),
        _nothing,
        repeatable=False,
    )


def merge_edits(thread_id: str, encode: Callable[[str], bytes]) -> Call:
    """Apply merged edits. The result is the whole reply."""
    return Call("merge", thread_id, encode, _reply, repeatable=False, requires=EDITS)


def delete(thread_id: str, encode: Callable[[str], bytes] | None = None) -> Call:
    """Delete a thread; *encode* makes a frame of the extension."""
    if encode is not None:
        return Call("delete", thread_id, encode, _nothing, requires=EDITS)
    return Call("delete", thread_id, lambda id: wire.encode_delete(id, thread_id), _nothing)


def connect() -> Call:
    """Wait for a connection. The result is the features of its service."""
    return Call("connect", None, lambda id: b"", _nothing)


def _reply(reply: wire.Success) -> wire.Success:
    return reply


def _nothing(reply: wire.Success) -> None:
    return None
