"""HTTP calls to a service: addresses, keys, sizes and proxies. Time is in test_session_reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from support.report_service import Answer, ReportService

from flask_agentuity.client.http import HTTPEndpoint, base_of
from flask_agentuity.errors import ConfigurationError, ServiceError

KEY = "a-key-for-reports"


@pytest.fixture
def service() -> Iterator[ReportService]:
    service = ReportService()
    yield service
    service.close()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://host", "https://host"),
        ("https://host:8443/prefix/", "https://host:8443/prefix"),
        ("ws://host/thread/ws", "http://host"),
        ("wss://host/prefix/thread/ws?a=b", "https://host/prefix"),
        ("ws://[::1]:80/other", "http://[::1]:80"),
    ],
)
def test_the_base_of_a_url(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize("key", ["", " a", "a\n", "a\r\nX-Injected: 1", "\ud83d"])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError):
        HTTPEndpoint("http://127.0.0.1:1", key)


def test_a_key_beyond_ascii_is_sent_as_utf_8(service: ReportService) -> None:
    with closing(HTTPEndpoint(service.url, "schlüssel")) as endpoint:
        endpoint.call("GET", "/")
    assert (
        service.received[0].headers["Authorization"].encode("latin-1")
        == "Bearer schlüssel".encode()
    )


def test_a_large_reply_closes_its_connection(service: ReportService) -> None:
    endpoint = HTTPEndpoint(service.url, KEY, max_reply_bytes=100)
    service.answers = [Answer(body=b"x" * 101), Answer(body=b"x" * 100)]
    with pytest.raises(ServiceError, match="more than 100 bytes"):
        endpoint.call("GET", "/")
    assert endpoint.call("GET", "/").body == b"x" * 100
    endpoint.close()


def test_proxies_of_the_environment_are_used(
    service: ReportService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", service.url)
    monkeypatch.setenv("no_proxy", "not.this.example")
    with closing(HTTPEndpoint("http://service.example", KEY)) as endpoint:
        endpoint.call("GET", "/session")
    assert service.received[0].path == "http://service.example/session"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with closing(HTTPEndpoint(service.url, KEY)) as endpoint:
        endpoint.call("GET", "/session")
    assert service.received[1].path == "/session"


def test_the_path_of_the_base_comes_first(service: ReportService) -> None:
    with closing(HTTPEndpoint(service.url + "/mounted/", KEY)) as endpoint:
        endpoint.call("GET", "/session?a=1")
    assert service.received[0].path == "/mounted/session?a=1"


def test_a_closed_endpoint_connects_again(service: ReportService) -> None:
    with closing(HTTPEndpoint(service.url, KEY)) as endpoint:
        for _ in range(2):
            endpoint.call("GET", "/")
            endpoint.close()
    assert len(service.received) == 2
