"""Every case recorded from the JavaScript runtime that concerns JSON, documents and merging.

Where ours does something else on purpose, a table names the case, the reason and what ours
does. A case that is in no section and no table, and a table entry without its case, fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operation_json import operation_from_json
from flask_agentuity.document.well_formed import make_well_formed
from flask_agentuity.errors import StateNotSerializable, StateTooLarge, StoreError

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).with_name("data").joinpath("vectors.json").read_text(encoding="utf-8")
)

HERE = {"merge", "stringify", "parse", "stored_documents", "size_limit"}
ELSEWHERE = {"about", "signing_pairs", "verdicts", "thread_ids"}

THREAD = "thrd_0123456789abcdef0123456789abcdef"

DAMAGE = "what is no JSON object is damage, and never overwritten (protocol.md, section 3)"
ORDER = "a state keeps the order of its keys; JavaScript moves integer-like ones to the front"
NOTHING_LOST = "an envelope's parts are objects or null, and keys beside them are kept (section 3)"
KEYS = "keys are strings; anything else is refused, not converted (section 4)"
EXACT = "integers within 64 bits are exact; JavaScript's are within 2^53 (section 4)"
FLOATS = "a float stays a float, and may be spelled in another way (section 4)"
SURROGATE = "half a surrogate pair becomes U+FFFD, as with toWellFormed() (section 4)"
NOT_JSON = "neither runtime takes this for JSON"
INFINITE = "an infinity is refused, not turned into null (section 4)"

#: note -> reason, and the document of ours or the error it raises
MERGE: dict[str, tuple[str, str | type[Exception]]] = {
    "integer-like keys move to the front": (ORDER, '{"state":{"b":1,"a":2,"10":1,"9":2}}'),
    'flat state that holds a key "metadata"': (
        NOTHING_LOST,
        '{"state":{"a":1,"b":1},"metadata":{"x":1}}',
    ),
    "stored array": (DAMAGE, StoreError),
    "stored number": (DAMAGE, StoreError),
    "stored rubbish": (DAMAGE, StoreError),
    "stored envelope whose state is an array": (
        NOTHING_LOST,
        '{"state":{"state":[7,8],"a":1}}',
    ),
    "key null in set": (KEYS, ValueError),
    "number as key": (KEYS, ValueError),
}

#: raw -> reason, and the entries and metadata that ours sees, or the error it raises
STORED: dict[str | None, tuple[str, tuple[list[Any], dict[str, Any]] | type[Exception]]] = {
    "false": (DAMAGE, StoreError),
    "0": (DAMAGE, StoreError),
    "5": (DAMAGE, StoreError),
    "[]": (DAMAGE, StoreError),
    "[1,2]": (DAMAGE, StoreError),
    "not json {{{": (DAMAGE, StoreError),
    '\ufeff{"a":1}': (DAMAGE, StoreError),
    '{"state":""}': (NOTHING_LOST, ([["state", ""]], {})),
    '{"state":false}': (NOTHING_LOST, ([["state", False]], {})),
    '{"state":"abc"}': (NOTHING_LOST, ([["state", "abc"]], {})),
    '{"state":[1,2]}': (NOTHING_LOST, ([["state", [1, 2]]], {})),
    '{"state":{"a":1},"metadata":"x"}': (
        NOTHING_LOST,
        ([["state", {"a": 1}], ["metadata", "x"]], {}),
    ),
    '{"state":"CA","zip":1}': (NOTHING_LOST, ([["state", "CA"], ["zip", 1]], {})),
    '{"metadata":{"x":1},"a":1}': (NOTHING_LOST, ([["a", 1]], {"x": 1})),
    '{"state":{"b":1,"a":2,"10":3,"9":4}}': (
        ORDER,
        ([["b", 1], ["a", 2], ["10", 3], ["9", 4]], {}),
    ),
}

#: text -> reason, and how ours writes it again, or the error it raises
PARSE: dict[str, tuple[str, str | type[Exception]]] = {
    '{"a":1.0}': (FLOATS, '{"a":1.0}'),
    '{"a":-0.0}': (FLOATS, '{"a":-0.0}'),
    '{"a":1E5}': (FLOATS, '{"a":100000.0}'),
    '{"a":1e400}': (INFINITE, ValueError),
    '{"a":9007199254740993}': (EXACT, '{"a":9007199254740993}'),
    '{"a":9223372036854775807}': (EXACT, '{"a":9223372036854775807}'),
    '{"a":-9223372036854775809}': (FLOATS, '{"a":-9.223372036854776e+18}'),
    '{"a":"\\ud83d"}': (SURROGATE, '{"a":"\ufffd"}'),
    '{"10":1,"9":2,"b":3,"a":4}': (ORDER, '{"10":1,"9":2,"b":3,"a":4}'),
    '{"a":NaN}': (NOT_JSON, ValueError),
    '{"a":"\x01"}': (NOT_JSON, ValueError),
    "{'a': 1}": (NOT_JSON, ValueError),
    '{"a":True}': (NOT_JSON, ValueError),
    '{"a":None}': (NOT_JSON, ValueError),
    '\xa0{"a":1}': (NOT_JSON, ValueError),
    "+1": (NOT_JSON, ValueError),
    ".5": (NOT_JSON, ValueError),
    "1.": (NOT_JSON, ValueError),
    "// c\n1": (NOT_JSON, ValueError),
}

#: a JavaScript expression -> reason, and how ours writes what JSON.stringify wrote, or the error
STRINGIFY: dict[str, tuple[str, str | type[Exception] | None]] = {
    '"\\ud83d"': (SURROGATE, '"\ufffd"'),
    '"\\ude00"': (SURROGATE, '"\ufffd"'),
    '"\\ud83dx"': (SURROGATE, '"\ufffdx"'),
    '({" ":1,"é":2,"😀":3,"\\ud800":4})': (SURROGATE, '{" ":1,"é":2,"😀":3,"\ufffd":4}'),
    "123456789012345680000": (FLOATS, "1.2345678901234568e+20"),
    "1e-6": (FLOATS, "1e-6"),
    "2**64": (FLOATS, "1.8446744073709552e+19"),
    "-(2**63)": (FLOATS, "-9.223372036854776e+18"),
    "undefined": ("JSON.stringify writes nothing", None),
    'Symbol("x")': ("JSON.stringify writes nothing", None),
    "1n": ("JSON.stringify throws", None),
    "a circular object": ("JSON.stringify throws", None),
}

#: What the runtime writes as something else, and ours refuses in the view.
REFUSED: dict[str, Any] = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "({a:NaN,b:Infinity,c:-Infinity,d:-0})": {"a": float("nan")},
    'Symbol("x")': object(),
    "[()=>1]": [lambda: 1],
    "new Set([1])": {1},
    "new Uint8Array([1,2])": b"\1\2",
    "123456789012345680000": 123456789012345680000,
    "2**64": 2**64,
}

#: What is the same value in Python is written the same.
WRITTEN: dict[str, Any] = {
    "({})": {},
    "[]": [],
    "null": None,
    "1": 1,
    "-1": -1,
    "false": False,
    "0.1+0.2": 0.1 + 0.2,
    "4.35": 4.35,
    "1e23": 1e23,
    "1e100": 1e100,
    "1.5e-10": 1.5e-10,
    "1e-5": 1e-5,
    "123456789.123456789": 123456789.123456789,
    "9007199254740991": 2**53 - 1,
    "9007199254740992": 2**53,
    "({b:1,a:2})": {"b": 1, "a": 2},
    "({constructor:1,toString:2})": {"constructor": 1, "toString": 2},
    '({"":1})': {"": 1},
    '"\\u0000\\u0001\\u001f"': "\0\x01\x1f",
    '"\\u007f\\u0080\\u009f"': "\x7f\x80\x9f",
    '"\\""': '"',
    '"</script>"': "</script>",
    '"<!--"': "<!--",
    '"&"': "&",
    '"\\ufffe\\uffff"': "\ufffe\uffff",
    '"\\u00a0"': "\xa0",
    '"e\\u0301"': "e\u0301",
}

STRINGIFIED = {case["js"]: case.get("stringify") for case in VECTORS["stringify"]}


def test_every_section_is_known() -> None:
    assert set(VECTORS) == HERE | ELSEWHERE


@pytest.mark.parametrize(
    ("table", "section", "name"),
    [
        (MERGE, "merge", "note"),
        (STORED, "stored_documents", "raw"),
        (PARSE, "parse", "text"),
        (STRINGIFY, "stringify", "js"),
        (REFUSED, "stringify", "js"),
        (WRITTEN, "stringify", "js"),
    ],
)
def test_every_exception_has_its_case(table: Iterable[str | None], section: str, name: str) -> None:
    assert set(table) <= {case[name] for case in VECTORS[section]}


def merged(case: dict[str, Any]) -> str:
    snapshot = codec.split_document(case["stored"], THREAD) or Snapshot({})
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    read = [operation_from_json(one) for one in case["operations"]]
    apply_operations(state, [one for one in read if one is not None])
    metadata = snapshot.metadata if case["metadata"] is None else codec.encode(case["metadata"])
    return codec.join_document(state, metadata).decode()


@pytest.mark.parametrize("case", VECTORS["merge"], ids=lambda case: case["note"])
def test_merge(case: dict[str, Any]) -> None:
    assert set(case) == {"note", "stored", "operations", "metadata", "result"}
    _, expected = MERGE.get(case["note"], ("", case["result"]))
    assert isinstance(expected, type) or (expected != case["result"]) is (case["note"] in MERGE)
    if isinstance(expected, type):
        with pytest.raises(expected):
            merged(case)
    else:
        assert merged(case) == expected


@pytest.mark.parametrize("case", VECTORS["stored_documents"], ids=lambda case: ascii(case["raw"]))
def test_stored_document(case: dict[str, Any]) -> None:
    recorded = (case["entries"], case["metadata"])
    _, expected = STORED.get(case["raw"], ("", recorded))
    assert (expected != recorded) is (case["raw"] in STORED)
    if isinstance(expected, type):
        with pytest.raises(expected, match=THREAD):
            codec.split_document(case["raw"], THREAD)
        return
    snapshot = codec.split_document(case["raw"], THREAD)
    if snapshot is None:
        assert expected == ([], {})
        return
    entries = [[key, codec.decode(value or b"")] for key, value in snapshot.encoded.items()]
    assert (entries, codec.decode(snapshot.metadata)) == expected
    assert [[key, value] for key, value in snapshot.decoded.items()] == expected[0]


@pytest.mark.parametrize("case", VECTORS["parse"], ids=lambda case: ascii(case["text"]))
def test_parse(case: dict[str, Any]) -> None:
    recorded = case.get("restringified")
    _, expected = PARSE.get(case["text"], ("", recorded))
    assert (expected != recorded) is (case["text"] in PARSE)
    if isinstance(expected, type):
        assert recorded is None or case["text"] == '{"a":1e400}'
        with pytest.raises(expected):
            codec.decode(case["text"])
    else:
        assert codec.encode(codec.decode(case["text"])).decode() == expected


@pytest.mark.parametrize("case", VECTORS["stringify"], ids=lambda case: ascii(case["js"]))
def test_what_the_runtime_wrote_is_read_and_written_again(case: dict[str, Any]) -> None:
    recorded: Any = case.get("stringify")
    _, expected = STRINGIFY.get(case["js"], ("", recorded))
    if expected is None:
        assert recorded is None
    elif isinstance(expected, type):
        with pytest.raises(expected):
            codec.decode(recorded)
    else:
        assert (expected != recorded) is (case["js"] in STRINGIFY)
        assert codec.encode(codec.decode(recorded)).decode() == expected
        # Another spelling, the same number.
        again = make_well_formed(json.loads(recorded, parse_int=float))
        assert json.loads(expected, parse_int=float) == again


@pytest.mark.parametrize("name", WRITTEN, ids=ascii)
def test_a_python_value_is_written_as_the_runtime_writes_it(name: str) -> None:
    assert codec.encode(WRITTEN[name]).decode() == STRINGIFIED[name]


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_what_the_runtime_would_lose_is_refused(name: str) -> None:
    with pytest.raises(StateNotSerializable):
        codec.encode(REFUSED[name])


@pytest.mark.parametrize("case", VECTORS["size_limit"], ids=lambda case: ascii(case["recipe"]))
def test_size_limit(case: dict[str, Any]) -> None:
    recipe = case["recipe"]
    if recipe["unit"] == "\\ud83d (raw code unit)":
        # Both send it as U+FFFD, three bytes each.
        assert len(codec.encode("\ud83d" * recipe["repeat"])) == 3 * recipe["repeat"] + 2
        return
    text = (
        recipe["prefix"]
        + recipe["unit"] * recipe["repeat"]
        + "x" * recipe["pad_x"]
        + recipe["suffix"]
    )
    assert len(text.encode()) == case["utf8_bytes"]
    snapshot = codec.split_document(text, THREAD)
    assert snapshot is not None
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    assert codec.join_document(state, snapshot.metadata) == text.encode()
    entries = sum(
        codec.entry_size(codec.encode_key(key), len(value)) for key, value in state.items()
    )
    size = codec.document_size(entries, len(snapshot.metadata))
    assert size == case["utf8_bytes"]
    if case["sent"]:
        codec.require_size(size, codec.MAX_DOCUMENT_BYTES, THREAD)
    else:
        with pytest.raises(StateTooLarge):
            codec.require_size(size, codec.MAX_DOCUMENT_BYTES, THREAD)
