from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from flask_agentuity import wire
from flask_agentuity.document.merge import Merged
from flask_agentuity.errors import ServiceError
from flask_agentuity.wire import limits


def test_the_frames_are_spelled_as_the_protocol_page_spells_them() -> None:
    assert json.loads(wire.encode_granted()) == {"success": True}
    assert json.loads(wire.encode_denied("no")) == {"success": False, "error": "no"}
    assert json.loads(wire.encode_success("1")) == {"id": "1", "success": True}
    assert json.loads(wire.encode_document("1", None)) == {"id": "1", "success": True, "data": ""}
    assert json.loads(wire.encode_document("1", "é".encode()))["data"] == "é"
    assert json.loads(wire.encode_failure("1", "no")) == {
        "id": "1",
        "success": False,
        "error": "no",
    }


def test_replies_come_back_as_they_were_sent() -> None:
    assert wire.parse_reply(wire.encode_granted()) == wire.Granted()
    assert wire.parse_reply(wire.encode_denied("why")) == wire.Denied("why")
    assert wire.parse_reply(wire.encode_success("1")) == wire.Success("1")
    assert wire.parse_reply(wire.encode_document("1", b"{}")) == wire.Success("1", "{}")
    assert wire.parse_reply(wire.encode_failure("1", "why")) == wire.Failure("1", "why")


def test_an_error_text_is_always_one_that_can_be_sent() -> None:
    reply = wire.parse_reply(wire.encode_failure("1", "\ud800" * 2000))
    assert isinstance(reply, wire.Failure)
    assert reply.error.startswith("\\ud800")
    assert len(reply.error) == limits.MAX_ERROR_LENGTH


def test_a_stored_document_that_is_not_text_cannot_be_sent() -> None:
    with pytest.raises(ServiceError, match="UTF-8"):
        wire.encode_document("1", b"\xff")


@pytest.mark.parametrize("error", [None, 5, "", " ", {"code": 1}])
def test_a_failure_without_a_reason_is_a_failure_still(error: object) -> None:
    frame = orjson.dumps({"id": "1", "success": False, "error": error})
    assert wire.parse_reply(frame) == wire.Failure("1", "the service gave no reason")
    assert wire.parse_reply(b'{"success":false}') == wire.Denied("the service gave no reason")


@pytest.mark.parametrize("success", [None, "true", 1, {}])
def test_only_true_is_success(success: object) -> None:
    frame = orjson.dumps({"id": "1", "success": success})
    assert isinstance(wire.parse_reply(frame), wire.Failure)


@pytest.mark.parametrize(
    "frame",
    [b"", b"nonsense", b"[1]", b"{}", b"null", b'{"id":5,"success":true}', b"\xff", "\ud800"],
)
def test_what_says_nothing_is_malformed(frame: bytes | str) -> None:
    assert isinstance(wire.parse_reply(frame), wire.Malformed)


@pytest.mark.parametrize("data", [None, ""])
def test_no_document_has_three_spellings(data: object) -> None:
    assert wire.document_of(data) is None
    reply = wire.parse_reply(b'{"id":"1","success":true}')
    assert isinstance(reply, wire.Success)
    assert wire.document_of(reply.data) is None


@pytest.mark.parametrize("data", [{}, [], 0, False, {"state": {}}])
def test_data_that_is_no_text_is_never_an_empty_document(data: object) -> None:
    with pytest.raises(ServiceError, match="instead of text"):
        wire.document_of(data)


# The extension


def fields_of(frame: bytes) -> Any:
    reply = wire.parse_reply(frame)
    assert isinstance(reply, wire.Success | wire.Failure)
    return reply.fields


