from __future__ import annotations

import json

import orjson
import pytest

from flask_agentuity import wire
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
