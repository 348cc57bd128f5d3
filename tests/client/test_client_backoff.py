"""How long a client waits before the next attempt."""

from __future__ import annotations

from flask_agentuity.client.backoff import LONGEST_RETRY_AFTER, SHORTEST, Backoff


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


LONG_OUTAGE = 10_000.0


def test_the_delay_doubles_up_to_its_limit() -> None:
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
    # A larger base raises the bound as well.
    backoff = Backoff(5, 30, 30, 300, uniform=highest)
    assert [backoff.delay(0) for _ in range(3)] == [5, 10, 10]


def test_the_jitter_is_full_above_a_minimum() -> None:
    backoff = Backoff(1, 30, 30, 300, uniform=lowest)
    assert [backoff.delay(0) for _ in range(3)] == [SHORTEST] * 3
    real = Backoff(1, 30, 30, 300)
    waits = [real.delay(LONG_OUTAGE) for _ in range(200)]
    assert max(waits) > 20 > 5 > min(waits[10:])


def test_refusals_have_longer_delays() -> None:
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
