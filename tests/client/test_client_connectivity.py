"""The states of the connection, and what callers get in each."""

from __future__ import annotations

import pytest

from flask_agentuity.client.backoff import Backoff
from flask_agentuity.client.connectivity import Connectivity, State
from flask_agentuity.errors import AuthenticationFailed, ServiceUnavailable


def highest(low: float, high: float) -> float:
    return high


@pytest.fixture
def states() -> Connectivity:
    backoff = Backoff(1, 30, 30, 300, uniform=highest)
    return Connectivity(backoff, connect_timeout=10, grace=2, stable_after=10)


GONE = ServiceUnavailable("It is gone.")


def bring_up(states: Connectivity, now: float, features: dict[str, int] | None = None) -> None:
    states.connect(now)
    states.connected()
    states.authorized(now, features or {})


def test_callers_wait_for_the_first_attempt_only(states: Connectivity) -> None:
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
    # Several attempts fit into the grace, and their failures do not extend it.
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


def test_a_refused_key_is_reported_at_once_even_within_the_grace(states: Connectivity) -> None:
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
