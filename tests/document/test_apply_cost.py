from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import (
    Change,
    Increment,
    KeyOperation,
    Operation,
    PopLast,
    Push,
    Splice,
    Truncate,
)

ITEM = b'{"id":%d,"text":"some words to make it longer"}'


def seconds(make: Callable[[int, int], KeyOperation], size: int) -> float:
    """Return how long *size* operations take on lists of so many items."""
    stored = codec.join_list(ITEM % number for number in range(size))
    made = [make(number, size) for number in range(size)]
    found = []
    for _ in range(3):
        state = dict.fromkeys(["k", "l"], stored)
        started = time.process_time()
        apply_operations(state, made)
        found.append(time.process_time() - started)
    return min(found)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n, size: Push("kl"[n % 2], b"1", size), id="two keys"),
        pytest.param(lambda n, size: Push("k", b"1", size + n % 2), id="two windows"),
        pytest.param(
            lambda n, size: Push("k", b"1", size, keep_first=n % 2 * size // 2), id="two heads"
        ),
        pytest.param(
            lambda n, size: Push("k", ITEM % (n + size), size, unique="id"), id="unique items"
        ),
        pytest.param(lambda n, size: Push("k", ITEM % n, unique="id"), id="repeated items"),
        pytest.param(
            lambda n, size: (PopLast("k"), Push("k", b"1"), Truncate("k", size - n // 3))[n % 3],
            id="ends",
        ),
        pytest.param(
            lambda n, size: (Push("k", b"1"), Increment("k"), Increment("l"))[n % 3], id="numbers"
        ),
        pytest.param(
            lambda n, size: Splice("k", (Change(n, (ITEM % n,), (b"%d" % n,)),)),
            id="splices",
        ),
    ],
)
def test_the_cost_is_linear(make: Callable[[int, int], KeyOperation]) -> None:
    """Four times the operations and items may take twelve times as long; quadratic is
    sixteen."""
    # A busy machine can spoil a measurement, but it cannot make a quadratic cost look linear.
    assert any(seconds(make, 16_000) < 12 * seconds(make, 4_000) for _ in range(4))


def test_many_pushes_join_their_list_once() -> None:
    state = {"l": codec.encode(["x" * 100] * 10_000)}
    made: list[Operation] = [Push("l", b"%d" % number) for number in range(50_000)]
    assert apply_operations(state, made).skipped == []
    assert codec.decode(state["l"])[10_000:] == list(range(50_000))
