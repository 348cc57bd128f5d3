"""Redis adds whole numbers that a double holds exactly; the rest is added in Python."""

from __future__ import annotations

import logging

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Delete, Increment, Operation, Set
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Conflict, Write, Written, write_merged


def value_of(store: RedisStore, thread_id: str) -> bytes | None:
    snapshot = store.read(thread_id)
    return snapshot.encoded.get("n") if snapshot else None


@pytest.mark.parametrize(
    ("stored", "by", "expected"),
    [
        (None, 1, b"1"),
        (None, 0, b"0"),
        (5, 3, b"8"),
        (5, -5, b"0"),
        (-5, 2, b"-3"),
        (99_999_999, 1, b"100000000"),
        (2**53 - 2, 1, b"9007199254740991"),
        (-(2**53) + 2, -1, b"-9007199254740991"),
        (2**52, 2**52 - 1, b"9007199254740991"),
    ],
)
def test_exact_sums_are_made_in_redis(
    store: RedisStore, thread_id: str, stored: int | None, by: int, expected: bytes
) -> None:
    if stored is not None:
        store.merge(thread_id, [Set("n", codec.encode(stored))])
    assert isinstance(store.write(thread_id, Write([Increment("n", by)])), Written)
    assert value_of(store, thread_id) == expected
    # Several in one write, also after others on the same key.
    operations: list[Operation] = [Set("n", b"5"), Increment("n", -9), Increment("n", 2)]
    assert isinstance(store.write(thread_id, Write(operations)), Written)
    assert value_of(store, thread_id) == b"-2"
    operations = [Increment("n", 1), Delete("n"), Increment("n", 7)]
    assert isinstance(store.write(thread_id, Write(operations)), Written)
    assert value_of(store, thread_id) == b"7"


@pytest.mark.parametrize(
    ("stored", "by", "expected"),
    [
        (2**53 - 1, 1, b"9007199254740992"),
        (2**53, 1, b"9007199254740993"),
        (2**53 + 1, -1, b"9007199254740992"),
        (1, 2**53 - 1, b"9007199254740992"),
        (2**63, 2**62, b"13835058055282163712"),
        (1, 0.1, b"1.1"),
        (0.1, 0.2, b"0.30000000000000004"),
        (1.5, 1, b"2.5"),
        (1e300, 1, codec.encode(1e300)),
        (None, 0.5, b"0.5"),
        (-0.0, 0, b"0.0"),
    ],
)
def test_other_sums_are_made_in_python(
    store: RedisStore, thread_id: str, stored: float | None, by: float, expected: bytes
) -> None:
    if stored is not None:
        store.merge(thread_id, [Set("n", codec.encode(stored))])
    before = store.restore(thread_id)
    outcome = store.write(thread_id, Write([Increment("n", by), Set("other", b"1")]))
    assert outcome == Conflict({"n"}, frozenset())
    assert store.restore(thread_id) == before
    write_merged(store, thread_id, Write([Increment("n", by)]))
    assert value_of(store, thread_id) == expected
    write_merged(store, thread_id, Write([Set("n", b"0.5"), Increment("n", 0.25)]))
    assert value_of(store, thread_id) == b"0.75"


@pytest.mark.parametrize(
    "value", [b'"5"', b"true", b"null", b"[5]", b'{"n":5}', b'"%b"' % (b"x" * 2_000)]
)
@pytest.mark.parametrize("by", [1, 0.5])
def test_what_is_no_number_is_left_alone(
    store: RedisStore, thread_id: str, value: bytes, by: float, caplog: pytest.LogCaptureFixture
) -> None:
    store.merge(thread_id, [Set("n", value)])
    with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
        outcome = store.write(thread_id, Write([Set("a", b"1"), Increment("n", by)]))
    assert isinstance(outcome, Written)
    assert value_of(store, thread_id) == value
    assert len(caplog.records) == 1
    assert thread_id in caplog.text
