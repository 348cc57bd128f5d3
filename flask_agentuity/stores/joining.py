"""Joining operations of one write, because each of them would change its list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..document.operations import Clear, MetadataOperation, Operation, PopLast, Push, Truncate

#: If a write has more such operations in a row for one list, the whole list is written again.
MOST_OF_LIST = 100

ListOperation = Push | Truncate | PopLast


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
        """Join *push*; False if one window for all pushes would have another result."""
        window, joined = _window(push), self.max_records
        if max(0, push.keep_first) != self.keep_first:
            return False
        # A smaller window drops items that a later window would keep at the beginning.
        smallest = min(each for each in (window, joined, self.keep_first) if each is not None)
        if smallest < self.keep_first and window != joined:
            return False
        if joined is not None:
            # After a push with the window N, the list may be one item longer with each further
            # push.
            window = joined + 1 if window is None else min(joined + 1, window)
        self.max_records = window
        self.pushes.append(push)
        return True


@dataclass(slots=True)
class ListOperations:
    """Many operations on the list at one key. Either the first is a push, or none is."""

    key: str
    operations: list[ListOperation]


Joined = Operation | JoinedPushes | ListOperations


def join(operations: Iterable[Operation]) -> list[Joined]:
    """Join operations with one list that have the same result together.

    Operations on other keys do not affect them. Keys are created in the same order.
    """
    joined = join_pushes(operations)
    return _gather(joined) if len(joined) > MOST_OF_LIST else list(joined)


def join_pushes(operations: Iterable[Operation]) -> list[Operation | JoinedPushes]:
    """Join the pushes to each key up to the next other operation with that key."""
    joined: list[Operation | JoinedPushes] = []
    # By key, the pushes that another push can join.
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


def _gather(steps: list[Operation | JoinedPushes]) -> list[Joined]:
    # The steps for one list, by the place of the first, and the place that a step may join, by key.
    runs: dict[int, list[int]] = {}
    waiting: dict[str, int] = {}
    for place, step in enumerate(steps):
        key = _key_of_list(step)
        if key is None:
            if isinstance(step, Clear):
                waiting.clear()
            elif not isinstance(step, MetadataOperation | JoinedPushes):
                waiting.pop(step.key, None)
            continue
        first = waiting.get(key)
        # Only a push creates a key, so it is not done earlier than another key is created.
        if first is None or (_is_push(step) and not _is_push(steps[first])):
            first = waiting[key] = place
            runs[first] = []
        runs[first].append(place)
    result: list[Joined | None] = list(steps)
    for first, places in runs.items():
        if len(places) > MOST_OF_LIST:
            found = [each for place in places for each in _operations_of(steps[place])]
            for place in places:
                result[place] = None
            result[first] = ListOperations(found[0].key, found)
    return [step for step in result if step is not None]


def _key_of_list(step: Operation | JoinedPushes) -> str | None:
    if isinstance(step, JoinedPushes):
        return step.pushes[0].key
    return step.key if isinstance(step, Push | Truncate | PopLast) else None


def _is_push(step: Operation | JoinedPushes) -> bool:
    return isinstance(step, Push | JoinedPushes)


def _operations_of(step: Operation | JoinedPushes) -> Sequence[ListOperation]:
    if isinstance(step, JoinedPushes):
        return step.pushes
    assert isinstance(step, Push | Truncate | PopLast)
    return [step]


def _window(push: Push) -> int | None:
    return None if push.max_records is None else max(0, push.max_records)
