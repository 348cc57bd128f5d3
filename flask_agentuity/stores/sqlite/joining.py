"""Pushes of one write that are done as one, because each changes the rows of its list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...document.operations import Clear, MetadataOperation, Operation, Push


@dataclass(init=False, slots=True)
class JoinedPushes:
    """Pushes to one key. The result is that of all items pushed together with one window."""

    pushes: list[Push]
    max_records: int | None
    keep_first: int

    def __init__(self, first: Push) -> None:
        self.pushes = [first]
        self.max_records = _window(first)
        self.keep_first = max(0, first.keep_first)

    def take(self, push: Push) -> bool:
        """Join *push*; False if one window for all would have another result."""
        window, joined = _window(push), self.max_records
        if max(0, push.keep_first) != self.keep_first:
            return False
        # A window that is smaller drops items that a later one would keep as the first ones.
        smallest = min(each for each in (window, joined, self.keep_first) if each is not None)
        if smallest < self.keep_first and window != joined:
            return False
        if joined is not None:
            # After a push with the window N, each further one lets the list have one item more.
            window = joined + 1 if window is None else min(joined + 1, window)
        self.max_records = window
        self.pushes.append(push)
        return True


def join_pushes(operations: Iterable[Operation]) -> list[Operation | JoinedPushes]:
    """Join the pushes to each key up to the next other operation with that key.

    Operations with other keys have no influence on them. Keys are created in the same order.
    """
    joined: list[Operation | JoinedPushes] = []
    # The pushes that a further one can join, by key.
    waiting: dict[str, JoinedPushes] = {}
    for operation in operations:
        if isinstance(operation, Push) and operation.unique is None:
            run = waiting.get(operation.key)
            if run is None or not run.take(operation):
                run = waiting[operation.key] = JoinedPushes(operation)
                joined.append(run)
            continue
        if isinstance(operation, Clear):
            waiting.clear()
        elif not isinstance(operation, MetadataOperation):
            waiting.pop(operation.key, None)
        joined.append(operation)
    return joined


def _window(push: Push) -> int | None:
    return None if push.max_records is None else max(0, push.max_records)
