"""The owners of threads in stores that keep them in the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..document import codec
from ..document.codec import Snapshot
from ..document.operations import EditMetadata, Operation, ReplaceMetadata, SetMetadata
from ..errors import ThreadGone
from .writing import Write

#: The key of the metadata that has the owner.
OWNER = "owner"

_QUOTED_OWNER = b'"owner"'
_METADATA = SetMetadata | ReplaceMetadata | EditMetadata


def owner_in(metadata: bytes) -> str | None:
    """Return the owner that encoded *metadata* names: a string, or a number as a string."""
    if _QUOTED_OWNER not in metadata:
        return None
    owner = codec.decode(metadata).get(OWNER)
    if isinstance(owner, bool) or not isinstance(owner, str | int):
        return None
    return str(owner) or None


def with_owner(snapshot: Snapshot | None) -> Snapshot | None:
    """Return *snapshot* with the owner that its metadata names."""
    if snapshot is not None:
        snapshot.owner = owner_in(snapshot.metadata)
    return snapshot


def require_owned(stored: Snapshot | None, thread_id: str, write: Write) -> Write:
    """Return *write* so that it sets the owner of a new thread and leaves that of another one.

    :param stored: what is stored of the thread; None if nothing is.
    :raises ThreadGone: if the thread belongs to another owner.
    """
    assert write.owner is not None
    if stored is None:
        return replace(write, operations=_with_value(write.operations, write.owner))
    metadata = codec.decode(stored.metadata)
    if not write.may_change(owner_in(stored.metadata)):
        raise ThreadGone(thread_id)
    if OWNER not in metadata or not any(isinstance(each, _METADATA) for each in write.operations):
        return write
    return replace(write, operations=_with_value(write.operations, metadata[OWNER]))


def _with_value(operations: Sequence[Operation], owner: Any) -> list[Operation]:
    """Return *operations* after which the metadata name *owner*."""
    changed: list[Operation] = []
    for operation in operations:
        match operation:
            case SetMetadata(value):
                changed.append(SetMetadata(_add(value, owner)))
            case ReplaceMetadata(old, new):
                changed.append(ReplaceMetadata(old, _add(new, owner)))
            case EditMetadata(base, value):
                changed.append(EditMetadata(base, _add(value, owner)))
            case _:
                changed.append(operation)
    if not any(isinstance(each, _METADATA) for each in changed):
        changed.append(SetMetadata(_add(codec.EMPTY_OBJECT, owner)))
    return changed


def _add(metadata: bytes, owner: Any) -> bytes:
    return codec.encode({**codec.decode(metadata), OWNER: owner}, "metadata")
