"""A packed state is a mapping like the dictionary that it replaces."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.packed import PackedState, pack, pack_items, pack_mapping

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.sampled_from(
    [b"1", b"null", b"true", b'"\\":"', b'{"a":[1]}', b'"\xf0\x9f\x98\x80"', None]
)
STATES = st.dictionaries(KEYS, VALUES, max_size=30)


@given(STATES, KEYS)
def test_it_has_what_a_dictionary_has(state: dict[str, bytes | None], other: str) -> None:
    packed = pack_mapping(state)
    assert packed == state
    assert state == packed
    assert len(packed) == len(state)
    assert list(packed) == list(state)
    assert list(packed.items()) == list(state.items())
    assert list(packed.values()) == list(state.values())
    assert (None in packed.values()) == (None in state.values())
    assert list(packed.unfetched()) == [key for key, value in state.items() if value is None]
    for place, key in enumerate(state):
        assert packed.place_of(key) == place
        assert packed.key_at(place) == key
        assert packed[key] == state[key]
    assert (other in packed) == (other in state)
    assert packed.get(other) == state.get(other)
    assert pack_mapping(packed) is packed


@given(STATES, st.randoms(use_true_random=False), st.integers(1, 2**38))
def test_numbers_give_the_order(
    state: dict[str, bytes | None], random: random.Random, step: int
) -> None:
    members = [
        (number * step // 30, codec.encode_key(key), value)
        for number, (key, value) in enumerate(state.items())
    ]
    expected = [codec.decode_key(key) for _, key, _ in sorted(members, key=lambda each: each[0])]
    random.shuffle(members)
    if len({number for number, _, _ in members}) == len(members):
        assert list(pack(members)) == expected
    assert pack(members) == state


def test_many_keys_are_put_in_order() -> None:
    numbers = list(range(5_000))
    random.Random(1).shuffle(numbers)
    packed = pack((number, b'"%d"' % number, b"%d" % number) for number in numbers)
    assert list(packed) == [str(number) for number in range(5_000)]
    assert packed["4321"] == b"4321"


@given(
    st.dictionaries(KEYS, VALUES.filter(bool), max_size=20), st.sampled_from([b"{}", b'{"m":1}'])
)
def test_it_makes_the_same_document(state: dict[str, bytes], metadata: bytes) -> None:
    expected = codec.join_document(state, metadata)
    assert codec.join_document(pack_mapping(state), metadata) == expected


def test_a_key_is_found_however_it_is_spelled() -> None:
    packed = pack([(1, b'"\\u006down"', b"1"), (2, b'"a\\ud800"', b"2")])
    assert dict(packed) == {"mown": b"1", "a\ufffd": b"2"}
    assert packed["mown"] == b"1"
    assert "a\ud800" not in packed
    assert packed.place_of(1) is None


def test_a_number_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="9223372036854775808"):
        pack([(2**63, b'"a"', b"1")])


def test_it_takes_little_more_than_its_text() -> None:
    count = 10_000
    tracemalloc.start()
    try:
        packed = pack_items((f"k{number:05}", b"1") for number in range(count))
        taken, peak = tracemalloc.get_traced_memory()
        assert "k00001" in packed
        with_slots, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = len(codec.join_document(packed))
    assert isinstance(packed, PackedState)
    assert packed.nbytes <= taken <= 2.5 * size
    assert with_slots <= 3 * size
    assert peak <= 4 * size
