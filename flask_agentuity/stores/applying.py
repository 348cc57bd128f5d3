"""Apply operations to what a store has read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import cast

from ..document import codec
from ..document.apply import apply_operations
from ..document.codec import Snapshot
from ..document.key_count import certain_keys, require_keys
from ..document.merge import rebase_metadata
from ..document.operations import (
    Clear,
    Delete,
    EditMetadata,
    Operation,
    Push,
    ReplaceMetadata,
    Set,
    SetMetadata,
)
from ..document.validity import require_json
from .skipped import warn_of_skipped


def is_of_version_1(operation: Operation) -> bool:
    """Return whether the operation exists in version 1 of the store interface."""
    match operation:
        case Set() | Delete() | Clear() | SetMetadata():
            return True
        case Push(keep_first=keep_first, unique=unique):
            return not keep_first and unique is None
        case _:
            return False


def moved_keys(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return the keys that were removed and created again, which puts them at the end."""
    places = {key: place for place, key in enumerate(before)}
    moved, last = [], -1
    for key in after:
        place = places.get(key, last)
        if place < last:
            moved.append(key)
        last = max(last, place)
    return moved


def complete(snapshot: Snapshot, thread_id: str) -> dict[str, bytes]:
    """Return a copy of the state of a snapshot in which every value was fetched."""
    return dict(require_complete(snapshot, thread_id))


def require_complete(snapshot: Snapshot, thread_id: str) -> Mapping[str, bytes]:
    """Return the state of a snapshot in which every value was fetched. It must not be changed."""
    if None in snapshot.encoded.values():
        raise codec.damaged(thread_id, "the store left out values that were asked for")
    return cast("Mapping[str, bytes]", snapshot.encoded)


def compose_document(snapshot: Snapshot, thread_id: str) -> bytes:
    """Return the document of a snapshot in which every value was fetched.

    :raises StoreError: if a part of it is not JSON.
    """
    if not snapshot.metadata.startswith(b"{"):
        raise codec.damaged(thread_id, "its metadata is not a JSON object")
    state = require_complete(snapshot, thread_id)
    try:
        # In pieces, because decoded values take many times as much memory.
        for value in chain(state.values(), (snapshot.metadata,)):
            require_json(value)
    except ValueError as error:
        raise codec.damaged(thread_id, str(error)) from None
    return codec.join_document(state, snapshot.metadata)


def apply(thread_id: str, state: dict[str, bytes], changes: Sequence[Operation]) -> None:
    """Apply *changes*, which need no condition, to an encoded *state* in place.

    A warning is logged for each operation that was skipped.
    """
    warn_of_skipped(thread_id, apply_operations(state, changes).skipped)


def require_possible_keys(
    thread_id: str,
    operations: Sequence[Operation],
    limit: int,
    read: Callable[[], Snapshot | None],
) -> None:
    """Refuse *operations* after which a state has too many keys, before any is applied.

    Only more operations than *limit* need it: what fewer do takes a bounded time.

    :param read: returns the stored thread; the names of its keys are enough.
    :raises TooManyKeys: if the state is certain to have too many, and more than are stored.
    """
    if (count := certain_keys(operations)) > limit:
        stored = read()
        require_keys(count, limit, thread_id, len(stored.encoded) if stored else 0)


def apply_metadata(metadata: bytes, operations: Iterable[Operation]) -> bytes | None:
    """Return *metadata* after the operations that concern it; None if there is a conflict."""
    for operation in operations:
        match operation:
            case SetMetadata(value):
                metadata = value
            case ReplaceMetadata(old, new):
                if metadata != old:
                    return None
                metadata = new
            case EditMetadata():
                change = rebase_metadata(operation, metadata)
                metadata = change.new if change else metadata
    return metadata
