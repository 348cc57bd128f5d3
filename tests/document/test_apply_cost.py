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


def seconds(made: list[KeyOperation], stored: bytes) -> float:
    found = []
    for _ in range(3):
        state = dict.fromkeys(["k", "l"], stored)
        started = time.process_time()
        apply_operations(state, made)
        found.append(time.process_time() - started)
    return min(found)


ITEM = b'{"id":%d,"text":"some words to make it longer"}'


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Push("kl"[n % 2], b"1", 5_000),
        lambda n: Push("k", b"1", 5_000 + n % 2),
        lambda n: Push("k", b"1", 5_000, keep_first=n % 2 * 2_500),
        lambda n: Push("k", ITEM % (n + 10_000), 5_000, unique="id"),
        lambda n: Push("k", ITEM % (n % 10), unique="id"),
        lambda n: (PopLast("k"), Push("k", b"1"), Truncate("k", 4_000))[n % 3],
        lambda n: (Push("k", b"1"), Increment("k"), Increment("l"), Increment("m"))[n % 4],
        lambda n: Splice("k", (Change(n % 4_000, (ITEM % (n % 4_000),), (ITEM % (n % 4_000),)),)),
    ],
    ids=["two keys", "two windows", "two heads", "unique", "same", "ends", "numbers", "splices"],
)
def test_the_cost_is_linear(make: Callable[[int], KeyOperation]) -> None:
    """Four times as many operations may take eight times as long; quadratic is sixteen."""
    stored = codec.join_list(ITEM % n for n in range(5_000))
    few, many = ([make(n) for n in range(count)] for count in (10_000, 40_000))
    assert seconds(many, stored) < 8 * seconds(few, stored)


def test_many_pushes_join_their_list_once() -> None:
    state = {"l": codec.encode(["x" * 100] * 10_000)}
    made: list[Operation] = [Push("l", b"%d" % number) for number in range(50_000)]
    assert apply_operations(state, made).skipped == []
    assert codec.decode(state["l"])[10_000:] == list(range(50_000))
