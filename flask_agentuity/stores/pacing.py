"""How work that can wait leaves time to the requests that write to the same file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

#: Seconds after which a transaction begins no more work, because others wait for it. Removing what
#: is not in the system's cache can take much longer than finding it.
_LONGEST = 0.001
#: The shortest pause between two transactions in seconds, and how many times as long as the
#: transaction it is at least.
PAUSE = 0.008
_PAUSES = 6

T = TypeVar("T")


def in_time(items: Iterable[T]) -> Iterator[T]:
    """Yield *items*, at least one, until they have taken long enough."""
    began = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began > _LONGEST:
            return


@contextmanager
def leaving_pauses() -> Iterator[None]:
    """Wait after the block for several times as long as it took, so that others can write."""
    began = time.perf_counter()
    yield
    time.sleep(max(PAUSE, _PAUSES * (time.perf_counter() - began)))
