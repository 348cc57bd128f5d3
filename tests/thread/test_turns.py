"""The turn on a thread: how it is taken, renewed, lost and given back."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator

import pytest
from support.leasing import ID, Leasing, Time, is_renewing, taken, wait_for_renewals
from support.servers import PATIENCE
from support.waiting import eventually

from flask_agentuity.errors import StoreError
from flask_agentuity.stores import leases
from flask_agentuity.stores.leases import Lease
from flask_agentuity.thread.renewing import THREAD_NAME
from flask_agentuity.thread.turns import take_turn


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.05)


@pytest.fixture
def store() -> Iterator[Leasing]:
    store = Leasing()
    yield store
    eventually(lambda: not is_renewing(store), "nothing is renewed any more")


def test_a_turn_is_taken_and_given_back(store: Leasing) -> None:
    turn = taken(store)
    assert take_turn(store, ID, 0) is None
    assert not store.is_free
    assert turn.token
    turn.end()
    assert store.is_free
    turn.end()
    again = taken(store)
    turn.end()
    assert not store.is_free
    again.end()


def test_waiting_ends_in_time(store: Leasing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    time = Time()
    store.take_over("another")
    assert time.take(store, 5.0) is None
    assert time.now == pytest.approx(105.0)
    assert all(0 < pause <= 0.2 for pause in time.pauses)
    assert len(time.pauses) < 60
    time.pauses.clear()
    assert time.take(store, 0.0) is None
    assert time.pauses == []
    store.end_turn(ID, "another")


def test_the_turn_is_taken_once_it_is_free(store: Leasing) -> None:
    time = Time()
    holder = taken(store)
    time.meanwhile = lambda: holder.end() if len(time.pauses) == 3 else None
    turn = time.take(store, 5.0)
    assert turn is not None
    assert len(time.pauses) == 3
    turn.end()


def test_a_holder_that_was_killed_is_waited_for_as_long_as_a_lease(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    time = Time()
    first = store.take_over("killed")
    turn = time.take(store, 30.0)
    assert turn is not None
    assert 105.0 <= time.now < 105.5
    assert turn.token is not None
    assert turn.token > first.token
    turn.end()


def test_a_holder_that_renews_its_turn_keeps_it(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    time = Time()
    held = store.take_over("alive")

    def renew_now_and_then() -> None:
        if len(time.pauses) % 20 == 0:
            assert not store.renew_turns([held])

    time.meanwhile = renew_now_and_then
    assert time.take(store, 60.0) is None
    store.end_turn(ID, "alive")


def test_time_in_which_the_store_or_the_process_stood_still_does_not_count(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    time = Time()
    store.take_over("blocked")

    def block() -> None:
        if len(time.pauses) == 3:
            time.now += 3_600

    time.meanwhile = block
    looks = len(store.taken)
    turn = time.take(store, 7_200.0)
    assert turn is not None
    # One second at most counts of any pause.
    assert len(store.taken) - looks >= (5.0 - 1.0) / 0.2
    turn.end()


def test_who_does_not_wait_waits_if_the_holder_seems_to_be_dead(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    # A clock that was set forward or back since the last renewal.
    for store.age in (60.0, -3_600.0):
        time = Time()
        store.take_over("killed")
        turn = time.take(store, 0.0)
        assert turn is not None
        turn.end()
        assert 105.0 <= time.now < 105.5
    # A clock may be wrong: a holder that is alive shows it soon.
    held = store.take_over("alive")
    time = Time()
    time.meanwhile = lambda: store.renew_turns([held])
    assert time.take(store, 0.0) is None
    assert len(time.pauses) == 1
    # Those who look again are counted, so that not all workers do.
    time = Time()
    assert time.take(store, 0.0, most_waiting=0) is None
    store.age = 2.0
    assert time.take(store, 0.0) is None
    assert time.pauses == []
    store.end_turn(ID, "alive")


def test_no_more_than_a_few_wait(store: Leasing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    held = store.take_over("another")
    outer, inner = Time(), Time()
    rejected: list[bool] = []

    def come_too() -> None:
        if not rejected:
            rejected.append(inner.take(store, 5.0, most_waiting=1) is None)
            assert inner.pauses == []
            assert inner.take(store, 0.5, most_waiting=2) is None
            assert inner.pauses

    outer.meanwhile = come_too
    assert outer.take(store, 2.0, most_waiting=1) is None
    assert rejected == [True]
    assert outer.now == pytest.approx(102.0)
    # Those who have left no longer count.
    assert store.count_waiting(held, 0) == 0
    store.at_taking = [lambda: None, StoreError("it is down")]
    with pytest.raises(StoreError, match="it is down"):
        outer.take(store, 2.0)
    assert store.count_waiting(held, 0) == 0
    store.end_turn(ID, "another")


def test_who_waits_is_counted_for_the_next_turn_too(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    store.take_over("first")
    time = Time()
    seconds: list[Lease] = []

    def next_turn() -> None:
        if len(time.pauses) == 2:
            store.end_turn(ID, "first")
            seconds.append(store.take_over("second"))
        elif len(time.pauses) == 4:
            assert store.count_waiting(seconds[0], 0) == 1

    time.meanwhile = next_turn
    assert time.take(store, 3.0) is None
    assert len(time.pauses) > 4
    assert store.count_waiting(seconds[0], 0) == 0
    store.end_turn(ID, "second")


def test_the_lease_is_renewed_for_as_long_as_the_work_takes(store: Leasing) -> None:
    turn = taken(store)
    wait_for_renewals(store, 6)
    assert take_turn(store, ID, 0.3) is None
    turn.end()
    eventually(lambda: not is_renewing(store), "the turn is renewed no more")
    assert {len(renewed) for renewed in store.renewed} == {1}
    assert store.is_free


def test_one_thread_renews_all_turns_of_a_store(store: Leasing) -> None:
    turns = [take_turn(store, f"{ID}{number}", 0) for number in range(20)]
    eventually(lambda: any(len(each) == 20 for each in store.renewed), "all are renewed at once")
    mine = [each for each in threading.enumerate() if each.name == THREAD_NAME]
    assert len(mine) == 1
    for turn in turns:
        assert turn is not None
        turn.end()


def test_a_turn_that_is_lost_is_logged(store: Leasing, caplog: pytest.LogCaptureFixture) -> None:
    turn = taken(store)
    assert not turn.is_lost
    store.take_over("another")
    eventually(lambda: turn.is_lost, "it is noticed")
    eventually(lambda: not is_renewing(store), "a lost turn is renewed no more")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"The turn on thread {ID} was lost" in record.getMessage()
    turn.end()
    assert not store.is_free
    store.end_turn(ID, "another")


def test_a_store_that_is_down_for_a_while_costs_no_turn(
    store: Leasing, caplog: pytest.LogCaptureFixture
) -> None:
    turn = taken(store)
    store.at_renewing = [StoreError("it is down"), StoreError("it is down"), ValueError("a bug")]
    wait_for_renewals(store, 5)
    assert not turn.is_lost
    store.at_renewing = [StoreError("down again")]
    wait_for_renewals(store, 2)
    turn.end()
    found = [(record.levelno, record.getMessage()) for record in caplog.records]
    said = f"The turns on threads {ID} could not be renewed"
    assert found == [
        (logging.WARNING, f"{said}: it is down"),
        (logging.WARNING, f"{said}: down again"),
    ]


def test_a_turn_that_ends_while_it_is_renewed_is_free(
    store: Leasing, caplog: pytest.LogCaptureFixture
) -> None:
    renewing, ended = threading.Event(), threading.Event()

    def renew_late() -> None:
        renewing.set()
        assert ended.wait(PATIENCE)

    turn = taken(store)
    store.at_renewing = [renew_late]
    assert renewing.wait(PATIENCE)
    turn.end()
    ended.set()
    eventually(lambda: not is_renewing(store), "the renewal is over")
    assert store.is_free
    assert not turn.is_lost
    assert not caplog.records


def test_a_turn_that_cannot_be_renewed_is_not_taken(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            take_turn(store, ID, 0)
    assert store.is_free
    taken(store).end()


def test_a_turn_that_was_forgotten_is_given_back(store: Leasing) -> None:
    turn = taken(store)
    assert is_renewing(store)
    del turn
    gc.collect()
    eventually(lambda: not is_renewing(store), "it is renewed no more")
    eventually(lambda: store.is_free, "it is given back")


def test_a_store_that_raises_anything_does_not_end_the_renewals(
    store: Leasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("a bug of the store")

    turn, kept = taken(store), take_turn(store, f"{ID}0", 0)
    assert kept is not None
    with monkeypatch.context() as failing:
        failing.setattr(store, "end_turn", fail)
        del turn
        gc.collect()
        wait_for_renewals(store, 3)
        assert len(store.renewed[-1]) == 1
    kept.end()


def test_a_turn_that_cannot_be_given_back_is_logged(
    store: Leasing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError("it is down")

    turn = taken(store)
    monkeypatch.setattr(store, "end_turn", fail)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    turn.end()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.05)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "could not be given back, so it ends in 5 s: it is down" in record.getMessage()
