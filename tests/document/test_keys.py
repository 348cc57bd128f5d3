"""The spelling of keys, which is remembered for the first keys that an app uses."""

from __future__ import annotations

import json

import pytest

from flask_agentuity.document import codec, keys


@pytest.mark.parametrize("key", ["", "messages", "ключ", 'a "quoted" key', "x" * 500])
def test_a_key_is_decoded_as_it_was_encoded(key: str) -> None:
    for _ in range(2):
        encoded = codec.encode_key(key)
        assert json.loads(encoded) == key
        assert codec.decode_key(encoded) == key


def test_an_unpaired_surrogate_is_replaced() -> None:
    for _ in range(2):
        assert codec.encode_key("a\ud800") == '"a\ufffd"'.encode()
        assert codec.decode_key(b'"a\\ud800"') == "a\ufffd"


def test_another_spelling_of_a_known_key_is_not_remembered() -> None:
    assert codec.decode_key(b'"\\u006down"') == "mown"
    assert codec.encode_key("mown") == b'"mown"'
    assert codec.decode_key(b'"\\u006down"') == "mown"


@pytest.mark.parametrize("encoded", [b"1", b"null", b'["messages"]', b"messages"])
def test_what_is_not_a_string_is_no_key(encoded: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.decode_key(encoded)


def test_the_keys_of_visitors_take_a_bounded_amount_of_memory() -> None:
    for number in range(3_000):
        codec.encode_key(f"visitor {number}")
        codec.encode_key("long " * 100 + str(number))
    assert len(keys._encoded_keys) <= 1_000
    assert max(map(len, keys._decoded_keys)) <= 100
