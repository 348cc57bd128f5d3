"""The form of thread ids, and what is said of other values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.errors import InvalidThreadId
from flask_agentuity.web.thread_ids import is_thread_id, make_thread_id, require_thread_id

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("data", "vectors.json").read_text(encoding="utf-8")
)["thread_ids"]


def test_the_vectors_are_all_here() -> None:
    assert len(VECTORS) == 27


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: ascii(case["thread_id"]))
def test_thread_ids(case: dict[str, Any]) -> None:
    assert is_thread_id(case["thread_id"]) is case["valid"]
    if case["valid"]:
        assert require_thread_id(case["thread_id"]) == case["thread_id"]
    else:
        with pytest.raises(InvalidThreadId) as caught:
            require_thread_id(case["thread_id"])
        assert repr(case["thread_id"]) in str(caught.value)
        assert "[a-zA-Z0-9-], 32 to 64 characters" in str(caught.value)


def test_made_ids_are_ones_that_every_runtime_takes() -> None:
    made = {make_thread_id() for _ in range(100)}
    assert len(made) == 100
    for thread_id in made:
        assert is_thread_id(thread_id)
        assert len(thread_id) == 37
        assert thread_id[5:] == thread_id[5:].lower()
        assert int(thread_id[5:], 16) >= 0


@pytest.mark.parametrize("value", [None, 5, b"thrd_" + b"a" * 32, "x" * 10_000, ""])
def test_what_is_no_text_of_the_right_length_is_no_id(value: Any) -> None:
    with pytest.raises(InvalidThreadId) as caught:
        require_thread_id(value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "it is a NoneType, not a string"),
        ("", "it is empty"),
        ("x" * 40, "it does not begin with thrd_"),
        ("sess_" + "a" * 32, "it does not begin with thrd_"),
        ("thrd_" + "a" * 26, "it is too short, with 31 characters"),
        ("thrd_" + "a" * 60, "it is too long, with 65 characters"),
        ("thrd_" + "a" * 5_000, "it is too long, with 5,005 characters"),
        ("thrd_" + "a" * 31 + "_", "it contains characters that are not allowed"),
        ("thrd_" + "a" * 31 + "\n", "it contains characters that are not allowed"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_an_invalid_id_is_refused_with_the_rule_that_it_breaks(value: Any, fault: str) -> None:
    with pytest.raises(InvalidThreadId) as caught:
        require_thread_id(value)
    assert f"is not a thread id: {fault}. The rule: thrd_" in str(caught.value)
