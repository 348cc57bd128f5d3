"""The queue of accepted requests."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from flask_agentuity import wire
from flask_agentuity.client import FeatureMissing, ServiceRefusal, calls
from flask_agentuity.client.address import parse_address
from flask_agentuity.client.connectivity import State, Status
from flask_agentuity.client.outbox import Outbox
from flask_agentuity.client.report import Report
from flask_agentuity.client.request import Call, PendingRequest
from flask_agentuity.client.settings import ClientSettings
from flask_agentuity.errors import (
    OutcomeUnknown,
    Overloaded,
    RequestTimeout,
    ServiceUnavailable,
    StoreError,
)

from .scripted_service import KEY, THREAD

GONE = ServiceUnavailable("It is gone.")
READY = Status(State.READY)
WAITING = Status(State.CONNECTING)
DOWN = Status(State.BACKOFF, GONE, until=9)

MakeRequest = Callable[..., PendingRequest]


@pytest.fixture
def outbox() -> Outbox:
    settings = ClientSettings(
        parse_address("ws://h"), KEY, max_pending=4, max_queued_bytes=1000, trial_timeout=3
    )
    return Outbox(settings, Report())


@pytest.fixture
def request_for() -> MakeRequest:
    names = iter("abcdefghijklmnopqrstuvwxyz")

    def make(call: Call | None = None, size: int = 10, deadline: float = 10.0) -> PendingRequest:
        call = calls.restore(THREAD, 1000) if call is None else call
        return PendingRequest(next(names), call, deadline, b"x" * size)

    return make


def failure(request: PendingRequest) -> StoreError:
    error = request.future.exception(0)
    assert isinstance(error, StoreError)
    return error


def send(outbox: Outbox, request: PendingRequest) -> None:
    """Accept *request* and send it whole."""
    assert outbox.accept(request, READY, 0) is None
    assert outbox.take(10_000) == [request]
    request.begin()
    request.sent(0)


def test_requests_are_taken_in_order_up_to_a_size(outbox: Outbox, request_for: MakeRequest) -> None:
    first, second, third = request_for(size=500), request_for(size=300), request_for(size=1)
    for each in (first, second, third):
        assert outbox.accept(each, WAITING, 0) is None
    assert outbox.waiting_bytes == 801
    # A single one is taken even if it is larger.
    assert outbox.take(10) == [first]
    assert outbox.take(10_000) == [second, third]
    assert outbox.take(10_000) == []
    assert (outbox.waiting_bytes, outbox.pending) == (0, 3)
    outbox.finish(first, None, b"{}")
    assert first.future.result(0) == b"{}"
    assert outbox.pending == 2


def test_what_was_taken_counts_towards_the_limit(outbox: Outbox, request_for: MakeRequest) -> None:
    assert isinstance(outbox.accept(request_for(size=1001), READY, 0), Overloaded)
    sent = [request_for() for _ in range(4)]
    for each in sent:
        send(outbox, each)
    assert isinstance(outbox.accept(request_for(), READY, 0), Overloaded)
    outbox.finish(sent[0], None)
    assert outbox.accept(request_for(), READY, 0) is None


def test_replies_become_results(outbox: Outbox, request_for: MakeRequest) -> None:
    document, refused, damaged = (request_for() for _ in range(3))
    for each in (document, refused, damaged):
        send(outbox, each)
    outbox.answer(document, wire.Success("a", "{}"))
    outbox.answer(refused, wire.Failure("b", f"{KEY}\n", {"code": 5}))
    outbox.answer(damaged, wire.Success("c", 5))
    assert document.future.result(0) == b"{}"
    refusal = failure(refused)
    assert isinstance(refusal, ServiceRefusal)
    assert (refusal.words, refusal.fields) == (r"<key>\n", {"code": 5})
    assert "instead of text" in str(failure(damaged))


def test_requests_expire_before_they_are_sent(outbox: Outbox, request_for: MakeRequest) -> None:
    first, second, third = (request_for(deadline=each) for each in (3, 1, 2))
    for each in (first, second, third):
        outbox.accept(each, WAITING, 0)
    assert outbox.due == 1
    outbox.expire(1)
    assert "before it could be sent" in str(failure(second))
    assert (outbox.due, outbox.pending, list(outbox.waiting)) == (2, 2, [first, third])
    assert outbox.waiting_bytes == 20
    outbox.take(10_000)
    outbox.return_lost([first, third], may_wait=True)
    assert outbox.due == 2
    outbox.expire(3)
    assert (outbox.due, outbox.pending) == (math.inf, 0)


def test_lost_requests_return_in_order_and_once(outbox: Outbox, request_for: MakeRequest) -> None:
    merge = request_for(calls.merge(THREAD, [], None))
    first, second, begun = request_for(), request_for(), request_for()
    for each in (merge, first, second):
        send(outbox, each)
    assert outbox.accept(begun, READY, 0) is None
    outbox.take(10_000)
    begun.begin()
    assert outbox.return_lost([merge, first, second, begun], may_wait=True) == [merge]
    assert isinstance(merge.unanswered("It is gone."), OutcomeUnknown)
    # Only its first part was sent, so it was not sent.
    assert [each.repeated for each in outbox.take(10_000)] == [True, True, False]
    for each in (first, second, begun):
        each.sent(0)
    assert outbox.return_lost([first, second, begun], may_wait=True) == [first, second]
    assert isinstance(first.unanswered("It is gone."), RequestTimeout)


def test_nothing_returns_if_nothing_may_wait(outbox: Outbox, request_for: MakeRequest) -> None:
    sent, begun = request_for(), request_for()
    send(outbox, sent)
    outbox.accept(begun, READY, 0)
    outbox.take(10_000)
    begun.begin()
    assert outbox.return_lost([sent, begun], may_wait=False) == [sent, begun]
    assert isinstance(sent.unanswered("It is gone."), RequestTimeout)
    assert isinstance(begun.unanswered("It is gone."), ServiceUnavailable)


def test_waiting_requests_fail_with_the_reason(outbox: Outbox, request_for: MakeRequest) -> None:
    repeated, new = request_for(), request_for()
    send(outbox, repeated)
    outbox.return_lost([repeated], may_wait=True)
    outbox.accept(new, WAITING, 0)
    outbox.fail_waiting(DOWN, 5)
    assert isinstance(failure(repeated), RequestTimeout)
    assert "Nothing was sent; the next attempt is in 4.0 s" in str(failure(new))
    assert outbox.pending == 0


def test_one_trial_at_a_time_after_three_timeouts(outbox: Outbox, request_for: MakeRequest) -> None:
    for _ in range(3):
        outbox.timed_out(0)
    assert outbox.circuit_is_open
    assert "does not answer" in str(outbox.accept(request_for(), READY, 0))
    trial = request_for()
    assert outbox.accept(trial, READY, 2) is None
    assert (trial.trial, trial.deadline) == (True, 5)
    assert "does not answer" in str(outbox.accept(request_for(), READY, 2))
    # It expires unsent, so another one may be tried.
    outbox.expire(5)
    second = request_for()
    assert outbox.accept(second, READY, 5) is None
    outbox.take(10_000)
    # Its connection is lost, so yet another one may be tried.
    assert outbox.return_lost([second], may_wait=False) == [second]
    third = request_for()
    assert outbox.accept(third, READY, 5) is None
    outbox.take(10_000)
    outbox.answer(third, wire.Success("x"))
    assert not outbox.circuit_is_open


def test_a_missing_feature_is_known_at_once_if_connected(
    outbox: Outbox, request_for: MakeRequest
) -> None:
    call = calls.merge_edits(THREAD, lambda id: b"")
    assert isinstance(outbox.accept(request_for(call), READY, 0), FeatureMissing)
    assert outbox.accept(request_for(call), WAITING, 0) is None
    able = Status(State.READY, features={"edits": 1})
    assert outbox.accept(request_for(call), able, 0) is None


def test_a_closed_outbox_gives_back_everything(outbox: Outbox, request_for: MakeRequest) -> None:
    waiting = request_for()
    outbox.accept(waiting, WAITING, 0)
    assert outbox.close() == [waiting]
    assert "closed" in str(outbox.accept(request_for(), READY, 0))


def test_many_threads_and_one_taker_lose_nothing() -> None:
    settings = ClientSettings(parse_address("ws://h"), KEY, max_pending=100_000)
    outbox, accepted = Outbox(settings, Report()), 8 * 500

    def submit() -> None:
        for _ in range(500):
            request = PendingRequest("id", calls.restore(THREAD, 1000), 10, b"12345")
            assert outbox.accept(request, READY, 0) is None

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    taken = 0
    while taken < accepted:
        for request in outbox.take(50):
            outbox.finish(request, None)
            taken += 1
    for thread in threads:
        thread.join(10)
    assert (outbox.pending, outbox.waiting_bytes, list(outbox.waiting)) == (0, 0, [])
