"""A long value is found to be JSON piece by piece, exactly as if it were decoded as a whole."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_agentuity.document import codec, validity
from flask_agentuity.document.validity import require_json

TEXTS = st.sampled_from(["", "a", '","', "],[", "},{", '\\"', "\\", ',"', "é"])
VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | st.just(2**70) | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "memory" not in request.node.name:
        monkeypatch.setattr(validity, "_PIECE", 3)


def is_json(encoded: bytes) -> bool:
    try:
        codec.decode(encoded)
    except ValueError:
        return False
    return True


def is_accepted(encoded: bytes) -> bool:
    try:
        require_json(encoded)
    except ValueError:
        return False
    return True


@given(VALUES, st.booleans())
def test_json_is_accepted(value: Any, compact: bool) -> None:
    separators = (",", ":") if compact else (", ", " : ")
    assert is_accepted(json.dumps(value, separators=separators).encode())


@given(
    VALUES,
    st.integers(0, 200),
    st.integers(0, 3),
    st.sampled_from([b"", b",", b"]", b"[", b"}", b'"', b"\\", b"x", b" ", b",    ,", b"\xff"]),
)
@example([1, 2, 3, 4, 5, 6, 7, 8], 16, 0, b",")
@example([1, 2, 3, 4, 5, 6, 7, 8], 1, 0, b"                       ,")
def test_damage_is_found(value: Any, place: int, gone: int, put: bytes) -> None:
    encoded = json.dumps(value, separators=(",", ":")).encode()
    place %= len(encoded) + 1
    damaged = encoded[:place] + put + encoded[place + gone :]
    assert is_accepted(damaged) == is_json(damaged)


@pytest.mark.parametrize(
    "value",
    [
        list(range(20_000)),
        ["a"] * 20_000,
        [[1]] * 20_000,
        [{"a": 1}] * 20_000,
        {f"k{number}": number for number in range(20_000)},
        {f"k{number}": "x" * 480 for number in range(500)},
    ],
    ids=["numbers", "texts", "lists", "objects", "members", "long members"],
)
def test_the_memory_is_bounded(value: Any) -> None:
    encoded = codec.encode(value)
    tracemalloc.start()
    try:
        require_json(encoded)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400_000
