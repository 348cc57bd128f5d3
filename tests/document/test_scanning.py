"""A document with many keys is split as any other, in less memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.packed import PackedState
from flask_agentuity.document.scanning import split_many_keys
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


@given(OBJECTS, OBJECTS, st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_it_splits_what_others_have_written(
    state: dict[str, Any], metadata: dict[str, Any], escaped: bool, separators: tuple[str, str]
) -> None:
    parts = {"state": state, "metadata": metadata} if metadata else {"state": state}
    text = json.dumps(parts, ensure_ascii=escaped, separators=separators)
    document = text.encode(errors="surrogatepass") if escaped else text.encode(errors="replace")
    expected, found = codec.split_document(document, ID), split_many_keys(document, ID)
    if expected is None or found is None:
        assert found is expected
        return
    assert list(found.encoded.items()) == list(expected.encoded.items())
    assert found.metadata == expected.metadata


def test_a_usual_document_is_packed() -> None:
    found = split_many_keys(b'{"state":{"a":[1,{"b":null}],"\xc3\xa9":1.0},"metadata":{"m":1}}', ID)
    assert found is not None
    assert isinstance(found.encoded, PackedState)
    assert dict(found.encoded) == {"a": b'[1,{"b":null}]', "é": b"1.0"}
    assert found.metadata == b'{"m":1}'


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (b'{"state":{"a":1,"a":2,"b":3}}', {"a": b"2", "b": b"3"}),
        (b'{"state":{"a":123456789012345678901}}', {"a": b"123456789012345678901"}),
        (b'{"state":{"a":"\\ud83d"}}', {"a": '"\ufffd"'.encode()}),
        (b'{"state":{"\\ud83d":1}}', {"\ufffd": b"1"}),
        (b'{"state":{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}}", None),
        (b'{"state":{"a":1},"metadata":{},"more":2}', {"a": b"1", "more": b"2"}),
        (b'{"state":{"a":1},"metadata":3}', {"state": b'{"a":1}', "metadata": b"3"}),
        (b'{"a":1}', {"a": b"1"}),
    ],
)
def test_unusual_documents_are_split_in_the_usual_way(
    document: bytes, state: dict[str, bytes] | None
) -> None:
    found, expected = split_many_keys(document, ID), codec.split_document(document, ID)
    assert found is not None
    assert expected is not None
    assert list(found.encoded.items()) == list(expected.encoded.items())
    assert found.metadata == expected.metadata
    if state is not None:
        assert dict(found.encoded) == state


@pytest.mark.parametrize(
    "document",
    [
        b'{"state":{"a":1}',
        b'{"state":{"a":1,}}',
        b'{"state":{"a":NaN}}',
        b'{"state":{"a":1}}}',
        b'{"state":{"a" 1}}',
        b'{"state":{1:1}}',
        b'{"state":{"a":1e999}}',
        b'{"state":{"a":"\xff"}}',
    ],
)
def test_a_damaged_document_is_reported(document: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        split_many_keys(document, ID)


def test_it_takes_a_multiple_of_the_document() -> None:
    document = codec.join_document({f"k{number:05}": b"1" for number in range(5_000)})
    tracemalloc.start()
    try:
        found = split_many_keys(document, ID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert len(found.encoded) == 5_000
    assert peak <= 5 * len(document)
