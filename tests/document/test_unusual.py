"""JSON that orjson does not read or write."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_agentuity.document import unusual
from flask_agentuity.document.unusual import Unusual
from flask_agentuity.document.well_formed import make_well_formed, well_formed

DEEP = 3000

any_text = st.text(st.characters(exclude_categories=[]), max_size=6)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=6), children, max_size=4)
    ),
    max_leaves=12,
)


def inside(text: str, kind: str = "[") -> str:
    """Return *text* so deep that no recursive parser takes it."""
    return "[" * DEEP + text + "]" * DEEP if kind == "[" else '{"k":' * DEEP + text + "}" * DEEP


@given(values, st.sampled_from(["", "[", "{"]), st.booleans())
def test_what_is_written_is_read(value: Any, kind: str, spaced: bool) -> None:
    separators = (" , ", "\n:\t") if spaced else (",", ":")
    text = json.dumps(value, ensure_ascii=spaced, separators=separators)
    if kind:
        text = inside(text, kind)
    parsed = unusual.parse(f" {text} " if spaced else text)
    written = unusual.write(parsed)
    assert type(written) is Unusual
    for _ in range(DEEP if kind else 0):
        parsed = parsed[0] if kind == "[" else parsed["k"]
    assert parsed == value
    if not spaced:
        assert written.decode() == text


@pytest.mark.parametrize(
    "text",
    [
        *(":", "[", "[1", "[1,", "[1 2]", "[1,]", "[,1]", "]", "}", "{]", "[}", "1 2", "[1]]"),
        *('{"a"}', '{"a" 1}', '{"a":}', '{"a":1,}', "{1:1}", "{a:1}", '{"a":1 "b":2}', "{,}"),
        *("tru", "True", "NaN", "Infinity", "01", "1.", ".5", "+1", "1e400", "-", "0x1"),
        *('"a', '"\n"', '"\\x"', "'a'", "/* */ 1"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_not_json_is_refused(text: str, deep: bool) -> None:
    with pytest.raises(ValueError):
        unusual.parse("[" * DEEP + text + "]" * DEEP if deep else text)


def test_brackets_that_do_not_match_are_refused() -> None:
    for text in ("[" * DEEP, "[" * DEEP + "]" * (DEEP + 1), "[" * DEEP + "}" * DEEP):
        with pytest.raises(ValueError):
            unusual.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"\ud83d"', "\ufffd"),
        (r'"a\ude00b"', "a\ufffdb"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ude00\ud83d"', "\ufffd\ufffd"),
        (r'"\\ud83d"', "\\ud83d"),
        (r'{"\ud83d": ["\udfff"]}', {"\ufffd": ["\ufffd"]}),
        (r'{"\ud83d": 1, "\ud83e": 2}', {"\ufffd": 2}),
    ],
)
def test_half_a_surrogate_pair_is_replaced(text: str, expected: Any) -> None:
    for spelled in (text, text.encode(), json.loads(f"[{text}]")[0]):
        if isinstance(spelled, dict | str) and spelled is not text:
            assert make_well_formed(spelled) == expected
        else:
            assert unusual.parse(spelled) == expected
    # Some software writes it as if it were a character.
    if "\\\\" not in text:
        raw = text.encode().decode("unicode_escape").encode("utf-8", "surrogatepass")
        assert unusual.parse(raw) == expected


@given(any_text)
def test_well_formed_text_can_be_written(text: str) -> None:
    found = well_formed(text)
    assert found.encode().decode() == found
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert found == text
    assert orjson.loads(orjson.dumps(found)) == found


def test_a_copy_shares_no_container_with_the_value() -> None:
    value: Any = {"a": [{"b": "\ud83d"}, (1, "\ud83d")], "c": {}}
    copied = make_well_formed(value)
    assert copied == {"a": [{"b": "\ufffd"}, [1, "\ufffd"]], "c": {}}
    assert value == {"a": [{"b": "\ud83d"}, (1, "\ud83d")], "c": {}}
    assert copied["a"] is not value["a"]
    assert copied["c"] is not value["c"]


def test_large_integers_are_exact() -> None:
    for number in (2**64, -(2**63) - 1, 10**40, 2**200):
        assert unusual.parse(str(number)) == number
        assert unusual.write([number]) == b"[%d]" % number
        assert unusual.may_hold_large_integer(b'{"a": [%d]}' % number)
    assert not unusual.may_hold_large_integer(b'{"a": [123456789, "2030-01-01T00:00:00"]}')


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), [[float("inf")]]])
def test_what_json_does_not_have_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        unusual.write(value)
    with pytest.raises(TypeError):
        unusual.write([value] if not isinstance(value, list) else value)