def test_the_fields_of_the_extension_are_spelled_as_their_module_says() -> None:
    assert json.loads(wire.encode_granted({"edits": 1})) == {"success": True, "edits": 1}
    restored = json.loads(wire.encode_document("1", b"{}", 7))
    assert restored == {"id": "1", "success": True, "data": "{}", "version": 7}
    merged = Merged(b'{"a":1}', (0, None), ("state.a",), ("state.b",))
    applied = wire.Applied(7, {"l": 3}, {"k": merged, "gone": Merged(None)})
    assert json.loads(wire.encode_applied("1", applied)) == {
        "id": "1",
        "success": True,
        "version": 7,
        "preceding": {"l": 3},
        "merged": {
            "k": {
                "value": {"a": 1},
                "places": [0, None],
                "dropped": ["state.a"],
                "overridden": ["state.b"],
            },
            "gone": {},
        },
    }
    conflict = wire.Conflicting(("a", "b"), ("b",), metadata=True)
    assert json.loads(wire.encode_conflict("1", "why", conflict)) == {
        "id": "1",
        "success": False,
        "error": "why",
        "conflict": {"keys": ["a", "b"], "assigned": ["b"], "metadata": True},
    }
    gone = {"id": "1", "success": False, "error": "why", "gone": True}
    assert json.loads(wire.encode_gone("1", "why")) == gone


def test_the_fields_of_the_extension_come_back() -> None:
    applied = wire.Applied(
        7, {"l": 3}, {"k": Merged(b"[1,2]", (None, 1), ("x",)), "none": Merged(None)}
    )
    assert wire.applied_of(fields_of(wire.encode_applied("1", applied))) == applied
    assert wire.version_of(fields_of(wire.encode_document("1", b"{}", 7))) == 7
    assert wire.version_of(fields_of(wire.encode_document("1", b"{}"))) == 0
    for conflict in (wire.Conflicting(("a",), ("a",)), wire.Conflicting((), (), metadata=True)):
        assert wire.conflict_of(fields_of(wire.encode_conflict("1", "why", conflict))) == conflict
    assert wire.is_gone(fields_of(wire.encode_gone("1", "why")))
    plain = fields_of(wire.encode_failure("1", "why"))
    assert wire.conflict_of(plain) is None
    assert not wire.is_gone(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"version": "7", "preceding": [], "merged": 5},
        {"version": -1, "preceding": {"l": "3", "m": -1, "n": True}, "merged": {"k": []}},
        {"version": True, "preceding": None, "merged": None},
    ],
)
def test_a_merge_that_was_applied_is_never_an_error(fields: dict[str, Any]) -> None:
    assert wire.applied_of(fields) == wire.Applied()


def test_parts_of_a_merge_that_make_no_sense_are_left_out() -> None:
    deep = json.loads("[" * 500 + "]" * 500)
    merged = {"k": {"value": deep, "places": ["a", 1], "dropped": 5, "overridden": [1, "x"]}}
    fields = {"version": 7, "preceding": {"l": 3, "m": None}, "merged": merged}
    expected = wire.Applied(7, {"l": 3}, {"k": Merged(None, (None, 1), (), ("x",))})
    assert wire.applied_of(fields) == expected


@pytest.mark.parametrize("conflict", [None, True, [], "a"])
def test_a_conflict_is_an_object(conflict: object) -> None:
    assert wire.conflict_of({"conflict": conflict}) is None


def test_keys_of_a_conflict_are_texts() -> None:
    conflict = {"keys": ["a", 5, None], "assigned": {}, "metadata": 1}
    assert wire.conflict_of({"conflict": conflict}) == wire.Conflicting(("a",))


def test_a_document_over_the_limit_is_refused_on_arrival() -> None:
    limit = wire.limits.MAX_DOCUMENT_BYTES
    assert wire.document_of("x" * limit) == b"x" * limit
    for text in ("x" * (limit + 1), "\u00e9" * (limit // 2 + 1)):
        with pytest.raises(ServiceError, match=r"1,048,57\d bytes; the limit is 1,048,576"):
            wire.document_of(text)
    assert wire.document_of("x" * (limit + 1), limit + 1)
