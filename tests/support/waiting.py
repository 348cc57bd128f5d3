"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds within which everything happens on a slow machine.
PATIENCE = 30.0


def eventually(
    condition: Callable[[], T | None], what: str = "", *, seconds: float = PATIENCE
) -> T:
    """Return the first true value of *condition*; fail if there is none for *seconds*."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} seconds: {what or condition}"
        time.sleep(0.005)
    return value
