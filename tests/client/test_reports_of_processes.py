"""Reports of sessions in forked processes, with gevent, and at the end of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import report_service
from support.forking import in_child, needs_fork
from support.report_of import ReportOf
from support.report_service import Answer, ReportService

from flask_agentuity.client.http import HTTPEndpoint
from flask_agentuity.client.sessions import SessionReports

KEY = "a-key-for-reports"


@pytest.fixture
def service() -> Iterator[ReportService]:
    service = ReportService()
    yield service
    service.close()


def send(reports: SessionReports, id: str) -> dict[str, int]:
    report = ReportOf(id)
    reports.start(report)
    reports.complete(report)
    reports.close(30.0)
    return reports.stats()


@needs_fork
def test_parent_and_child_report_each_over_its_own_connection(
    service: ReportService,
) -> None:
    reports = SessionReports(HTTPEndpoint(service.url, KEY), interval=0.005)
    reports.start(ReportOf("before"))
    service.wait_for(1)
    assert in_child(lambda: send(reports, "child")["sent"] == 2) == 0
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
{prelude}
from flask_agentuity.client.http import HTTPEndpoint
from flask_agentuity.client.sessions import Report, SessionReports
class ReportOf(Report):
    def compose_start(self):
        return dict(id="a")
    compose_end = compose_start
reports = SessionReports(HTTPEndpoint({url!r}, {key!r}))
for number in range(20):
    report = ReportOf()
    reports.start(report)
    reports.complete(report)
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
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert len(service.received) == 1
    # What is lost is said, once.
    assert done.stderr.count("\n") == 1
    assert "20 session reports could not be sent in time" in done.stderr


def test_all_greenlets_go_on_while_a_report_is_sent(service: ReportService) -> None:
    pytest.importorskip("gevent")
    service.answers = [Answer(act=report_service.hang)]
    code = AT_EXIT.format(prelude=GEVENT, url=service.url, key=KEY) + (
        "import gevent\nfor _ in range(50): gevent.sleep(0.01)\nprint('ticked', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert done.stdout.split() == [b"ticked"]
