"""The owners of threads in stores that keep them in the metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..document import codec
from ..document.codec import Snapshot
from ..document.operations import EditMetadata, Operation, ReplaceMetadata, SetMetadata
from ..errors import ThreadGone
from .expected import Expected
from .writing import Conflict, Write, Written

#: The key of the metadata that has the owner.
OWNER = "owner"

_QUOTED_OWNER = b'"owner"'
_METADATA = SetMetadata | ReplaceMetadata | EditMetadata


def owner_in(metadata: bytes) -> str | None:
    """Return the owner that encoded *metadata* names: a string, or a number as a string."""
    return owner_of(codec.decode(metadata)) if _QUOTED_OWNER in metadata else None


def owner_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the owner that *metadata* names: a string, or a number as a string."""
    owner = metadata.get(OWNER)
    if isinstance(owner, bool) or not isinstance(owner, str | int):
        return None
    return str(owner) or None


@dataclass(frozen=True, slots=True)
class KnownOwner:
    """What is known about the owner of a thread. ``value`` is the value in the metadata, None if
    there is no owner; ``stored`` says whether the thread exists.
    """

    value: Any
    stored: bool

    @classmethod
    def of(cls, snapshot: Snapshot | None) -> KnownOwner:
        """Return what *snapshot* says."""
        if snapshot is None:
            return cls(None, False)
        owner = owner_in(snapshot.metadata)
        return cls(None if owner is None else codec.decode(snapshot.metadata)[OWNER], True)


def with_owner(snapshot: Snapshot | None) -> Snapshot | None:
    """Return *snapshot* with the owner that its metadata names."""
    if snapshot is not None:
        snapshot.owner = owner_in(snapshot.metadata)
        # The next write of the request need not look it up.
        snapshot.seen = KnownOwner.of(snapshot)
    return snapshot


def write_owned(
    thread_id: str,
    write: Write,
    read: Callable[[], Snapshot | None],
    apply: Callable[[Write], Written | Conflict],
) -> Written | Conflict:
    """Apply *write* to a store that keeps the owner in the metadata.

    A thread that is created by another process between reading and writing is not noticed.

    :param read: reads the metadata of the thread.
    :raises ThreadGone: if the thread belongs to another owner.
    """
    if write.owner is None:
        return apply(write)
    if isinstance(write.seen, KnownOwner):
        known = write.seen
    else:
        known = KnownOwner.of(None if write.is_new else read())
    operations, value = write.operations, write.owner if not known.stored else known.value
    if value is not None:
        if not write.may_change(str(value)):
            raise ThreadGone(thread_id)
        operations = _with_value(operations, value, is_new=not known.stored)
    outcome = apply(replace(write, operations=operations, owner=None))
    if isinstance(outcome, Written):
        outcome.seen = KnownOwner(value, True)
    return outcome


def is_of_owner(expected: Expected, read: Callable[[], Snapshot | None]) -> bool:
    """Return whether a thread, in a store that keeps the owner in the metadata, has the owner that
    a deletion expects.

    A thread that is created by another process after reading is not noticed.

    :param read: reads the metadata of the thread.
    """
    if expected.owner is None:
        return True
    snapshot = read()
    return snapshot is None or expected.means(snapshot.owner, 0)


def _with_value(operations: Sequence[Operation], owner: Any, *, is_new: bool) -> list[Operation]:
    """Return *operations* so that the metadata keep *owner*, or get it if *is_new*."""
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
    if is_new and not any(isinstance(each, _METADATA) for each in changed):
        # An edit, because another request may create the thread at the same time.
        changed.append(EditMetadata(codec.EMPTY_OBJECT, _add(codec.EMPTY_OBJECT, owner)))
    return changed


def _add(metadata: bytes, owner: Any) -> bytes:
    return codec.encode({**codec.decode(metadata), OWNER: owner}, "metadata")
