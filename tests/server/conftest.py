from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from support.servers import WERKZEUG, Server, Visitor, gunicorn, running

COMMANDS = {
    "werkzeug": WERKZEUG,
    "gthread": gunicorn("gthread"),
    "gevent": gunicorn("gevent"),
}


@pytest.fixture(scope="session", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that has been running for some time; each test is another visitor."""
    if request.param == "gevent":
        pytest.importorskip("gevent")
    with running(tmp_path_factory.mktemp(request.param), COMMANDS[request.param]) as server:
        yield server


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if isinstance(server, Server) and report.failed:
        report.sections.append(("log of the server", server.log()[-20_000:]))
    return report
