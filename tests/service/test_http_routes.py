"""Listing threads over HTTP: the routes of Agentuity's service, in ours, for each tenant."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from websockets.http11 import Request

from flask_agentuity.errors import StoreError
from flask_agentuity.service import ThreadService
from flask_agentuity.service.wrong_keys import FREE_ATTEMPTS
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.listing import ListedThread, Page, Query
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .peers import KEY, PATIENCE, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

OTHER = "the key of another tenant"


def ask(
    service: ThreadService,
    path: str,
    method: str = "GET",
    key: str | None = KEY,
    **headers: str,
) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    if method != "GET" and not hasattr(Request, "method"):
        pytest.skip("before version 17, websockets takes no other method than GET")
    parts = urlsplit(service.url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        if response.status in (429, 503):
            assert int(response.headers["Retry-After"]) > 0
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def fill(peer: Peer, count: int, **metadata: Any) -> list[str]:
    """Store threads, and return their ids."""
    ids = [f"thrd_{number:032x}" for number in range(count)]
    for number, id in enumerate(ids):
        document = json.dumps({"state": {"number": number}})
        reply = peer.call("save", id, user_data=document, metadata={"number": number, **metadata})
        assert reply["success"] is True
    return ids


def listed(service: ThreadService, **query: Any) -> list[str]:
    status, answer = ask(service, f"/thread?{urlencode(query)}")
    assert status == 200, answer
    return [thread["id"] for thread in answer["data"]]


def test_threads_are_listed_newest_first(serve: Serve, connect: Connect) -> None:
    service = serve()
    ids = fill(connect(service), 15)
    assert listed(service) == ids[:4:-1]
    assert listed(service, limit=3) == ids[:11:-1]
    assert listed(service, limit=3, offset=2) == [ids[12], ids[11], ids[10]]
    assert listed(service, limit=100) == ids[::-1]
    assert listed(service, limit=100, offset=14) == ids[:1]
    assert listed(service, offset=15) == []


def test_pages_follow_by_cursor(serve: Serve, connect: Connect) -> None:
    service = serve()
    ids = fill(connect(service), 45)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 20}
    while True:
        _, answer = ask(service, f"/thread?{urlencode(query)}")
        found += [thread["id"] for thread in answer["data"]]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    assert found == ids[::-1]


@pytest.mark.parametrize("sort", ["created", "updated"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_other_orders(serve: Serve, connect: Connect, sort: str, direction: str) -> None:
    service, ids = serve(), []
    peer = connect(service)
    ids = fill(peer, 5)
    peer.call("merge", ids[1], operations=[{"op": "set", "key": "a", "value": 1}])
    expected = ids if sort == "created" else [ids[0], *ids[2:], ids[1]]
    if direction == "desc":
        expected = expected[::-1]
    assert listed(service, sort=sort, direction=direction) == expected
    assert listed(service, sort=sort, direction=direction, limit=2, offset=1) == expected[1:3]


def test_threads_are_found_by_their_metadata(serve: Serve, connect: Connect) -> None:
    service = serve()
    ids = fill(connect(service), 3, user="Zoë")
    assert listed(service, metadata=json.dumps({"user": "Zoë"})) == ids[::-1]
    assert listed(service, metadata='{"number":1,"user":"Zo\\u00eb"}') == [ids[1]]
    assert listed(service, metadata='{"number":"1"}') == []


def test_half_an_emoji_is_found_as_it_is_stored(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    ids = fill(peer, 2)
    peer.raw(
        json.dumps(
            {"id": "1", "action": "merge", "data": {"thread_id": ids[0], "operations": []}}
        ).replace("[]", '[],"metadata":{"title":"\\ud83d"}')
    )
    assert peer.receive()["success"] is True
    assert listed(service, metadata='{"title":"\\ud83d"}') == [ids[0]]
    assert listed(service, metadata='{"\\ud83d":1}') == []


def test_a_thread_is_described_with_its_document(serve: Serve, connect: Connect) -> None:
    service = serve()
    (id,) = fill(connect(service), 1)
    status, answer = ask(service, f"/thread/{id}")
    assert (status, answer["success"]) == (200, True)
    described = answer["data"]
    assert json.loads(described.pop("user_data")) == {
        "state": {"number": 0},
        "metadata": {"number": 0},
    }
    _, answer = ask(service, "/thread")
    assert answer["data"] == [described]
    assert described["updated_at"].endswith("Z") and described["size"] > 0
    assert described["id"] == id and described["metadata"] == {"number": 0}
    assert (described["deleted"], described["deleted_at"]) == (False, None)


def test_a_thread_is_deleted(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    (id,) = fill(peer, 1)
    assert ask(service, f"/thread/{id}", "DELETE") == (200, {"success": True})
    assert peer.restore(id) == ""
    assert ask(service, f"/thread/{id}")[0] == 404
    assert listed(service) == []
    # As over the socket, deleting what is not there is no error.
    assert ask(service, f"/thread/{id}", "DELETE")[0] == 200


@pytest.mark.parametrize("id", ["a b", "ü/ä", "100%", "?x=1", "thrd_ü"])
def test_ids_of_every_kind(serve: Serve, connect: Connect, id: str) -> None:
    service = serve()
    connect(service).call("save", id, user_data='{"state":{"a":1}}')
    assert listed(service) == [id]
    if "/" not in id:
        assert ask(service, f"/thread/{quote(id, safe='')}")[1]["data"]["id"] == id
        assert ask(service, f"/thread/{quote(id, safe='')}", "DELETE")[0] == 200
        assert listed(service) == []


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    if request.param == "memory":
        yield MemoryStore()
        return
    store = SQLiteStore(tmp_path / "threads.db")
    yield store
    store.close()


def test_tenants_see_their_own_threads(serve: Serve, connect: Connect, store: ThreadStore) -> None:
    service = serve(store, KEY, OTHER)
    mine, others = connect(service, KEY), connect(service, OTHER)
    ids = fill(mine, 3, user="me")
    fill(others, 2, user="other")
    assert listed(service) == ids[::-1]
    _, answer = ask(service, "/thread?metadata=" + quote('{"user":"me"}'), key=OTHER)
    assert answer["data"] == []
    # The ids are the same, the threads are not.
    ask(service, f"/thread/{ids[0]}", "DELETE", key=OTHER)
    assert listed(service) == ids[::-1]
    assert ask(service, f"/thread/{ids[2]}", key=OTHER)[0] == 404
    _, answer = ask(service, "/thread", key=OTHER)
    assert [thread["id"] for thread in answer["data"]] == [ids[1]]
    # A cursor of another tenant shows nothing of that tenant.
    _, page = ask(service, "/thread?limit=1")
    _, answer = ask(service, "/thread?cursor=" + quote(page["cursor"]), key=OTHER)
    assert {thread["metadata"]["user"] for thread in answer["data"]} <= {"other"}


def test_threads_of_every_client_are_listed(
    serve: Serve, connect: Connect, store: ThreadStore, remote: Any
) -> None:
    """The runtime's full saves and merges, and the merged edits of Flask apps."""
    service = serve(store, KEY, OTHER)
    peer = connect(service)
    peer.call("merge", "thrd_" + "1" * 32, operations=[{"op": "set", "key": "a", "value": 1}])
    peer.restore("thrd_" + "2" * 32)
    peer.call("save", "thrd_" + "2" * 32, user_data='{"state":{"a":1}}')
    app = remote(service)
    app.merge("thrd_" + "3" * 32, [], {"a": 1})
    app.save("thrd_" + "4" * 32, b'{"state":{"a":1}}')
    assert sorted(id[5] for id in listed(service)) == list("1234")


