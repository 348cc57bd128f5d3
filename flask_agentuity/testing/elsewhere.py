"""What the conformance tests run in other processes. It imports little, so that they start fast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from ..document.operations import Push
from ..errors import ThreadGone
from ..stores import ThreadStore
from ..stores.writing import Write, write_merged


def push_in_turn(store: ThreadStore, thread_id: str, name: int, count: int) -> None:
    for number in range(count):
        store.merge(thread_id, [Push("messages", b"[%d,%d]" % (name, number))])


def push_elsewhere(
    opener: Callable[[], ThreadStore], thread_id: str, name: int, count: int
) -> None:
    with closing(opener()) as store:
        push_in_turn(store, thread_id, name, count)


def push_until_gone(
    opener: Callable[[], ThreadStore], thread_id: str, began: float, results: Any
) -> None:
    """Push numbers, and tell which ones were acknowledged."""
    acknowledged = []
    with closing(opener()) as store:
        for number in range(100_000):
            try:
                write_merged(store, thread_id, Write([Push("l", b"%d" % number)], began=began))
            except ThreadGone:
                break
            acknowledged.append(number)
    results.put(acknowledged)
