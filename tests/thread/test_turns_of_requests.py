"""One request at a time on a thread: what one_at_a_time() does to views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, current_app, g, stream_with_context
from support.leasing import ID, Leasing, taken

from flask_agentuity import ThreadManager
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ConfigurationError, StoreError
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing.client import ThreadTestClient


def test_the_turn_ends_with_the_request(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    free: list[bool] = []

    @app.get("/<what>")
    @threads.one_at_a_time("reject")
    def view(what: str) -> Any:
        free.append(store.is_free)
        if what == "raises":
            raise RuntimeError("in the view")
        if what == "aborts":
            current_app.aborter(418)
        return {"empty": ("", 204), "error": ("", 503)}.get(what, what)

    for path, status in {
        "plain": 200,
        "raises": 500,
        "aborts": 418,
        "empty": 204,
        "error": 503,
    }.items():
        assert client.get(path).status_code == status
        assert free == [False]
        assert store.is_free, path
        free.clear()
    assert client.head("plain").status_code == 200
    assert store.is_free
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(RuntimeError, match="in the view"):
        client.get("raises")
    assert store.is_free
    # A new visitor has the turn on a thread that is new as well.
    assert app.test_client().get("plain").status_code == 200


@pytest.mark.parametrize("context", [False, True], ids=["no context", "context"])
@pytest.mark.parametrize("way", ["read", "left", "HEAD", "204", "raises", "never begun"])
def test_the_turn_ends_with_the_stream(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Leasing,
    way: str,
    context: bool,
) -> None:
    @app.get("/")
    @threads.one_at_a_time("reject")
    def view() -> Response:
        def generate() -> Iterator[str]:
            yield "first"
            assert not store.is_free
            if way == "raises":
                raise RuntimeError("in the stream")
            yield "second"

        body = generate()
        return Response(
            stream_with_context(body) if context else body, status=204 if way == "204" else 200
        )

    response = client.open("/", method="HEAD" if way == "HEAD" else "GET", buffered=False)
    if way in ("read", "left", "raises"):
        assert not store.is_free
        assert next(response.response) in (b"first", "first")  # type: ignore[call-overload]
        assert not store.is_free
    if way == "read":
        assert list(response.response) == [b"second"]
    elif way == "raises":
        with pytest.raises(RuntimeError, match="in the stream"):
            list(response.response)
    response.close()
    assert store.is_free


def test_a_busy_thread_is_409(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    began: list[str] = []

    @app.get("/reject")
    @threads.one_at_a_time(on_busy="reject")
    def reject() -> str:
        began.append("reject")
        return "rejected none"

    @app.get("/wait")
    @threads.one_at_a_time(timeout=0.05)
    def wait() -> str:
        began.append("wait")
        return "waited"

    turn = taken(store)
    for path in ("/reject", "/wait"):
        answer = client.get(path)
        assert answer.status_code == 409
        assert "busy with another request" in answer.text
    assert began == []
    assert not store.is_free
    turn.end()
    assert client.get("/reject").text == "rejected none"
    assert client.get("/wait").text == "waited"


def test_the_turn_is_taken_once_in_a_request(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    @threads.one_at_a_time("reject")
    def inner() -> str:
        return "inner"

    @app.get("/")
    @threads.one_at_a_time("reject")
    def outer() -> str:
        return inner() + inner()

    assert client.get("/").text == "innerinner"
    assert store.is_free


def test_async_views(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    pytest.importorskip("asgiref")
    free: list[bool] = []

    @app.get("/")
    @threads.one_at_a_time("reject")
    async def view() -> str:
        free.append(store.is_free)
        g.thread.state.push("l", 2)
        return "async"

    assert client.get("/").text == "async"
    assert free == [False]
    assert store.is_free
    with client.thread() as thread:
        assert thread.state["l"] == [1, 2]


def test_another_conversation_in_the_middle(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    @app.get("/")
    @threads.one_at_a_time("reject")
    def view() -> str:
        threads.new().state["a"] = 1
        assert not store.is_free
        return "anew"

    assert client.get("/").status_code == 200
    assert store.is_free


def test_a_state_that_was_read_before_the_turn_is_warned_of(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Leasing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> None:
        g.before = list(g.thread.state["l"])
        # Another request, whose turn it is, goes on until this one gets its turn.
        store.merge(ID, [Push("l", b"2")])

    app.before_request(read)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Any:
        g.thread.state["l"].append(3)
        return {"before": g.before, "view": g.thread.state["l"]}

    # It is old, and nothing that anybody has appended is lost by that.
    assert client.get("/").json == {"before": [1], "view": [1, 3]}
    assert f"Thread {ID} was read before its turn was taken" in caplog.text
    with client.thread() as thread:
        assert thread.state["l"] == [1, 2, 3]


def test_a_function_before_the_request_can_take_the_turn(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Leasing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free: list[bool] = []

    @app.before_request
    @threads.one_at_a_time("reject")
    def read() -> None:
        free.append(store.is_free)
        g.before = len(g.thread.state)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        free.append(store.is_free)
        return "view"

    assert client.get("/").text == "view"
    assert free == [False, False]
    assert store.is_free
    assert not caplog.records
    turn = taken(store)
    assert client.get("/").status_code == 409
    turn.end()


def test_reading_the_id_before_the_turn_is_no_reading(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @app.before_request
    def touch() -> None:
        assert g.thread.id == ID
        g.thread.state["seen"] = True
        g.thread.state.push("l", 2)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Any:
        return dict(g.thread.state)

    assert client.get("/").json == {"l": [1, 2], "seen": True}
    assert not caplog.records


def test_a_store_that_is_down_is_503(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    began: list[str] = []

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        began.append("view")
        return "view"

    store.at_taking = [StoreError("it is down: secret")]
    answer = client.get("/")
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert began == []
    assert client.get("/").text == "view"


def test_wrong_use_is_said_at_once(threads: ThreadManager) -> None:
    with pytest.raises(ConfigurationError, match="on_busy='queue'"):
        threads.one_at_a_time("queue")  # type: ignore[arg-type]
    for timeout in ("5", -1, None, True, float("nan"), 1e12, 10**400):
        with pytest.raises(ConfigurationError, match=r"timeout=.*0 or more"):
            threads.one_at_a_time(timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"Write @threads\.one_at_a_time\(\)"):

        @threads.one_at_a_time  # type: ignore[arg-type]
        def view() -> str:
            return "the parentheses are missing"


def test_what_was_not_used_before_the_turn_is_read_again(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Leasing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with client.thread() as thread:
        thread.metadata["owner"] = "ada"
        thread.state["n"] = 1

    @app.before_request
    def authorize() -> None:
        assert g.thread.metadata == {"owner": "ada"}
        g.thread.state["seen"] = True
        g.thread.state.push("l", 2)
        # Another request, whose turn it is, goes on until this one gets its turn.
        store.merge(ID, [Push("l", b"8"), Set("n", b"9"), Set("m", b"9"), Set("seen", b"false")])

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Any:
        g.thread.metadata["title"] = "t"
        g.thread.state["l"].append(3)
        return dict(g.thread.state)

    expected = {"l": [1, 8, 2, 3], "n": 9, "m": 9, "seen": True}
    assert client.get("/").json == expected
    assert not caplog.records
    with client.thread() as thread:
        assert dict(thread.state) == expected
        assert thread.metadata == {"owner": "ada", "title": "t"}


@pytest.mark.parametrize("use", ["get", "has", "list", "missing", "values"])
def test_what_was_used_before_the_turn_is_warned_of(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    use: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> None:
        state = g.thread.state
        uses: dict[str, Callable[[], object]] = {
            "get": lambda: state["l"],
            "has": lambda: "l" in state,
            "list": lambda: list(state),
            "missing": lambda: state.get("missing"),
            "values": lambda: dict(state),
        }
        uses[use]()

    app.before_request(read)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        return "view"

    assert client.get("/").text == "view"
    assert f"Thread {ID} was read before its turn was taken" in caplog.text


def test_no_more_than_max_waiting_wait(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing
) -> None:
    @app.get("/none")
    @threads.one_at_a_time(timeout=60, max_waiting=0)
    def none() -> str:
        return "view"

    @app.get("/two")
    @threads.one_at_a_time(timeout=60, max_waiting=2)
    def two() -> str:
        return "view"

    turn = taken(store)
    lease = store.lease
    assert lease is not None
    assert client.get("/none").status_code == 409
    assert store.count_waiting(lease, 2) == 2
    assert client.get("/two").status_code == 409
    store.count_waiting(lease, -1)
    store.at_taking = [lambda: None, turn.end]
    assert client.get("/two").text == "view"
    assert client.get("/none").text == "view"
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ConfigurationError, match=r"max_waiting=.*0 or more"):
            threads.one_at_a_time(max_waiting=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_new", [False, True])
def test_the_turn_follows_a_thread_that_gets_a_new_id(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Leasing, is_new: bool
) -> None:
    ids: list[str] = []

    def is_busy(thread_id: str) -> bool:
        holder = MemoryStore.lease_turn(store, thread_id, "looking").holder
        store.end_turn(thread_id, "looking")
        return holder != "looking"

    @app.get("/")
    @threads.one_at_a_time("reject")
    def view() -> str:
        ids.append(g.thread.id)
        g.thread.state.push("l", 2)
        threads.rotate()
        ids.append(g.thread.id)
        assert [is_busy(each) for each in ids] == [False, True]
        g.thread.state.push("l", 3)
        return "rotated"

    visitor = app.test_client() if is_new else client
    assert visitor.get("/").text == "rotated"
    assert not any(map(is_busy, ids))
    assert ids[0] != ids[1]
    expected = b"[2,3]" if is_new else b"[1,2,3]"
    assert store.restore(ids[1]) == b'{"state":{"l":%b}}' % expected
