"""Requests that the JSON parser refuses get their one reply, and leave little in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from flask_agentuity.service import ThreadService
from flask_agentuity.service.limited_log import LimitedLog
from flask_agentuity.wire import limits

from .peers import AUTHORIZED, KEY, THREAD, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

DEEP = "[" * 1_100 + "]" * 1_100

REQUESTS = {
    "merge": '{"id":"1","action":"merge","data":{"thread_id":"%s","operations":[%s]}}',
    "edits": '{"id":"1","action":"merge","data":{"thread_id":"%s","age":0,"operations":[%s]}}',
}
VALUE = '{"op":"set","key":"k","value":%s}'


@pytest.mark.parametrize("form", REQUESTS)
def test_half_an_emoji_is_replaced(serve: Serve, connect: Connect, form: str) -> None:
    peer = connect(serve())
    peer.raw(REQUESTS[form] % (THREAD, VALUE % r'"half \ud83d and whole \ud83d\ude00"'))
    assert peer.receive()["success"] is True
    assert json.loads(peer.restore())["state"] == {"k": "half \ufffd and whole \U0001f600"}


def test_half_an_emoji_in_a_document(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    peer.restore()
    reply = peer.call("save", user_data=r'{"state":{"\ud83d":"\ude00"}}', metadata={"m": "\ud83d"})
    assert reply["success"] is True
    assert json.loads(peer.restore()) == {
        "state": {"\ufffd": "\ufffd"},
        "metadata": {"m": "\ufffd"},
    }


@pytest.mark.parametrize("form", REQUESTS)
@pytest.mark.parametrize("depth", [255, 1_000, 1_024, 1_025, 1_100, 100_000])
def test_deep_nesting_is_refused(serve: Serve, connect: Connect, form: str, depth: int) -> None:
    peer = connect(serve())
    deep = "[" * depth + "]" * depth
    for operation in (VALUE % deep, deep):
        peer.raw(REQUESTS[form] % (THREAD, operation))
        reply = peer.receive()
        # With the extension, what was stored can be written again.
        is_taken = form == "edits" and depth <= 1_000 and operation is not deep
        assert (reply["id"], reply["success"]) == ("1", is_taken)
    # The runtime skips operations that it does not know; not those it cannot read.
    peer.raw(REQUESTS[form] % (THREAD, f'{{"op":{deep}}}'))
    reply = peer.receive()
    assert reply["id"] == "1"
    assert reply["success"] is (form == "merge" and depth <= 1_000)
    assert (peer.restore() == "") is not (form == "edits" and depth <= 1_000)


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":"1","action":"save","data":{"thread_id":"t","user_data":"","metadata":{"m":DEEP}}}',
        '{"id":"1","action":"save","data":{"thread_id":"t","user_data":DEEP}}',
        '{"id":"1","action":"restore","data":{"thread_id":DEEP}}',
        '{"id":"1","action":DEEP}',
        '{"id":"1","more":DEEP,"action":"restore","data":{"thread_id":"t"}}',
        '{"action":"restore","data":{"thread_id":"t","more":DEEP},"id":"1"}',
    ],
)
def test_deep_nesting_anywhere_is_refused(serve: Serve, connect: Connect, frame: str) -> None:
    peer = connect(serve())
    peer.raw(frame.replace("DEEP", DEEP))
    reply = peer.receive()
    assert (reply["id"], reply["success"]) == ("1", False)
    assert "too deeply nested" in reply["error"]
    assert peer.restore() == ""


def test_a_document_that_nests_deep_is_stored(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    document = f'{{"state":{{"a":{DEEP}}}}}'
    assert peer.call("save", user_data=document)["success"] is True
    assert peer.restore() == document


def test_refusals_are_logged_now_and_then_and_without_content(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve()
    with caplog.at_level(logging.DEBUG, logger="flask_agentuity.service"):
        for _ in range(3):
            peer = connect(service)
            for _ in range(100):
                peer.send({"id": "1", "action": "secret content", "data": {}})
                assert peer.receive()["success"] is False
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "was refused" in warnings[0].getMessage()
    assert not any("secret" in record.getMessage() for record in caplog.records)


def test_a_limited_log_counts_what_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = LimitedLog(logging.getLogger("tested"), 10.0, lambda: now[0])
    for second in (0, 1, 9.9, 10, 25, 26):
        now[0] = second
        log.warn("at %d", second)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["at 0", "at 10 (2 more since the last such line)", "at 25"]


@pytest.mark.parametrize("over", [0, 1, 1_000_000])
def test_the_first_frame_is_small(serve: Serve, connect: Connect, over: int) -> None:
    peer = connect(serve(), key=None)
    frame = json.dumps({"authorization": KEY}).ljust(limits.MAX_AUTHORIZATION_BYTES + over)
    peer.raw(frame)
    reply = peer.receive()
    if over:
        assert reply["success"] is False
        assert "4,096 bytes" in reply["error"]
        assert peer.closed_with()[0] == 1008
    else:
        assert reply == AUTHORIZED
        assert peer.restore() == ""


@pytest.mark.parametrize(
    "wrong",
    ["1e309", "-1e400", "9" * 310, "9" * 5_000, "NaN", "-Infinity", "nonsense", '"no end', "[}"],
)
@pytest.mark.parametrize("form", REQUESTS)
def test_values_that_cannot_be_read_get_a_reply(
    serve: Serve, connect: Connect, form: str, wrong: str
) -> None:
    peer = connect(serve())
    peer.raw(REQUESTS[form] % (THREAD, VALUE % wrong))
    reply = peer.receive()
    assert (reply["id"], reply["success"]) == ("1", False)
    assert "JSON that can be read" in reply["error"]
    assert peer.restore() == ""


@pytest.mark.parametrize("after", [" x", "}", '{"id":"2"}', "\0"])
def test_text_after_a_request_gets_one_reply(serve: Serve, connect: Connect, after: str) -> None:
    peer = connect(serve())
    peer.raw('{"id":"1","action":"restore","data":{"thread_id":"t","id":"3"}}' + after)
    assert peer.receive()["id"] == "1"
    assert peer.restore() == ""


@pytest.mark.parametrize(
    ("id", "repeated"),
    [
        ("null", None),
        ("true", True),
        ('["x"]', None),
        ('{"a":1}', None),
        (DEEP, None),
        ("1e400", None),
        ("9" * 310, None),
        ("NaN", None),
    ],
)
def test_ids_that_are_no_text(serve: Serve, connect: Connect, id: str, repeated: object) -> None:
    peer = connect(serve())
    peer.raw(f'{{"id":{id},"action":"restore","data":{{"thread_id":"t"}}}}')
    reply = peer.receive()
    assert reply["id"] is repeated
    assert reply["success"] is False
    assert peer.restore() == ""


def test_an_infinite_integer_in_a_document_is_refused(serve: Serve, connect: Connect) -> None:
    peer = connect(serve())
    digits, largest = "9" * 310, str(int(1.7976931348623157e308))
    for number in (digits, "-" + digits, "1e400"):
        reply = peer.call("save", user_data=f'{{"state":{{"a":[{number}]}}}}')
        assert reply["success"] is False
    document = f'{{"state":{{"a":"{digits}","b":{largest},"c":0.{digits}}}}}'
    assert peer.call("save", user_data=document)["success"] is True
    assert json.loads(peer.restore())["state"]["b"] == int(largest)


HOURS = 36_525 * 24


@pytest.mark.parametrize("name", ["age", "at"])
@pytest.mark.parametrize("seconds", ["1e308", "1" + "0" * 30, f"{HOURS}0000"])
def test_a_time_that_no_store_can_count_is_refused(
    serve: Serve, connect: Connect, name: str, seconds: str
) -> None:
    """Redis counts microseconds in integers of 64 bits."""
    peer = connect(serve())
    data = f'"thread_id":"{THREAD}","age":0,"{name}":{seconds}'
    peer.raw(f'{{"id":"1","action":"merge","data":{{{data},"operations":[]}}}}')
    reply = peer.receive()
    assert (reply["id"], reply["success"]) == ("1", False)
    assert f"The {name} must be a number from " in reply["error"]
