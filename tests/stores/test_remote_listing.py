"""Listing over HTTP at services that are not ours: what they lack, and what they answer.

A recording server plays them, because Agentuity's service needs an account.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support import report_service
from support.report_service import Answer, ReportService

from flask_agentuity.client.directory import ThreadDirectory
from flask_agentuity.client.http import HTTPEndpoint
from flask_agentuity.errors import (
    AuthenticationFailed,
    ConfigurationError,
    RequestTimeout,
    ServiceError,
    ServiceUnavailable,
    StoreError,
)
from flask_agentuity.stores.remote import RemoteStore

KEY = "the key of the tests"


@pytest.fixture
def service() -> Iterator[ReportService]:
    service = ReportService()
    yield service
    service.close()


@pytest.fixture
def store(service: ReportService) -> Iterator[RemoteStore]:
    url = service.url.replace("http://", "ws://") + "/thread/ws"
    store = RemoteStore.from_url(url, key=KEY, request_timeout=0.5)
    yield store
    store.close()


@pytest.fixture
def directory(service: ReportService) -> Iterator[ThreadDirectory]:
    directory = ThreadDirectory(HTTPEndpoint(service.url, KEY))
    yield directory
    directory.close()


def described(number: int, **more: Any) -> dict[str, Any]:
    """Return a thread as Agentuity's service describes it."""
    return {
        "id": f"thrd_{number:032x}",
        "created_at": "2026-01-01T00:00:00.5Z",
        "updated_at": f"2026-01-02T00:00:{59 - number:02d}Z",
        "deleted": False,
        "deleted_at": None,
        "deleted_by": None,
        "org_id": "org_1",
        "project_id": "proj_1",
        "user_data": None,
        "metadata": {"owner": "ada"},
        **more,
    }


def answer(data: Any, **more: Any) -> Answer:
    return Answer(body=json.dumps({"success": True, "data": data, **more}).encode())


def queries(service: ReportService) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(each.path).query) for each in service.received]


def test_a_service_with_offsets_is_paged(service: ReportService, store: RemoteStore) -> None:
    service.answers = [
        answer([described(0), described(1)]),
        answer([described(2), described(3)]),
        answer([described(4)]),
    ]
    found, cursor = [], None
    while True:
        page = store.list({"owner": "ada"}, limit=2, cursor=cursor)
        found += [int(thread.id[5:], 16) for thread in page.threads]
        if (cursor := page.cursor) is None:
            break
    assert found == [0, 1, 2, 3, 4]
    assert [query["offset"] for query in queries(service)] == [["0"], ["2"], ["4"]]
    assert queries(service)[0] == {
        "limit": ["2"],
        "offset": ["0"],
        "sort": ["updated"],
        "direction": ["desc"],
        "metadata": ['{"owner":"ada"}'],
    }
    assert service.received[0].headers["Authorization"] == f"Bearer {KEY}"


def test_times_are_read_from_text(service: ReportService, store: RemoteStore) -> None:
    service.answers = [answer([described(0), described(1, created_at="yesterday", updated_at=5)])]
    first, second = store.list().threads
    assert first.created_at.isoformat() == "2026-01-01T00:00:00.500000+00:00"
    assert first.owner == "ada"
    assert (second.created, second.updated) == (0.0, 0.0)


def test_more_than_the_service_gives_at_once(service: ReportService, store: RemoteStore) -> None:
    service.answers = [
        answer([described(n % 50) for n in range(100)]),
        answer([described(n) for n in range(20)]),
    ]
    assert len(store.list(limit=150).threads) == 120
    assert [query["limit"] for query in queries(service)] == [["100"], ["50"]]


def test_what_does_not_match_is_left_out(service: ReportService, store: RemoteStore) -> None:
    """A service that ignores the filter must not show threads of other people."""
    service.answers = [
        answer([described(0), described(1, metadata={"owner": "eve"}), described(2, deleted=True)])
    ]
    assert [thread.id[-1] for thread in store.list(owner="ada").threads] == ["0"]


