"""Run something in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from ...stores import ThreadStore
from .stored import decoded
from .suite import PATIENCE


def assert_all_in_order(
    store: ThreadStore, thread_id: str, names: Collection[int], count: int
) -> None:
    messages = decoded(store, thread_id)["messages"]
    assert len(messages) == len(names) * count
    for name in names:
        mine = [number for writer, number in messages if writer == name]
        assert mine == list(range(count))


def with_all_done(run: Callable[[int], object], names: Collection[int]) -> None:
    """Run *run* in one thread for each of *names*, and raise what any of them raised."""
    failures: list[BaseException] = []

    def guarded(name: int) -> None:
        try:
            run(name)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]
