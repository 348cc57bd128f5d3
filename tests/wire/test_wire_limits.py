"""Requests with more values than are allowed, and texts that are slow to read."""

from __future__ import annotations

import re
import time

import pytest

from flask_agentuity import wire
from flask_agentuity.wire import limits

from .test_wire_requests import message

MANY = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"0,",
    "keys": b'"k":0,',
}


@pytest.mark.parametrize("kind", MANY)
def test_a_request_with_too_many_values_is_refused_without_being_parsed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_agentuity.wire.parsing.parse_message", None)
    unit = MANY[kind]
    count = limits.MAX_VALUES if kind in ("numbers", "keys") else limits.MAX_CONTAINERS
    frame = b'{"id":"r1","x":[' + unit * (count + 1)
    request = wire.parse_request(frame)
    assert isinstance(request, wire.Refusal)
    assert request.id == "r1"
    assert re.search(
        r"^The request has \d{3},\d{3} (lists and objects|values); the limit is", request.error
    )


def test_the_document_of_a_save_has_as_many() -> None:
    text = "[{}]".format(",".join(["[]"] * (limits.MAX_CONTAINERS + 1)))
    request = wire.parse_request(message(action="save", data={"thread_id": "t", "user_data": text}))
    assert isinstance(request, wire.Refusal)
    assert "user_data of a save has 100,002 lists and objects; the limit is" in request.error


def test_texts_may_hold_any_characters() -> None:
    text = '[{,"\\' * 400_000
    operation = {"op": "set", "key": "k", "value": text}
    data = {"thread_id": "t", "operations": [operation]}
    request = wire.parse_request(message(action="merge", data=data))
    assert isinstance(request, wire.MergeRequest)


@pytest.mark.parametrize("end", [b"", b"\\", b'"', b"]"])
def test_a_text_without_an_end_is_read_once(end: bytes) -> None:
    """Ten times as long takes about ten times as long, not a hundred times."""
    took = []
    for count in (20_000, 200_000):
        start = time.process_time()
        for _ in range(5):
            wire.parse_request(b'{"id":1,"x":' + b'\\"' * count + end)
        took.append(time.process_time() - start)
    assert took[1] < 40 * took[0] + 0.05


@pytest.mark.parametrize(
    "data",
    [b"[" * 120_000 + b"]" * 120_000, b"[" + b"[]," * 120_000 + b"0]", b"[" * 2000 + b"]" * 2000],
)
def test_the_id_may_come_last(data: bytes) -> None:
    request = wire.parse_request(b'{"action":"merge","data":%b, "id" : "r1" }\n' % data)
    assert isinstance(request, wire.Refusal)
    assert request.id == "r1"
