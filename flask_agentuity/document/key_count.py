"""How many keys a state may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from ..errors import TooManyKeys
from .operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)

#: The most keys of a state, unless a store has another limit. Each costs time while a store is
#: locked, and memory where it is written: some hundred bytes, however short key and value are.
MAX_KEYS = 10_000

#: The fewest bytes that a key and its value take in a document: ``"":1,``.
FEWEST_BYTES = 5


def require_keys(count: int, limit: int, thread_id: str, before: int) -> None:
    """Refuse a state with too many keys, unless it had as many before.

    :raises TooManyKeys: when *count* is over *limit* and above *before*.
    """
    if count > limit and count > before:
        raise TooManyKeys(count, limit, thread_id)


def certain_keys(operations: Sequence[Operation]) -> int:
    """Return how many keys a state has at least after *operations*, whatever it had before."""
    certain: set[str] = set()
    for operation in operations:
        match operation:
            case Set() | Push() | Increment() | Edit(base=None) | Replace(old=None):
                certain.add(operation.key)
            case Delete(key):
                certain.discard(key)
            case Clear():
                certain.clear()
            case Edit() | Replace() | Splice() | Truncate() | PopLast():
                # They create no key, and may leave one that exists.
                pass
            case SetMetadata() | ReplaceMetadata() | EditMetadata():
                pass
            case _:
                assert_never(operation)
    return len(certain)