def test_an_app_s_own_key_lists_the_threads_of_the_app(serve: Serve) -> None:
    store = MemoryStore()
    store.save("thrd_" + "1" * 32, b'{"state":{"a":1}}')
    service = ThreadService(store, [OTHER], own_key=KEY)
    with service:
        assert listed(service) == ["thrd_" + "1" * 32]
        assert ask(service, "/thread", key=OTHER)[1]["data"] == []


# Who may ask


@pytest.mark.parametrize("path", ["/thread", "/thread/thrd_x"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer " + "x" * 5000},
    ],
    ids=range(7),
)
def test_without_the_key_nothing_is_told(serve: Serve, path: str, headers: dict[str, str]) -> None:
    status, answer = ask(serve(), path, key=None, **headers)
    assert (status, answer["success"]) == (401, False)
    assert KEY not in answer["message"]


def test_a_key_beyond_ascii_is_accepted(serve: Serve) -> None:
    service = serve(None, "ein Schlüssel für alle")
    status, _ = ask(service, "/thread", key="ein Schlüssel für alle".encode().decode("latin-1"))
    assert status == 200


def test_keys_cannot_be_guessed_fast(serve: Serve) -> None:
    service = serve(trusted_addresses=[])
    for _ in range(FREE_ATTEMPTS):
        assert ask(service, "/thread", key="wrong")[0] == 401
    status, answer = ask(service, "/thread")
    assert (status, answer["success"]) == (429, False)
    assert "wrong keys" in answer["message"]


def test_web_pages_are_refused(serve: Serve) -> None:
    status, answer = ask(serve(), "/thread", Origin="https://example.com")
    assert (status, answer["success"]) == (403, False)


def test_keys_are_in_no_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        service = serve()
        ask(service, "/thread")
        ask(service, "/thread", key="a-wrong-key-of-someone")
    assert KEY not in caplog.text and "a-wrong-key" not in caplog.text