def test_a_thread_is_described(service: ReportService, store: RemoteStore) -> None:
    service.answers = [
        answer(described(7)),
        Answer(404, body=b'{"success": false, "message": "Thread not found."}'),
        answer(described(7, deleted=True)),
    ]
    found = store.describe("thrd_a/b")
    assert found is not None and found.metadata == {"owner": "ada"}
    assert service.received[0].path == "/thread/thrd_a%2Fb"
    assert store.describe("thrd_a") is None
    assert store.describe("thrd_a") is None


@pytest.mark.parametrize(
    "reply", [Answer(), Answer(204, body=b""), Answer(404, body=b'{"success": false}')]
)
def test_a_thread_is_deleted(
    service: ReportService, directory: ThreadDirectory, reply: Answer
) -> None:
    service.answers = [reply]
    directory.delete("thrd_a")
    assert (service.received[0].method, service.received[0].path) == ("DELETE", "/thread/thrd_a")


CALLS: list[Callable[[RemoteStore], object]] = [
    lambda store: store.list(),
    lambda store: store.describe("thrd_a"),
    lambda store: list(store.scan()),
]


@pytest.mark.parametrize("call", CALLS, ids=["list", "describe", "scan"])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Answer(404, body=b"Not found. Use /thread/ws for threads.\n"), StoreError),
        (Answer(405, body=b""), StoreError),
        (Answer(501, body=b'{"success": false, "message": "cannot list"}'), StoreError),
        (Answer(401, body=b'{"success": false, "message": "who are you?"}'), AuthenticationFailed),
        (Answer(403, body=b""), AuthenticationFailed),
        (Answer(429, body=b""), ServiceUnavailable),
        (Answer(503, body=b""), ServiceUnavailable),
        (Answer(500, body=b""), ServiceError),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), ServiceError),
        (Answer(body=b"<html>"), ServiceError),
        (Answer(body=b'{"success": false}'), ServiceError),
        (answer(None), ServiceError),
        (answer([{"id": 5}]), ServiceError),
        (answer([described(0, metadata=[])]), ServiceError),
        (answer([described(0)], cursor=5), ServiceError),
        (Answer(act=report_service.talk_nonsense), ServiceError),
        (Answer(act=report_service.hang), RequestTimeout),
        (Answer(act=report_service.close), ServiceUnavailable),
    ],
    ids=range(18),
)
def test_every_other_answer_is_a_clear_error(
    service: ReportService,
    store: RemoteStore,
    call: Callable[[RemoteStore], object],
    reply: Answer,
    expected: type[StoreError],
) -> None:
    service.default = reply
    with pytest.raises(expected) as caught:
        call(store)
    assert type(caught.value) is expected or expected is StoreError
    assert service.url in str(caught.value)
    assert KEY not in str(caught.value)


def test_an_idle_connection_that_was_closed_is_replaced(
    service: ReportService, store: RemoteStore
) -> None:
    service.answers = [Answer(act=report_service.close), answer([])]
    assert store.list().threads == []


def test_nothing_listens() -> None:
    service = ReportService()
    service.close()
    store = RemoteStore.from_url(service.url.replace("http", "ws"), key=KEY)
    with pytest.raises(ServiceUnavailable):
        store.list()
    store.close()


@pytest.mark.parametrize("cursor", ["nonsense", "e30", ""])
def test_wrong_cursors(service: ReportService, store: RemoteStore, cursor: str) -> None:
    service.answers = [answer([])]
    if cursor:
        with pytest.raises(ValueError, match="cursor"):
            store.list(cursor=cursor)
    else:
        assert store.list(cursor=cursor).threads == []


def test_a_scan_of_a_service_with_offsets_ends(service: ReportService, store: RemoteStore) -> None:
    page = [described(n) for n in range(3)]
    service.default = answer(page)
    assert [thread.id for thread in store.scan()] == [each["id"] for each in page]


def test_a_scan_finds_what_moves_to_the_front(service: ReportService, store: RemoteStore) -> None:
    before = [described(n, updated=100.0 - n) for n in range(3)]
    moved = described(3, updated=101.0)
    service.answers = [answer(before), answer([moved, *before]), answer([moved, *before])]
    assert [int(thread.id[5:], 16) for thread in store.scan()] == [0, 1, 2, 3]


def test_without_urllib3_the_error_says_how_to_install_it(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r'pip install "flask-agentuity\[reports\]"'):
        store.list()
