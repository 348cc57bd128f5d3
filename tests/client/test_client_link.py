"""The protocol on one connection, without a socket."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from flask_agentuity.client import calls, frames
from flask_agentuity.client.address import parse_address
from flask_agentuity.client.frames import Message
from flask_agentuity.client.link import (
    MAX_NONSENSE,
    MAX_WAITING_PONGS,
    Answered,
    Authorized,
    ConnectionLost,
    Link,
)
from flask_agentuity.client.report import LossReason, Report
from flask_agentuity.client.request import PendingRequest
from flask_agentuity.client.settings import ClientSettings
from flask_agentuity.errors import AuthenticationFailed, ServiceUnavailable

from .scripted_service import KEY, THREAD

SETTINGS = ClientSettings(parse_address("ws://h"), KEY)


def text(**fields: Any) -> Message:
    return Message(frames.TEXT, json.dumps(fields).encode())


def close(code: int, reason: bytes = b"") -> Message:
    return Message(frames.CLOSE, struct.pack("!H", code) + reason)


def pending(id: str, deadline: float = 10.0) -> PendingRequest:
    return PendingRequest(id, calls.restore(THREAD, 1000), deadline, b"frame")


@pytest.fixture
def link() -> Link:
    return Link(SETTINGS, Report(), now=0)


@pytest.fixture
def authorized(link: Link) -> Link:
    link.control.clear()
    assert link.take(text(success=True, edits=1), 0) == Authorized({"edits": 1})
    return link


def test_the_key_is_the_first_frame(link: Link) -> None:
    (frame,) = link.control
    key, masked = frame[2:6], frame[6:]
    content = bytes(byte ^ key[place % 4] for place, byte in enumerate(masked))
    assert json.loads(content) == {"authorization": KEY}
    assert not link.is_authorized
    # Nothing is timed before: the attempt has a deadline.
    assert link.due == float("inf")


def test_replies_find_their_requests(authorized: Link) -> None:
    first, second = pending("a"), pending("b")
    authorized.expect([first, second], 0)
    answered = authorized.take(text(id="b", success=True, data="{}"), 1)
    assert isinstance(answered, Answered)
    assert answered.request is second
    assert authorized.take(text(id="b", success=True), 1) is None
    assert authorized.answered
    assert authorized.replies.give_up_all() == [first]


@pytest.mark.parametrize(
    ("message", "reason", "error", "words"),
    [
        (text(success=False, error="No."), LossReason.DENIED, AuthenticationFailed, "No."),
        (close(1008, b"bad key"), LossReason.DENIED, AuthenticationFailed, "bad key"),
        (close(1001, b"bye"), LossReason.CLOSED, ServiceUnavailable, "1001 (bye)"),
        (Message(frames.CLOSE, b""), LossReason.CLOSED, ServiceUnavailable, "was closed"),
    ],
)
def test_the_end_before_the_authorization(
    link: Link, message: Message, reason: LossReason, error: type[Exception], words: str
) -> None:
    with pytest.raises(ConnectionLost) as raised:
        link.take(message, 1)
    lost = raised.value
    assert (lost.reason, type(lost.error)) == (reason, error)
    assert lost.refused is (error is AuthenticationFailed)
    assert words in str(lost.error)
    # A close frame is answered by one.
    assert (lost.farewell is not None) is (message.opcode == frames.CLOSE)


def test_a_close_for_policy_after_the_authorization_is_no_refused_key(authorized: Link) -> None:
    with pytest.raises(ConnectionLost) as raised:
        authorized.take(close(1008, b"too slow"), 1)
    assert raised.value.reason is LossReason.CLOSED


def test_too_much_nonsense_ends_the_connection(authorized: Link) -> None:
    authorized.expect([pending("a")], 0)
    for number in range(MAX_NONSENSE - 1):
        authorized.take(text(id=f"unknown-{number}", success=True), 1)
    # An answer in between starts the count from the beginning.
    authorized.take(text(id="a", success=True), 1)
    for number in range(MAX_NONSENSE - 1):
        authorized.take([Message(frames.TEXT, b"["), Message(frames.BINARY, b"")][number % 2], 1)
    with pytest.raises(ConnectionLost) as raised:
        authorized.take(Message(frames.TEXT, b"["), 1)
    assert raised.value.reason is LossReason.PROTOCOL_ERROR


def test_pings_are_answered_but_do_not_fill_the_memory(authorized: Link) -> None:
    for number in range(100):
        authorized.take(Message(frames.PING, b"%d" % number), 1)
    assert len(authorized.control) == MAX_WAITING_PONGS


def test_a_silent_link_sends_a_ping_and_is_lost(authorized: Link) -> None:
    authorized.beat(1)
    assert 18 <= authorized.due <= 22
    ping_at = authorized.due
    authorized.beat(ping_at)
    assert len(authorized.control) == 1
    assert authorized.due == ping_at + SETTINGS.pong_timeout
    with pytest.raises(ConnectionLost, match="silent for") as raised:
        authorized.beat(authorized.due)
    assert raised.value.reason is LossReason.SILENT


def test_a_pong_gives_the_round_trip() -> None:
    report = Report()
    link = Link(SETTINGS, report, now=0)
    link.take(text(success=True), 0)
    link.beat(25)
    link.hear(25.5)
    link.take(Message(frames.PONG, b""), 25.5)
    assert report.round_trip == 0.5
    assert report.snapshot()["pongs"] == 1


def test_timers_are_due_when_the_first_of_them_is(authorized: Link) -> None:
    authorized.beat(1)
    authorized.expect([pending("a", deadline=11)], 1)
    # The connection is probed before the request expires.
    assert authorized.due == 1 + SETTINGS.probe_after
    authorized.expect([pending("b", deadline=1.5)], 1)
    assert authorized.due == 1.5
    assert [request.id for request in authorized.expire(11)] == ["a", "b"]


def test_requests_expire_at_their_own_time(authorized: Link) -> None:
    first, second, third = (pending(str(each), deadline=each) for each in (10, 3, 7))
    authorized.expect([first, second, third], 0)
    assert authorized.expire(3) == [second]
    authorized.beat(3)
    authorized.hear(6)
    authorized.beat(6)
    assert authorized.due == 7
    assert authorized.expire(7) == [third]
    assert authorized.expire(7) == []
