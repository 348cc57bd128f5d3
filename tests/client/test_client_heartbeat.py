"""The detection of a connection that no longer responds."""

from __future__ import annotations

from flask_agentuity.client.heartbeat import Beat, Heartbeat


def heartbeat() -> Heartbeat:
    return Heartbeat(20, 10, 2, now=0, uniform=lambda low, high: 1.0)


def test_a_silent_connection_is_pinged_and_then_lost() -> None:
    beat = heartbeat()
    assert beat.beat(19.9, pending=False) is Beat.REST
    assert beat.beat(20, pending=False) is Beat.PING
    assert beat.beat(20, pending=False) is Beat.REST
    assert beat.due(pending=False) == 30
    assert beat.beat(30, pending=False) is Beat.LOST


def test_any_byte_counts_as_a_response() -> None:
    beat = heartbeat()
    assert beat.beat(20, pending=False) is Beat.PING
    beat.hear(25)
    assert beat.beat(30, pending=False) is Beat.REST
    assert beat.due(pending=False) == 45


def test_a_connection_with_pending_requests_is_pinged_sooner() -> None:
    beat = heartbeat()
    beat.expect(10)
    assert beat.beat(11.9, pending=True) is Beat.REST
    assert beat.beat(12, pending=True) is Beat.PING
    assert beat.beat(16.9, pending=True) is Beat.REST
    assert beat.beat(17, pending=True) is Beat.LOST
