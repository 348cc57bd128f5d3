"""A document with many keys is split as any other, in less memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec, packed, splitting
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.packed import PackedState
from flask_agentuity.errors import StoreError

ID = "thrd_0123456789abcdef0123456789abcdef"
TEXTS = st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)


@pytest.fixture(autouse=True)
def _few_keys_are_many(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "memory" not in request.node.name:
        monkeypatch.setattr(packed, "MANY_KEYS", 0)
        monkeypatch.setattr(splitting, "_PIECE", 3)


def split_as_a_whole(document: bytes) -> Snapshot | None:
    # Texts are always split as a whole.
    return codec.split_document(document.decode(), ID)


def assert_equal(found: Snapshot | None, expected: Snapshot | None) -> None:
    if expected is None or found is None:
        assert found is expected
        return
    assert list(found.encoded.items()) == list(expected.encoded.items())
    assert found.metadata == expected.metadata


@given(OBJECTS, OBJECTS, st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_it_splits_what_others_have_written(
    state: dict[str, Any], metadata: dict[str, Any], escaped: bool, separators: tuple[str, str]
) -> None:
    parts = {"state": state, "metadata": metadata} if metadata else {"state": state}
    text = json.dumps(parts, ensure_ascii=escaped, separators=separators)
    document = text.encode(errors="replace")
    assert_equal(codec.split_document(document, ID), split_as_a_whole(document))


@given(OBJECTS, st.integers(0, 100), st.sampled_from([b",", b'"', b"}", b"\\", b"", b',"state":{']))
def test_damage_is_found_as_in_a_whole(state: dict[str, Any], place: int, put: bytes) -> None:
    document = json.dumps({"state": state}, separators=(",", ":")).encode()
    place %= len(document)
    document = document[:place] + put + document[place + 1 :]
    try:
        expected = split_as_a_whole(document)
    except StoreError:
        with pytest.raises(StoreError, match="damaged"):
            codec.split_document(document, ID)
    else:
        assert_equal(codec.split_document(document, ID), expected)


def test_a_usual_document_is_packed() -> None:
    document = b'{"state":{"a":[1,{"b":null,"c":2}],"\xc3\xa9":1.0,"f":3},"metadata":{"m":1}}'
    found = codec.split_document(document, ID)
    assert found is not None
    assert isinstance(found.encoded, PackedState)
    assert dict(found.encoded) == {"a": b'[1,{"b":null,"c":2}]', "é": b"1.0", "f": b"3"}
    assert found.metadata == b'{"m":1}'


@pytest.mark.parametrize(
    "document",
    [
        b'{"state":{"a":1,"a":2,"b":3}}',
        b'{"state":{"a":1,"b":3,"c":4,"d":4,"e":5,"a":2}}',
        b'{"state":{"a":123456789012345678901,"b":2}}',
        b'{"state":{"a":1.0e0,"b":12345678901234567890,"c":-1234567890123456789}}',
        b'{"state":{"a":"\\ud83d","b":1}}',
        b'{"state":{"\\ud83d":1,"b":1}}',
        b'{"state":{"a":' + b"[" * 2_000 + b"]" * 2_000 + b',"b":1}}',
        b'{"state":{"a":1,"b":2},"metadata":{},"more":2}',
        b'{"state":{"a":1,"b":2},"metadata":3}',
        b'{"state":{"a":1,"b":2},"metadata":null}',
        b'{"state":{"a":1,"b":2}} ',
        b'{"a":1,"b":2}',
    ],
)
def test_unusual_documents_are_split_as_a_whole(document: bytes) -> None:
    assert_equal(codec.split_document(document, ID), split_as_a_whole(document))


def test_it_takes_a_multiple_of_the_memory_of_the_document() -> None:
    document = codec.join_document({f"k{number:05}": b"1" for number in range(10_000)})
    tracemalloc.start()
    try:
        found = codec.split_document(document, ID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert len(found.encoded) == 10_000
    assert peak <= 5 * len(document)
