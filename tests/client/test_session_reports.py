"""Reports of sessions on real sockets. Only the pauses between attempts take no time."""

from __future__ import annotations

import email.utils
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from freezegun import freeze_time
from support import report_service
from support.report_of import ReportOf
from support.report_service import Answer, ReportService

from flask_agentuity.client.http import HTTPEndpoint, HTTPReply
from flask_agentuity.client.sessions import Report, SessionReports, Stage
from flask_agentuity.client.sessions.outcomes import (
    Conflict,
    Repetition,
    Unavailable,
    outcome_of_reply,
)

KEY = "a-key-for-reports"
CONFIRMED = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"success":true}'


@pytest.fixture
def service() -> Iterator[ReportService]:
    service = ReportService()
    yield service
    service.close()


class Time:
    """A clock that only moves in the pauses between two attempts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return True


@pytest.fixture
def at() -> Time:
    return Time()


@pytest.fixture
def report(service: ReportService, at: Time) -> Iterator[Callable[..., SessionReports]]:
    """Makes reports to the service; the random part of each pause is the largest."""
    made: list[SessionReports] = []

    def make(base: str | None = None, timeout: float = 20.0, **options: Any) -> SessionReports:
        endpoint = HTTPEndpoint(base or service.url, KEY, request_timeout=timeout)
        given: dict[str, Any] = {
            "interval": 0.005,
            "pause": at.pause,
            "clock": lambda: at.now,
        } | options
        made.append(SessionReports(endpoint, uniform=lambda low, high: high, **given))
        return made[-1]

    yield make
    for each in made:
        each.close(0.0)


def settle(reports: SessionReports) -> dict[str, int]:
    """Send what waits, and return the counts."""
    reports.close(30.0)
    return reports.stats()


def start(reports: SessionReports, id: str = "a") -> Report:
    report = ReportOf(id)
    reports.start(report)
    return report


def send(reports: SessionReports, *ids: str) -> dict[str, int]:
    for each in ids or ("a",):
        reports.complete(start(reports, each))
    return settle(reports)


def test_start_and_end_are_sent_in_order_over_one_connection(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    counts = send(report(), "a", "b")
    assert service.summary() == [("POST", "a"), ("PUT", "a"), ("POST", "b"), ("PUT", "b")]
    assert (counts["sent"], counts["failed"], counts["waiting"]) == (4, 0, 0)
    first = service.received[0]
    assert first.path == "/session"
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.headers["Content-Type"] == first.headers["Accept"] == "application/json"
    assert first.headers["User-Agent"].startswith("flask-agentuity/")


@pytest.mark.parametrize("status", [409, 501])
def test_busy_is_repeated_up_to_four_attempts(
    service: ReportService, report: Callable[..., SessionReports], at: Time, status: int
) -> None:
    service.default = Answer(status)
    counts = send(report())
    assert [each.method for each in service.received] == ["POST"] * 4
    assert at.pauses == [0.1, 0.2, 0.4]
    assert (counts["failed"], counts["repeated"], counts["left_out"]) == (1, 3, 1)


def test_busy_ends_with_the_attempt_that_is_accepted(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.answers = [Answer(409), Answer(501), Answer(), Answer(409), Answer()]
    counts = send(report())
    assert [each.method for each in service.received] == ["POST", "POST", "POST", "PUT", "PUT"]
    assert (counts["sent"], counts["repeated"]) == (2, 3)


def test_retry_after_is_respected_for_409_only(
    service: ReportService, report: Callable[..., SessionReports], at: Time
) -> None:
    service.answers = [
        Answer(409, headers={"Retry-After": "7"}),
        Answer(501, headers={"Retry-After": "7"}),
        Answer(409, headers={"Retry-After": "86400"}),
    ]
    send(report())
    assert at.pauses == [7.0, 0.2, 30.0]


@freeze_time("2026-01-01")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3.0),
        (email.utils.format_datetime(email.utils.parsedate_to_datetime("1 Jan 2026 00:00:09")), 9),
        ("yesterday", None),
        ("-1", None),
        ("٣", None),
        ("1e9", None),
        ("", None),
        ("9" * 5000, 9999999999.0),
    ],
)
def test_the_forms_of_retry_after(value: str, expected: float | None) -> None:
    outcome = outcome_of_reply(HTTPReply(409, {"Retry-After": value}, b""), time.time())
    assert isinstance(outcome, Conflict)
    assert outcome.retry_after == expected


@pytest.mark.parametrize("status", [502, 503])
def test_an_outage_is_waited_for_up_to_half_a_minute(
    service: ReportService, report: Callable[..., SessionReports], at: Time, status: int
) -> None:
    service.default = Answer(status)
    counts = send(report())
    assert at.pauses[:4] == [1.0, 2.0, 4.0, 5.0]
    assert 30.0 <= sum(at.pauses) < 36.0
    assert (counts["failed"], counts["left_out"]) == (1, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 421, 426, 429, 500, 504])
def test_other_refusals_are_not_repeated(
    service: ReportService, report: Callable[..., SessionReports], at: Time, status: int
) -> None:
    service.default = Answer(status)
    counts = send(report())
    assert [each.method for each in service.received] == ["POST"]
    assert at.pauses == []
    assert (counts["failed"], counts["left_out"]) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(302, headers={"Location": "/elsewhere"}),
        Answer(body=b"<html>welcome</html>"),
        Answer(body=b'{"success": false, "message": "no such project"}'),
        Answer(body=b'{"success": 1}'),
        Answer(body=b'["success"]'),
        Answer(body=b""),
        Answer(204, body=b""),
        Answer(body=b"x" * 17_000_000),
        Answer(act=report_service.talk_nonsense),
    ],
    ids=range(9),
)
def test_what_is_no_confirmation_is_a_failure(
    service: ReportService, report: Callable[..., SessionReports], answer: Answer
) -> None:
    service.answers = [answer]
    assert send(report(), "a", "b")["failed"] == 1
    assert service.summary() == [("POST", "a"), ("POST", "b"), ("PUT", "b")]


def test_a_lost_connection_is_an_outage(
    service: ReportService, report: Callable[..., SessionReports], at: Time
) -> None:
    service.answers = [Answer(act=report_service.close)]
    assert send(report())["sent"] == 2
    assert at.pauses == [1.0]


def test_nothing_listens(report: Callable[..., SessionReports], at: Time) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    counts = send(report(f"http://127.0.0.1:{port}"))
    assert (counts["failed"], counts["sent"]) == (1, 0)
    assert sum(at.pauses) >= 30.0


@pytest.mark.parametrize("act", [report_service.hang, report_service.drip])
def test_a_service_that_does_not_finish_is_given_up(
    service: ReportService,
    report: Callable[..., SessionReports],
    act: Callable[..., None],
) -> None:
    service.answers = [Answer(act=act)]
    assert send(report(timeout=0.2), "a", "b")["failed"] == 1
    assert service.summary() == [("POST", "a"), ("POST", "b"), ("PUT", "b")]


def test_memory_is_bounded(
    service: ReportService,
    report: Callable[..., SessionReports],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.default = Answer(act=report_service.hang)
    reports = report(max_reports=3)
    start(reports, "hangs")
    service.wait_for(1)
    with caplog.at_level(logging.WARNING, "flask_agentuity.reports"):
        waiting = [start(reports, "waits") for _ in range(3)]
        dropped = [start(reports, "dropped") for _ in range(5)]
        for each in dropped:
            reports.complete(each)
    assert {each.stage for each in waiting} == {Stage.STARTED}
    assert {each.stage for each in dropped} == {Stage.OVER}
    assert (reports.stats()["waiting"], reports.stats()["dropped"]) == (3, 5)
    (record,) = caplog.records
    assert "A session report was dropped: 3 are waiting for" in record.getMessage()


def test_the_size_of_what_waits_is_bounded(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.default = Answer(act=report_service.hang)
    reports = report(max_bytes=10_000)
    start(reports, "hangs")
    service.wait_for(1)
    large, small = (start(reports, "waits") for _ in range(2))
    large.size, small.size = 10_001, 10_000
    reports.complete(large)
    reports.complete(small)
    assert (large.stage, small.stage) == (Stage.OVER, Stage.STARTED)


def test_one_warning_says_what_to_check(
    service: ReportService,
    report: Callable[..., SessionReports],
    at: Time,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.default = Answer(401, body=b'{"success": false, "message": "unknown\x1b[2J key"}')
    with caplog.at_level(logging.WARNING, "flask_agentuity.reports"):
        send(report(), *map(str, range(20)))
    (record,) = caplog.records
    assert "401" in record.getMessage() and "AGENTUITY_SDK_KEY" in record.getMessage()
    assert KEY not in record.getMessage() and "\x1b" not in record.getMessage()


def test_the_warning_comes_again_later_with_a_count(
    service: ReportService,
    report: Callable[..., SessionReports],
    at: Time,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.default = Answer(500)
    reports = report()
    for count, id in enumerate("abc", 1):
        start(reports, id)
        while reports.stats()["failed"] < count:
            time.sleep(0.001)
    at.now += 301
    start(reports, "d")
    settle(reports)
    first, second = caplog.messages
    assert "(0 more since" in first
    assert "(2 more since" in second


def test_what_cannot_be_encoded_stops_nothing(
    service: ReportService,
    report: Callable[..., SessionReports],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports = report()
    reports.complete(start(reports, "\ud83d"))
    assert send(reports, "b")["sent"] == 2
    assert service.summary() == [("POST", "b"), ("PUT", "b")]
    assert "A session report failed" in caplog.text


def test_closing_is_bounded_and_ends_the_repetition(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.default = Answer(503)
    reports = report(pause=None, clock=time.monotonic)
    start(reports, "a")
    service.wait_for(1)
    reports.close(20.0)
    assert reports.stats()["failed"] == 1
    assert start(reports, "late").stage is Stage.OVER


def test_reports_that_are_no_longer_used_end_their_thread(service: ReportService) -> None:
    reports = SessionReports(HTTPEndpoint(service.url, KEY), interval=0.005)
    start(reports, "a")
    service.wait_for(1)
    del reports
    # The fixture nothing_is_left_behind waits for the end of the thread.
    gc.collect()


def test_a_request_does_not_wake_the_sending_thread(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=3600.0)
    reports.complete(start(reports))
    assert service.received == []
    # The end of the process does not wait.
    assert settle(reports)["sent"] == 2


def test_what_waits_can_be_sent_at_once(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=3600.0)
    assert reports.flush(30.0)
    reports.complete(start(reports, "a"))
    reports.complete(start(reports, "b"))
    assert reports.flush(30.0)
    assert len(service.received) == 4
    service.default = Answer(act=report_service.hang)
    start(reports, "c")
    assert not reports.flush(0.05)


def test_an_end_after_its_start_was_sent_is_sent_once(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report()
    before = start(reports, "before")
    reports.flush(30.0)
    assert before.stage is Stage.ACCEPTED
    reports.complete(before)
    is_received, may_be_answered = threading.Event(), threading.Event()

    def answer_later(handler: BaseHTTPRequestHandler) -> None:
        is_received.set()
        may_be_answered.wait(30.0)
        handler.wfile.write(CONFIRMED)

    reports.flush(30.0)
    service.answers = [Answer(act=answer_later)]
    meanwhile = start(reports, "meanwhile")
    assert is_received.wait(30.0)
    reports.complete(meanwhile)
    may_be_answered.set()
    settle(reports)
    assert service.summary() == [
        ("POST", "before"),
        ("PUT", "before"),
        ("POST", "meanwhile"),
        ("PUT", "meanwhile"),
    ]


def test_an_end_after_its_start_was_refused_is_not_sent(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.default = Answer(401)
    reports = report(max_bytes=10)
    for _ in range(3):
        refused = start(reports)
        reports.flush(30.0)
        refused.size = 10
        reports.complete(refused)
    service.default = Answer()
    # The refused ones take no room.
    ended = start(reports, "b")
    ended.size = 10
    reports.complete(ended)
    assert settle(reports)["dropped"] == 0
    assert service.summary() == [*[("POST", "a")] * 3, ("POST", "b"), ("PUT", "b")]


def test_the_room_of_what_was_sent_is_free_again(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(max_bytes=10)
    for id in "abc":
        ended = start(reports, id)
        ended.size = 10
        reports.complete(ended)
        reports.flush(30.0)
    assert settle(reports)["sent"] == 6


def test_a_queue_that_fills_up_wakes_it(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=3600.0, max_reports=8)
    for id in "abc":
        start(reports, id)
    assert service.received == []
    start(reports, "d")
    service.wait_for(4)


def test_the_repetition_gives_up_by_the_clock_and_never_overflows() -> None:
    repetition = Repetition(lambda low, high: high)
    delays = [repetition.delay(Unavailable(""), 0.0) for _ in range(5000)]
    assert delays[-1] == 5.0
    assert repetition.delay(Unavailable(""), 30.0) is None


def test_many_threads_report_at_once(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report()

    def work(name: str) -> None:
        for number in range(20):
            id = f"{name}-{number}"
            reports.complete(start(reports, id))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settle(reports)["sent"] == 160
    order = service.summary()
    assert all(order.index(("POST", id)) < order.index(("PUT", id)) for _, id in order)
