"""The circuit breaker for a service that does not answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flask_agentuity.client.circuit import Admission, Circuit


def highest(low: float, high: float) -> float:
    return high


def test_the_circuit_opens_after_three_timeouts_and_lets_one_trial_through() -> None:
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


def test_timeouts_of_older_calls_do_not_keep_it_open_longer() -> None:
    circuit = Circuit(uniform=highest)
    for _ in range(50):
        circuit.timed_out(0)
    assert circuit.admit(1.0) is Admission.TRIAL


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["timed_out", "answered", "trial_lost", "admit"])))
def test_the_circuit_always_admits_a_trial_in_the_end(steps: list[str]) -> None:
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
