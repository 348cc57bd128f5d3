"""The fifteen things that the JavaScript runtime was seen to do wrong, by number.

Each is shown on an app, over real sockets, through a proxy that delays and cuts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from flask import Flask, Response, g
from support.tcp_proxy import Proxy
from support.waiting import eventually

from flask_agentuity import StateNotSerializable, StateTooLarge, ThreadManager
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import OutcomeUnknown, ServiceUnavailable, StoreError
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.web.app_threads import threads_of

KEY = "a key of the tests"
ID = "thrd_0123456789abcdef0123456789abcdef"
PATIENCE = 20.0


class Damaged(MemoryStore):
    """A service's store in which one thread can be damaged, or answer late."""

    # The service reads a store with edits key by key.
    edits = False
    damage: bytes | None = None
    hold: threading.Event | None = None

    def restore(self, thread_id: str) -> bytes | None:
        if self.hold is not None:
            self.hold.wait(PATIENCE)
        return self.damage if self.damage is not None else super().restore(thread_id)


@pytest.fixture
def kept() -> Damaged:
    return Damaged()


@pytest.fixture
def service(kept: ThreadStore) -> Iterator[ThreadService]:
    with ThreadService(kept, keys=[KEY]) as service:
        yield service


@pytest.fixture
def proxy(service: ThreadService) -> Iterator[Proxy]:
    proxy = Proxy(int(service.url.rpartition(":")[2].partition("/")[0]))
    yield proxy
    proxy.close()


def open_store(url: str, **options: Any) -> RemoteStore:
    quick = {"reconnect_base": 0.02, "reconnect_max": 0.05, "request_timeout": 5.0}
    return RemoteStore.from_url(url, key=KEY, **quick | options)


@pytest.fixture
def store(proxy: Proxy) -> Iterator[RemoteStore]:
    store = open_store(proxy.url + "/thread/ws", grace=0.0)
    yield store
    store.close()


@pytest.fixture
def direct(service: ThreadService) -> Iterator[RemoteStore]:
    """A second way to what is stored, which the proxy does not disturb."""
    store = open_store(service.url)
    yield store
    store.close()


@pytest.fixture
def manager(store: RemoteStore) -> ThreadManager:
    return ThreadManager(store=store)


@pytest.fixture
def app(manager: ThreadManager) -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "tested"
    manager.init_app(app)

    @app.get("/count")
    def count() -> dict[str, Any]:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        g.thread.state.push("log", "counted")
        return dict(g.thread.state)

    return app


def client_of(app: Flask) -> Any:
    from flask_agentuity.testing.client import ThreadTestClient

    app.test_client_class = ThreadTestClient
    return app.test_client(thread_id=ID)


@pytest.mark.parametrize("how", ["damaged", "late"])
def test_defect_1_a_failed_restore_never_overwrites(
    app: Flask, store: RemoteStore, direct: RemoteStore, kept: Damaged, how: str
) -> None:
    direct.merge(ID, [Set("count", b"7")])
    if how == "damaged":
        kept.damage = b"[1, 2, 3]"
    else:
        kept.hold = threading.Event()
    client = client_of(app)
    store.close()
    binding = threads_of(app)
    binding.store = open_store(direct.client.settings.address.url, request_timeout=0.3)
    try:
        client.get("/count")
    finally:
        if kept.hold is not None:
            kept.hold.set()
        binding.store.close()
    kept.damage, kept.hold = None, None
    assert b'"count":7' in (direct.restore(ID) or b"")


def test_defect_2_a_write_keeps_the_metadata(app: Flask, direct: RemoteStore) -> None:
    direct.merge(ID, [Set("count", b"1")], {"owner": "ada"})
    client_of(app).get("/count")
    assert b'"metadata":{"owner":"ada"}' in (direct.restore(ID) or b"")


def test_defect_3_a_connection_closed_before_authorization_hangs_no_call(
    app: Flask, proxy: Proxy, direct: RemoteStore
) -> None:
    proxy.cut_after(50)
    client = client_of(app)
    client.get("/count")
    eventually(lambda: client.get("/count").json.get("count", 0) > 1)
    assert proxy.accepted > 1


def test_defect_4_a_call_during_a_reconnect_that_fails_ends(
    store: RemoteStore, proxy: Proxy
) -> None:
    store.merge(ID, [Set("a", b"1")])
    proxy.cut_after(50)
    proxy.drop()
    ended = threading.Event()

    def call() -> None:
        with suppress(StoreError):
            store.restore(ID)
        ended.set()

    threading.Thread(target=call).start()
    assert ended.wait(PATIENCE)
    eventually(lambda: _restored(store) == b'{"state":{"a":1}}')


def _has_accepted_more(proxy: Proxy, before: int) -> bool:
    return proxy.accepted > before


def _restored(store: RemoteStore) -> bytes | None:
    try:
        return store.restore(ID)
    except StoreError:
        return None


def test_defect_5_many_failed_attempts_are_not_the_end(
    store: RemoteStore, proxy: Proxy, direct: RemoteStore
) -> None:
    direct.merge(ID, [Set("a", b"1")])
    for _ in range(8):
        accepted = proxy.accepted
        proxy.cut_after(20)
        _restored(store)
        proxy.drop()
        eventually(partial(_has_accepted_more, proxy, accepted))
    eventually(lambda: _restored(store) == b'{"state":{"a":1}}')