# Bad questions


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=1.5", "limit"),
        ("offset=10001", "offset"),
        ("sort=size", "sort"),
        ("direction=up", "direction"),
        ("metadata=x", "metadata"),
        ("metadata=[]", "metadata"),
        ("metadata=%7B%22a%22%3A%5B1%5D%7D", "found by"),
        ("metadata=%FF", "malformed"),
        ("cursor=nonsense", "cursor"),
        ("&".join(f"a{n}=1" for n in range(100)), "malformed"),
    ],
)
def test_a_wrong_query_is_explained(serve: Serve, query: str, words: str) -> None:
    status, answer = ask(serve(), f"/thread?{query}")
    assert (status, answer["success"]) == (400, False)
    assert words in answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("DELETE", "/thread", 405),
        ("PUT", "/thread", 405),
        ("POST", "/thread/x", 405),
        ("GET", "/thread/", 404),
        ("GET", "/thread/a/b", 404),
        ("GET", "/thread/" + "x" * 257, 404),
        ("GET", "/thread/%00", 404),
        ("GET", "/thread/%FF", 404),
        ("DELETE", "/thread/a/b", 404),
    ],
)
def test_other_routes(serve: Serve, method: str, path: str, expected: int) -> None:
    status, answer = ask(serve(), path, method)
    assert (status, answer["success"]) == (expected, False)


def test_unknown_parameters_are_ignored(serve: Serve, connect: Connect) -> None:
    service = serve()
    ids = fill(connect(service), 1)
    assert listed(service, orgId="org_1", projectId="proj_1", more="") == ids


def test_a_large_page_is_refused(serve: Serve, connect: Connect) -> None:
    service = serve()
    peer = connect(service)
    for number in range(6):
        metadata = {"text": "x" * 900_000}
        reply = peer.call("save", f"t{number}", user_data='{"state":{"a":1}}', metadata=metadata)
        assert reply["success"] is True
    status, answer = ask(service, "/thread?limit=6")
    assert status == 413 and "fewer" in answer["message"]
    assert len(ask(service, "/thread?limit=3")[1]["data"]) == 3


def test_many_threads_in_another_order_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr("flask_agentuity.service.listing_pages.MAX_SORTED", 10)
    service = serve()
    fill(connect(service), 11)
    status, answer = ask(service, "/thread?sort=created")
    assert status == 413 and "sort=updated" in answer["message"]


# Stores that fail


class NoOwners(MemoryStore):
    edits = True
    owners = False


class Failing(MemoryStore):
    edits = True

    def for_tenants(self) -> Failing:
        return self

    def find(self, query: Query) -> Page:
        raise StoreError("The disk is on fire.\x1b[2J")

    def describe(self, thread_id: str) -> ListedThread | None:
        raise RuntimeError("a bug")


def test_a_store_that_cannot_list_says_so(serve: Serve) -> None:
    status, answer = ask(serve(NoOwners()), "/thread")
    assert (status, answer["success"]) == (501, False)


def test_a_store_that_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    service = serve(Failing())
    status, answer = ask(service, "/thread")
    assert status == 500 and "on fire" in answer["message"] and "\x1b" not in answer["message"]
    status, answer = ask(service, "/thread/x")
    assert status == 500 and "a bug" not in answer["message"]
    assert "a bug" in caplog.text


# Limits


class HeldStore(MemoryStore):
    edits = True
    seconds = 0.0

    def for_tenants(self) -> HeldStore:
        return self

    def find(self, query: Query) -> Page:
        time.sleep(self.seconds)
        return super().find(query)


def test_the_limit_of_connections_holds(serve: Serve, connect: Connect) -> None:
    service = serve(max_connections=1)
    connect(service)
    status, answer = ask(service, "/thread")
    assert (status, answer["success"]) == (503, False)


def test_many_requests_at_once(serve: Serve, connect: Connect) -> None:
    service = serve()
    ids = fill(connect(service), 5)
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(listed, service) for _ in range(64)]
    assert all(answer.result() == ids[::-1] for answer in answers)


def test_a_request_that_is_under_way_is_answered_when_the_service_stops(serve: Serve) -> None:
    store = HeldStore()
    store.seconds = 0.2
    service = serve(store)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, service, "/thread")
        time.sleep(0.1)
        service.stop()
        assert answer.result()[0] == 200


@contextmanager
def asked_and_not_read(service: ThreadService, peer: Peer) -> Iterator[socket.socket]:
    """A connection that has asked for several megabytes, with little room for them."""
    for number in range(4):
        metadata = {"text": "x" * 900_000}
        peer.call("save", f"t{number}", user_data='{"state":{"a":1}}', metadata=metadata)
    parts = urlsplit(service.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect((parts.hostname, parts.port))
        client.sendall(
            f"GET /thread HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
        )
        yield client


def test_a_client_that_does_not_read_is_disconnected(serve: Serve, connect: Connect) -> None:
    service = serve(send_timeout=0.3)
    with asked_and_not_read(service, connect(service)) as client:
        time.sleep(1.0)
        received = 0
        try:
            while chunk := client.recv(65_536):
                received += len(chunk)
        except ConnectionResetError:
            pass
    assert received < 3_000_000


def test_a_slow_reader_gets_all(serve: Serve, connect: Connect) -> None:
    service = serve()
    with asked_and_not_read(service, connect(service)) as client:
        time.sleep(1.0)
        received = b""
        while chunk := client.recv(1 << 20):
            received += chunk
    assert json.loads(received.partition(b"\r\n\r\n")[2])["success"] is True
