"""The parts that are told the time: backoff, circuit, heartbeat and the states."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.client.backoff import LONGEST_RETRY_AFTER, SHORTEST, Backoff
from flask_agentuity.client.circuit import Admission, Circuit
from flask_agentuity.client.connectivity import Connectivity, State
from flask_agentuity.client.heartbeat import Beat, Heartbeat
from flask_agentuity.client.lifecycle import Lifecycle, Stage
from flask_agentuity.errors import AuthenticationFailed, ServiceUnavailable


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


LONG_OUTAGE = 10_000.0


def test_the_delay_doubles_up_to_its_limit_and_never_ends() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert [backoff.delay(LONG_OUTAGE) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(5000):
        assert backoff.delay(LONG_OUTAGE) == 30
    backoff.reset()
    assert backoff.delay(LONG_OUTAGE) == 1


def test_the_delay_is_bounded_by_the_length_of_the_outage() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    outages = (0, 1, 3, 10, 100, 279, 281)
    assert [backoff.delay(outage) for outage in outages] == [1, 2, 2.3, 3, 12, 29.9, 30]
    # A larger base was asked for, so the bound is larger too.
    backoff = Backoff(5, 30, 30, 300, uniform=highest)
    assert [backoff.delay(0) for _ in range(3)] == [5, 10, 10]


def test_the_jitter_is_full_but_leaves_a_moment() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=lowest)
    assert [backoff.delay(0) for _ in range(3)] == [SHORTEST] * 3
    real = Backoff(1, 30, 30, 300)
    waits = [real.delay(LONG_OUTAGE) for _ in range(200)]
    assert max(waits) > 20 > 5 > min(waits[10:])


def test_what_a_retry_cannot_fix_is_tried_slowly() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=lowest)
    assert [backoff.refused_delay() for _ in range(6)] == [30, 60, 120, 150, 150, 150]
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert [backoff.refused_delay() for _ in range(5)] == [60, 120, 240, 300, 300]


def test_retry_after_is_heeded_within_reason() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert backoff.delay(0, retry_after=20) == 20
    assert backoff.delay(0, retry_after=1) == 2
    assert backoff.short_delay(0.5, retry_after=7) == 7
    assert backoff.refused_delay(retry_after=90) == 90
    assert backoff.delay(0, retry_after=10**9) == LONGEST_RETRY_AFTER


def test_the_circuit_opens_after_three_silences_and_tries_one_call_at_a_time() -> None:
    circuit = Circuit(uniform=highest)
    circuit.timed_out(0)
    circuit.timed_out(0)
    circuit.answered()
    circuit.timed_out(0)
    circuit.timed_out(0)
    assert circuit.admit(0) is Admission.YES
    circuit.timed_out(0)
    assert circuit.is_open
    assert circuit.admit(0.9) is Admission.NO
    assert circuit.admit(1.0) is Admission.TRIAL
    assert circuit.admit(1.1) is Admission.NO
    circuit.timed_out(4.0)
    assert circuit.admit(5.9) is Admission.NO
    assert circuit.admit(6.0) is Admission.TRIAL
    circuit.trial_lost()
    assert circuit.admit(6.0) is Admission.TRIAL
    circuit.answered()
    assert not circuit.is_open
    assert circuit.admit(6.0) is Admission.YES


def test_calls_from_before_the_circuit_opened_do_not_prolong_it() -> None:
    circuit = Circuit(uniform=highest)
    for _ in range(50):
        circuit.timed_out(0)
    assert circuit.admit(1.0) is Admission.TRIAL


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["timed_out", "answered", "trial_lost", "admit"])))
def test_the_circuit_never_stays_shut(steps: list[str]) -> None:
    circuit = Circuit()
    now = 0.0
    for step in steps:
        now += 0.5
        match step:
            case "timed_out":
                circuit.timed_out(now)
            case "answered":
                circuit.answered()
            case "trial_lost":
                circuit.trial_lost()
            case _:
                circuit.admit(now)
    circuit.trial_lost()
    assert circuit.admit(now + 31) in (Admission.YES, Admission.TRIAL)


def heartbeat() -> Heartbeat:
    return Heartbeat(20, 10, 2, now=0, uniform=lambda low, high: 1.0)


def test_a_silent_connection_is_asked_and_then_given_up() -> None:
    beat = heartbeat()
    assert beat.beat(19.9, pending=False) is Beat.REST
    assert beat.beat(20, pending=False) is Beat.PING
    assert beat.beat(20, pending=False) is Beat.REST
    assert beat.due(pending=False) == 30
    assert beat.beat(30, pending=False) is Beat.LOST


def test_any_byte_is_a_sign_of_life() -> None:
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


@pytest.fixture
def states() -> Connectivity:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    return Connectivity(backoff, connect_timeout=10, grace=2, stable_after=10)


GONE = ServiceUnavailable("It is gone.")


def bring_up(states: Connectivity, now: float, features: dict[str, int] | None = None) -> None:
    states.connect(now)
    states.connected()
    states.authorized(now, features or {})


def test_callers_wait_for_the_first_connection_and_no_other(states: Connectivity) -> None:
    assert states.status.refusal(0) is None
    states.connect(0)
    assert states.status.until == 10
    assert states.status.refusal(1) is None
    states.connected()
    assert states.status.refusal(1) is None
    states.lost(2, GONE)
    assert states.state is State.BACKOFF
    assert states.status.until == 3
    refusal = states.status.refusal(2.5)
    assert isinstance(refusal, ServiceUnavailable)
    assert "It is gone. Nothing was sent; the next attempt is in 0.5 s" in str(refusal)
    assert refusal is not states.status.refusal(2.5)
    states.connect(3)
    assert states.status.refusal(3) is not None
    states.connected()
    states.authorized(4, {})
    assert states.status.refusal(4) is None
    assert states.status.error is None


def test_after_a_healthy_connection_callers_wait_for_the_grace(states: Connectivity) -> None:
    bring_up(states, 0)
    states.lost(5, GONE)
    assert states.status.refusal(6.9) is None
    # Several attempts fit into it, and their failures do not prolong it.
    assert states.status.until == 5.5
    states.connect(5.5)
    states.lost(5.6, GONE)
    assert states.status.refusal(6.9) is None
    assert states.status.refusal(7.0) is not None


def test_a_connection_that_never_proved_healthy_earns_no_grace(states: Connectivity) -> None:
    bring_up(states, 0)
    states.lost(0.5, GONE)
    assert states.status.refusal(0.5) is not None
    bring_up(states, 1)
    states.lost(1.5, GONE, answered=True)
    assert states.status.refusal(1.5) is None


def test_delays_grow_until_a_connection_has_lasted(states: Connectivity) -> None:
    for now in (0, 10, 20):
        bring_up(states, now)
        states.lost(now + 0.5, GONE)
    assert states.status.until == 20.5 + 4
    bring_up(states, 30)
    states.lost(39, GONE)
    assert states.backoff.failures == 4
    bring_up(states, 50)
    states.lost(60, GONE)
    assert states.backoff.failures == 1


def test_short_delays_within_the_grace_do_not_lengthen_later_ones(states: Connectivity) -> None:
    bring_up(states, 0)
    states.lost(20, GONE)
    for now in (20.5, 21, 21.5):
        states.connect(now)
        states.lost(now, GONE)
        assert states.status.until == now + 0.5
    states.connect(22)
    states.lost(22, GONE)
    # The first full delay, and then twice the base plus a tenth of the outage.
    assert states.status.until == 23
    states.connect(23)
    states.lost(23, GONE)
    assert states.status.until == 25
    states.connect(25)
    states.lost(25, GONE)
    assert states.status.until == 25 + 2.5
    assert states.backoff.failures == 7


def test_a_refused_key_is_told_at_once_even_within_the_grace(states: Connectivity) -> None:
    bring_up(states, 0)
    states.lost(5, GONE)
    states.connect(5.5)
    states.connected()
    states.lost(5.6, AuthenticationFailed("no"), refused=True)
    refusal = states.status.refusal(5.6)
    assert isinstance(refusal, AuthenticationFailed)
    assert str(refusal) == "no"
    assert states.status.until == 5.6 + 60


def test_features_are_known_while_the_connection_is_ready(states: Connectivity) -> None:
    bring_up(states, 0, {"edits": 1})
    assert states.status.features == {"edits": 1}
    states.lost(5, GONE)
    assert states.status.features == {}


def test_a_lifecycle_moves_on_and_never_back() -> None:
    lifecycle = Lifecycle()
    assert lifecycle.refusal() is None
    lifecycle.close(10, 1, 0.5)
    assert (lifecycle.stage, lifecycle.deadline) == (Stage.CLOSING, 11)
    assert "closed" in str(lifecycle.refusal())
    lifecycle.close(10, 99, 0.5)
    assert lifecycle.deadline == 11
    lifecycle.leave(10.5)
    assert (lifecycle.stage, lifecycle.deadline) == (Stage.LEAVING, 11)
    lifecycle.end()
    lifecycle.close(12, 1, 0.5)
    assert lifecycle.stage is Stage.CLOSED
    assert "closed" in str(lifecycle.refusal())
