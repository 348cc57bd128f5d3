"""Apply operations to an encoded state, and find them by comparing. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import codec
from .operations import Clear, Delete, Operation, Push, Set


def apply_operations(state: dict[str, bytes], operations: Iterable[Operation]) -> list[Push]:
    """Apply *operations* in order to an encoded *state*, in place.

    Returns the pushes that were skipped because the value there is not a list; whoever
    asked for them is told by a warning, not by an error.
    """
    skipped: list[Push] = []
    # Lists that grow in this call, as runs of items, so that many pushes join them once.
    open_lists: dict[str, list[bytes]] = {}

    def close_list(key: str) -> None:
        if (runs := open_lists.pop(key, None)) is not None:
            state[key] = codec.join_list(runs)

    for operation in operations:
        match operation:
            case Push(key, value, max_records):
                if key not in open_lists:
                    stored = state.get(key, codec.EMPTY_LIST)
                    if not codec.is_list(stored):
                        skipped.append(operation)
                        continue
                    state[key] = stored
                    open_lists[key] = [] if stored == codec.EMPTY_LIST else [stored[1:-1]]
                open_lists[key].append(value)
                if max_records is not None:
                    close_list(key)
                    items = codec.items_of(state[key])
                    state[key] = codec.join_list(items[-max_records:] if max_records > 0 else [])
            case Set(key, value, only_if_missing):
                if not (only_if_missing and key in state):
                    open_lists.pop(key, None)
                    state[key] = value
            case Delete(key):
                open_lists.pop(key, None)
                state.pop(key, None)
            case Clear():
                open_lists.clear()
                state.clear()
    for key in list(open_lists):
        close_list(key)
    return skipped


def find_operations(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Operation]:
    """Return the smallest list of operations that turns *before* into *after*.

    Keys that are gone become deletes, never a clear, which would also remove what another
    request has added meanwhile.
    """
    found: list[Operation] = [Delete(key) for key in before if key not in after]
    for key, value in after.items():
        found.extend(find_change(key, before.get(key), value))
    return found


def find_change(key: str, before: bytes | None, after: bytes) -> list[Set | Push]:
    """Return the operations that turn one key's value *before* (None: missing) into *after*."""
    if before == after:
        return []
    if before is not None and codec.is_list(before):
        items = codec.appended(before, after)
        if items:
            return [Push(key, item) for item in items]
    return [Set(key, after)]


def increment(stored: bytes | None, by: int | float) -> bytes | None:
    """Return the encoded number *stored* (None: 0) plus *by*; None if it is not a number."""
    raise NotImplementedError
