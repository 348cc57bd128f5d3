"""The parts that are told the time: backoff, circuit, heartbeat and the states."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.client.backoff import LONGEST_ASKED, SHORTEST, Backoff
from flask_agentuity.client.circuit import Admission, Circuit
from flask_agentuity.client.heartbeat import Beat, Heartbeat
from flask_agentuity.client.lifecycle import Lifecycle, State
from flask_agentuity.errors import AuthenticationFailed, ServiceUnavailable


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def test_the_wait_doubles_up_to_its_limit_and_never_ends() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert [backoff.delay() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(5000):
        assert backoff.delay() == 30
    backoff.reset()
    assert backoff.delay() == 1


def test_the_jitter_is_full_but_leaves_a_moment() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=lowest)
    assert [backoff.delay() for _ in range(3)] == [SHORTEST] * 3
    real = Backoff(1, 30, 30, 300)
    waits = [Backoff.delay(real) for _ in range(200)]
    assert max(waits) > 20 > 5 > min(waits[10:])


def test_what_waiting_does_not_mend_is_tried_slowly() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=lowest)
    assert [backoff.delay(refused=True) for _ in range(6)] == [30, 60, 120, 150, 150, 150]
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert [backoff.delay(refused=True) for _ in range(5)] == [60, 120, 240, 300, 300]


def test_retry_after_is_heeded_within_reason() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    assert backoff.delay(retry_after=20) == 20
    assert backoff.delay(retry_after=1) == 2
    assert backoff.delay(retry_after=10**9) == LONGEST_ASKED


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
    assert beat.beat(19.9, owed=False) is Beat.REST
    assert beat.beat(20, owed=False) is Beat.PING
    assert beat.beat(20, owed=False) is Beat.REST
    assert beat.due(owed=False) == 30
    assert beat.beat(30, owed=False) is Beat.LOST


def test_any_byte_is_a_sign_of_life() -> None:
    beat = heartbeat()
    assert beat.beat(20, owed=False) is Beat.PING
    beat.hear(25)
    assert beat.beat(30, owed=False) is Beat.REST
    assert beat.due(owed=False) == 45


def test_one_that_owes_an_answer_is_asked_sooner() -> None:
    beat = heartbeat()
    beat.owe(10)
    assert beat.beat(11.9, owed=True) is Beat.REST
    assert beat.beat(12, owed=True) is Beat.PING
    assert beat.beat(16.9, owed=True) is Beat.REST
    assert beat.beat(17, owed=True) is Beat.LOST


@pytest.fixture
def states() -> Lifecycle:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    return Lifecycle(backoff, connect_timeout=10, grace=2, stable_after=10)


GONE = ServiceUnavailable("It is gone.")


def bring_up(states: Lifecycle, now: float) -> None:
    states.connect(now)
    states.connected()
    states.granted(now)


def test_callers_wait_for_the_first_connection_and_no_other(states: Lifecycle) -> None:
    assert states.refusal(0) is None
    states.connect(0)
    assert states.until == 10
    assert states.refusal(1) is None
    states.connected()
    assert states.refusal(1) is None
    states.lost(2, GONE)
    assert states.state is State.BACKOFF
    assert states.until == 3
    refusal = states.refusal(2.5)
    assert isinstance(refusal, ServiceUnavailable)
    assert "It is gone. Nothing was sent; the next attempt is in 0.5 s" in str(refusal)
    assert refusal is not states.refusal(2.5)
    states.connect(3)
    assert states.refusal(3) is not None
    states.connected()
    states.granted(4)
    assert states.refusal(4) is None
    assert states.error is None


def test_after_a_good_connection_callers_wait_for_the_grace(states: Lifecycle) -> None:
    bring_up(states, 0)
    states.lost(5, GONE)
    assert states.refusal(6.9) is None
    # Several attempts fit into it, and their failures do not prolong it.
    assert states.until == 5.5
    states.connect(5.5)
    states.lost(5.6, GONE)
    assert states.refusal(6.9) is None
    assert states.refusal(7.0) is not None


def test_a_connection_that_never_proved_good_earns_no_grace(states: Lifecycle) -> None:
    bring_up(states, 0)
    states.lost(0.5, GONE)
    assert states.refusal(0.5) is not None
    bring_up(states, 1)
    states.lost(1.5, GONE, answered=True)
    assert states.refusal(1.5) is None


def test_waits_grow_until_a_connection_has_lasted(states: Lifecycle) -> None:
    for _ in range(3):
        bring_up(states, 0)
        states.lost(0.5, GONE)
    assert states.until == 0.5 + 4
    bring_up(states, 10)
    states.lost(19, GONE)
    assert states.backoff.failures == 4
    bring_up(states, 20)
    states.lost(30, GONE)
    assert states.backoff.failures == 1


def test_a_refused_key_is_told_at_once_even_within_the_grace(states: Lifecycle) -> None:
    bring_up(states, 0)
    states.lost(5, GONE)
    states.connect(5.5)
    states.connected()
    states.lost(5.6, AuthenticationFailed("no"), refused=True)
    refusal = states.refusal(5.6)
    assert isinstance(refusal, AuthenticationFailed)
    assert str(refusal) == "no"
    assert states.until == 5.6 + 60


def test_closed_is_the_end(states: Lifecycle) -> None:
    states.close()
    assert "closed" in str(states.refusal(0))