def test_defect_6_nothing_listens_at_the_start(service: ThreadService) -> None:
    service.stop()
    store = open_store(service.url)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        store.restore(ID)
    assert time.monotonic() - began < 10.0, "the runtime takes 60 s"
    store.close()


def test_defect_7_what_was_in_flight_is_not_repeated_blindly(
    store: RemoteStore, proxy: Proxy, direct: RemoteStore
) -> None:
    store.merge(ID, [Push("log", b"1")])
    proxy.cut_after(1, "down")
    with pytest.raises(OutcomeUnknown):
        store.merge(ID, [Push("log", b"2")])
    eventually(lambda: direct.restore(ID) == b'{"state":{"log":[1,2]}}')
    assert _restored(store) in (None, b'{"state":{"log":[1,2]}}')


def test_defect_8_destroy_is_not_undone_by_the_save(app: Flask, direct: RemoteStore) -> None:
    @app.get("/destroy")
    def destroy() -> str:
        g.thread.state["changed"] = True
        g.thread.destroy()
        g.thread.state["again"] = True
        return "gone"

    direct.merge(ID, [Set("a", b"1")])
    response = client_of(app).get("/destroy")
    assert direct.restore(ID) is None
    assert "Max-Age=0" in response.headers["Set-Cookie"]


def test_defect_9_saving_twice_pushes_once(app: Flask, direct: RemoteStore) -> None:
    @app.get("/twice")
    def twice() -> dict[str, Any]:
        g.thread.state.push("log", 1)
        g.thread.save()
        g.thread.save()
        return {"log": g.thread.state["log"]}

    assert client_of(app).get("/twice").json == {"log": [1]}
    assert direct.restore(ID) == b'{"state":{"log":[1]}}'


def test_defect_10_two_requests_at_once_keep_what_both_wrote(
    app: Flask, direct: RemoteStore
) -> None:
    both = threading.Barrier(2)

    @app.get("/write/<key>")
    def write(key: str) -> str:
        log = g.thread.state.setdefault("log", [])
        both.wait(PATIENCE)
        log.append(key)
        g.thread.state[key] = True
        return key

    client = client_of(app)
    threads = [threading.Thread(target=client_of(app).get, args=(f"/write/{key}",)) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    state = client.get("/count").json
    assert sorted(state["log"][:2]) == ["a", "b"]
    assert state["a"] is state["b"] is True


def test_defect_11_what_cannot_be_stored_is_not_taken_for_saved(
    manager: ThreadManager, app: Flask, direct: RemoteStore
) -> None:
    direct.merge(ID, [Set("a", b"1")])
    with pytest.raises(StateTooLarge), manager.open(ID) as thread:
        thread.state["large"] = "x" * 1_048_576
    with pytest.raises(StateNotSerializable, match=r'state\["b"\]'), manager.open(ID) as thread:
        thread.state["b"] = {1, 2}
    assert direct.restore(ID) == b'{"state":{"a":1}}'


def test_defect_12_a_half_open_connection_is_noticed_and_replaced(
    proxy: Proxy, direct: RemoteStore
) -> None:
    store = open_store(
        proxy.url + "/thread/ws",
        ping_interval=0.1,
        pong_timeout=0.1,
        probe_after=0.1,
        request_timeout=2.0,
        grace=0.0,
    )
    store.merge(ID, [Set("a", b"1")])
    accepted = proxy.accepted
    proxy.hold()
    with pytest.raises(StoreError):
        store.restore(ID)
    proxy.release()
    eventually(lambda: _restored(store) == b'{"state":{"a":1}}')
    assert proxy.accepted > accepted
    store.close()


@pytest.mark.parametrize("cookie", ["x", "thrd_x.y", "%ff%00", '"', f"{ID}.forged", "é" * 50])
def test_defect_13_an_invalid_cookie_is_as_if_absent(app: Flask, cookie: str) -> None:
    response = app.test_client().get("/count", headers={"Cookie": f"atid={cookie}"})
    assert response.status_code == 200
    assert response.get_json()["count"] == 1
    assert ID not in response.headers["Set-Cookie"]


def test_defect_14_what_a_stream_writes_is_stored_before_its_end_is_seen(
    app: Flask, direct: RemoteStore
) -> None:
    @app.get("/stream")
    def stream() -> Response:
        state = g.thread.state

        def generate() -> Iterator[str]:
            yield "a"
            state.push("log", "in the stream")

        return Response(generate())

    with client_of(app).get("/stream", buffered=False) as response:
        body = response.iter_encoded()
        assert next(iter(body)) == b"a"
        assert list(body) == []
        assert direct.restore(ID) == b'{"state":{"log":["in the stream"]}}'


def test_defect_15_no_shared_cache_hands_a_thread_on(app: Flask) -> None:
    @app.get("/plain")
    def plain() -> str:
        return "plain"

    client = client_of(app)
    untouched, touched = client.get("/plain"), client.get("/count")
    assert "Set-Cookie" not in untouched.headers
    assert "Vary" not in untouched.headers
    assert touched.headers["Vary"] == "Cookie, x-thread-id"
    assert touched.headers["Cache-Control"] == "private"
