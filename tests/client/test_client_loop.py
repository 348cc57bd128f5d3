"""The I/O thread when something in it fails, or when it ends unexpectedly."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from support.waiting import eventually

from flask_agentuity.client import ThreadClient
from flask_agentuity.client.connection_manager import ConnectionManager
from flask_agentuity.document.operations import Clear
from flask_agentuity.errors import OutcomeUnknown, RequestTimeout, ServiceUnavailable

from .scripted_service import THREAD, Peer, Service

Serve = Callable[..., Service]
Connect = Callable[..., ThreadClient]

THREAD_ENDS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def raise_once(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, method: str, when: Callable[[], object]
) -> None:
    """Let *method* of the connection manager raise *error* the first time that *when* holds."""
    real = getattr(ConnectionManager, method)
    raised: list[BaseException] = []

    def raising(self: ConnectionManager, *arguments: object) -> object:
        if not raised and when():
            raised.append(error)
            raise error
        return real(self, *arguments)

    monkeypatch.setattr(ConnectionManager, method, raising)


def answer_later(peer: Peer) -> None:
    """Answer the first request, and no other one."""
    peer.authorize()
    peer.handle(peer.receive())
    peer.drain()


def test_an_unexpected_exception_replaces_the_connection(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = serve(answer_later, Peer.serve)
    client = connect(service.url)
    client.restore(THREAD)
    broken: list[bool] = []
    raise_once(monkeypatch, ZeroDivisionError("broken"), "check_timers", lambda: broken)
    before = client.stats()["bytes_out"]
    merge = client.submit_merge(THREAD, [Clear()])
    eventually(lambda: client.stats()["bytes_out"] > before)
    broken.append(True)
    with pytest.raises(OutcomeUnknown, match="Internal error"):
        merge.result(10)
    assert client.restore(THREAD) is None
    stats = client.stats()
    assert (stats["io_crashes"], stats["lost"], stats["connections"]) == (1, {"crash": 1}, 2)
    assert "ZeroDivisionError: broken" in caplog.text


def test_an_exception_in_every_iteration_does_not_end_the_client(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "flask_agentuity")
    client = connect(serve().url, grace=0)
    client.restore(THREAD)
    with monkeypatch.context() as patch:

        def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        patch.setattr(ConnectionManager, "receive", broken)
        eventually(lambda: client.stats()["io_crashes"] >= 3)
        with pytest.raises(ServiceUnavailable):
            client.restore(THREAD)
    eventually(lambda: client.stats()["state"] == "ready")
    assert client.restore(THREAD) is None


@THREAD_ENDS
def test_a_thread_that_ended_is_replaced(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    client = connect(service.url)
    client.restore(THREAD)
    process = client._here.get()
    raise_once(monkeypatch, SystemExit(), "send", lambda: True)
    first = client.submit_restore(THREAD)
    eventually(lambda: not process._is_running)
    # The next call starts a thread, which sends the first one as well.
    assert client.restore(THREAD) is None
    assert first.result(10) is None
    assert service.accepted == 1


@THREAD_ENDS
def test_a_client_whose_thread_ended_can_be_closed(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    client = connect(serve(answer_later).url, on_disconnected=told.append)
    client.restore(THREAD)
    process = client._here.get()
    before = client.stats()["bytes_out"]
    sent = client.submit_restore(THREAD)
    eventually(lambda: client.stats()["bytes_out"] > before)
    raise_once(monkeypatch, SystemExit(), "send", lambda: True)
    waiting = client.submit_restore(THREAD)
    eventually(lambda: not process._is_running)
    client.close()
    with pytest.raises(RequestTimeout, match="the client was closed"):
        sent.result(0)
    with pytest.raises(ServiceUnavailable, match="was not sent"):
        waiting.result(0)
    assert client.stats()["state"] == "closed"
    eventually(lambda: len(told) == 1)
