"""Reports of sessions on real sockets. Only the pauses between attempts take no time."""

from __future__ import annotations

import email.utils
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from freezegun import freeze_time
from support import report_service
from support.report_service import Answer, ReportService

from flask_agentuity.client.http import HTTPEndpoint, HTTPReply
from flask_agentuity.client.sessions import SessionReports
from flask_agentuity.client.sessions.outcomes import (
    Conflict,
    Repetition,
    Unavailable,
    outcome_of_reply,
)
from flask_agentuity.client.sessions.queue import Fields, Stage

KEY = "a-key-for-reports"


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


def send(reports: SessionReports, *ids: str) -> dict[str, int]:
    for each in ids or ("a",):
        reports.complete(reports.start(partial(dict, id=each)), partial(dict, id=each))
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
    reports = report(max_messages=3)
    reports.start(partial(dict, id="hangs"))
    service.wait_for(1)
    with caplog.at_level(logging.WARNING, "flask_agentuity.reports"):
        waiting = [reports.start(partial(dict, id="waits")) for _ in range(3)]
        dropped = [reports.start(partial(dict, id="dropped")) for _ in range(5)]
        for each in dropped:
            reports.complete(each, partial(dict, id="dropped"))
    assert {each.stage for each in waiting} == {Stage.WAITING}
    assert {each.stage for each in dropped} == {Stage.LOST}
    assert (reports.stats()["waiting"], reports.stats()["dropped"]) == (3, 5)
    (record,) = caplog.records
    assert "A session report was dropped: 3 are waiting for" in record.getMessage()


def test_the_size_of_what_waits_is_bounded(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.default = Answer(act=report_service.hang)
    reports = report(max_bytes=10_000)
    reports.start(partial(dict, id="hangs"))
    service.wait_for(1)
    large, small = (reports.start(partial(dict, id="waits")) for _ in range(2))
    reports.complete(large, partial(dict, id="large"), size=10_001)
    reports.complete(small, partial(dict, id="small"), size=10_000)
    assert (large.stage, small.stage) == (Stage.LOST, Stage.WAITING)


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
        reports.start(partial(dict, id=id))
        while reports.stats()["failed"] < count:
            time.sleep(0.001)
    at.now += 301
    reports.start(partial(dict, id="d"))
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
    broken: Fields = partial(dict, id="\ud83d")
    reports.complete(reports.start(broken), broken)
    assert send(reports, "b")["sent"] == 2
    assert service.summary() == [("POST", "b"), ("PUT", "b")]
    assert "A session report failed" in caplog.text


def test_closing_is_bounded_and_ends_the_repetition(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    service.default = Answer(503)
    reports = report(pause=None, clock=time.monotonic)
    reports.start(partial(dict, id="a"))
    service.wait_for(1)
    reports.close(20.0)
    assert reports.stats()["failed"] == 1
    assert reports.start(partial(dict, id="late")).stage is Stage.LOST


def test_reports_that_are_no_longer_used_end_their_thread(service: ReportService) -> None:
    reports = SessionReports(HTTPEndpoint(service.url, KEY), interval=0.005)
    reports.start(partial(dict, id="a"))
    service.wait_for(1)
    del reports
    # The fixture nothing_is_left_behind waits for the end of the thread.
    gc.collect()


def test_a_request_does_not_wake_the_sending_thread(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=3600.0)
    report_of_a = reports.start(partial(dict, id="a"))
    reports.complete(report_of_a, partial(dict, id="a"))
    assert service.received == []
    # The end of the process does not wait.
    assert settle(reports)["sent"] == 2


def test_a_queue_that_fills_up_wakes_it(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=3600.0, max_messages=8)
    for id in "abc":
        reports.start(partial(dict, id=id))
    assert service.received == []
    reports.start(partial(dict, id="d"))
    service.wait_for(4)


def test_the_repetition_gives_up_by_the_clock_and_never_overflows() -> None:
    repetition = Repetition(lambda low, high: high)
    delays = [repetition.delay(Unavailable(""), 0.0) for _ in range(5000)]
    assert delays[-1] == 5.0
    assert repetition.delay(Unavailable(""), 30.0) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_parent_and_child_report_each_over_its_own_connection(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report(interval=0.005)
    reports.start(partial(dict, id="before"))
    service.wait_for(1)
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            counts = send(reports, "child")
            code = 0 if counts["sent"] == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert send(reports, "parent")["sent"] == 3
    assert sorted(service.summary()) == [
        ("POST", "before"),
        ("POST", "child"),
        ("POST", "parent"),
        ("PUT", "child"),
        ("PUT", "parent"),
    ]


GEVENT = "from gevent import monkey; monkey.patch_all()"

AT_EXIT = """
import sys
from functools import partial
{prelude}
from flask_agentuity.client.http import HTTPEndpoint
from flask_agentuity.client.sessions import SessionReports
reports = SessionReports(HTTPEndpoint({url!r}, {key!r}))
for number in range(20):
    fields = partial(dict, id=str(number))
    reports.complete(reports.start(fields), fields)
"""


@pytest.mark.parametrize("prelude", ["", GEVENT])
def test_what_waits_is_sent_at_the_end_of_the_process(service: ReportService, prelude: str) -> None:
    if prelude:
        pytest.importorskip("gevent")
    code = AT_EXIT.format(prelude=prelude, url=service.url, key=KEY)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(service.received) == 40


def test_a_service_that_hangs_does_not_hold_up_the_end_of_the_process(
    service: ReportService,
) -> None:
    service.default = Answer(act=report_service.hang)
    code = AT_EXIT.format(prelude="", url=service.url, key=KEY)
    # The reports alone would take 40 times the ten seconds of one exchange.
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(service.received) == 1


def test_all_greenlets_go_on_while_a_report_is_sent(service: ReportService) -> None:
    pytest.importorskip("gevent")
    service.answers = [Answer(act=report_service.hang)]
    code = AT_EXIT.format(prelude=GEVENT, url=service.url, key=KEY) + (
        "import gevent\nfor _ in range(50): gevent.sleep(0.01)\nprint('ticked', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert done.stdout.split() == [b"ticked"]


def test_many_threads_report_at_once(
    service: ReportService, report: Callable[..., SessionReports]
) -> None:
    reports = report()

    def work(name: str) -> None:
        for number in range(20):
            id = f"{name}-{number}"
            reports.complete(reports.start(partial(dict, id=id)), partial(dict, id=id))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settle(reports)["sent"] == 160
    order = service.summary()
    assert all(order.index(("POST", id)) < order.index(("PUT", id)) for _, id in order)
