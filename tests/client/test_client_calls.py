"""Calls and replies over a connection that is not lost."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from support.waiting import eventually

from flask_agentuity.client import ServiceRefusal, ThreadClient
from flask_agentuity.document.operations import Clear, Delete, Push, Set
from flask_agentuity.errors import (
    AuthenticationFailed,
    InvalidThreadId,
    OutcomeUnknown,
    Overloaded,
    RequestTimeout,
    ServiceError,
    ServiceUnavailable,
    StateTooLarge,
)

from .scripted_service import KEY, THREAD, Opcode, Peer, Service

Serve = Callable[..., Service]
Connect = Callable[..., ThreadClient]


def test_a_thread_is_written_and_read(serve: Serve, connect: Connect) -> None:
    service = serve()
    client = connect(service.url)
    assert service.accepted == 0
    assert client.restore(THREAD) is None
    document = '{"state":{"a":"é\\n\\"😀"}}'.encode()
    client.save(THREAD, document, {"kind": "chat"})
    assert client.restore(THREAD) == document
    client.merge(THREAD, [Set("a", b"1"), Push("b", b'{"c":2}', 3), Delete("d"), Clear()], {})
    client.delete(THREAD)
    assert client.restore(THREAD) is None
    assert service.accepted == 1
    assert service.received[2]["data"]["metadata"] == {"kind": "chat"}
    assert service.merges == [
        {
            "thread_id": THREAD,
            "operations": [
                {"op": "set", "key": "a", "value": 1},
                {"op": "push", "key": "b", "value": {"c": 2}, "maxRecords": 3},
                {"op": "delete", "key": "d"},
                {"op": "clear"},
            ],
            "metadata": {},
        }
    ]
    assert client.connection_number == 1
    assert client.stats()["requests"] == {
        "restore ok": 3,
        "save ok": 1,
        "merge ok": 1,
        "delete ok": 1,
    }


def test_every_call_can_return_a_future(serve: Serve, connect: Connect) -> None:
    client = connect(serve().url)
    futures: list[Future[Any]] = [
        client.submit_save(THREAD, b'{"state":{}}'),
        client.submit_restore(THREAD),
        client.submit_merge(THREAD, [Clear()]),
        client.submit_delete(THREAD),
    ]
    assert [future.result(5) for future in futures] == [None, b'{"state":{}}', None, None]
    assert not futures[0].cancel()


def test_answers_in_any_order_find_their_callers(serve: Serve, connect: Connect) -> None:
    def backwards(peer: Peer) -> None:
        peer.authorize()
        requests = [peer.receive() for _ in range(50)]
        for request in reversed(requests):
            peer.answer(request, data=request["data"]["thread_id"])
        peer.drain()

    client = connect(serve(backwards).url)
    futures = {str(n): client.submit_restore(str(n)) for n in range(50)}
    assert all(future.result(5) == n.encode() for n, future in futures.items())


def test_large_documents_go_both_ways_at_once(serve: Serve, connect: Connect) -> None:
    client = connect(serve().url)
    failures: list[object] = []

    def turn(number: int) -> None:
        document = json.dumps({"state": {"a": chr(65 + number % 26) * 1_000_000}}).encode()
        client.save(str(number), document)
        if client.restore(str(number)) != document:
            failures.append(number)

    threads = [threading.Thread(target=turn, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert client.stats()["requests"] == {"save ok": 24, "restore ok": 24}
    assert client.stats()["queued_bytes"] == 0


@pytest.mark.parametrize("spelling", [{}, {"data": None}, {"data": ""}])
def test_an_unknown_thread_is_none(
    serve: Serve, connect: Connect, spelling: dict[str, Any]
) -> None:
    def empty(peer: Peer) -> None:
        peer.authorize()
        peer.answer(peer.receive(), **spelling)
        peer.drain()

    assert connect(serve(empty).url).restore(THREAD) is None


def test_what_the_service_answers_wrongly_fails_that_call_only(
    serve: Serve, connect: Connect
) -> None:
    answers: list[dict[str, Any]] = [
        {"success": True, "data": {"state": {}}},
        {"success": False, "error": "Unknown action: 'merge'"},
        {"success": False},
        {"success": False, "error": 7},
        {"success": "yes"},
        {},
        {"success": False, "error": f"the key {KEY} may not"},
    ]

    def wrong(peer: Peer) -> None:
        peer.authorize()
        for answer in answers:
            peer.send({"id": peer.receive()["id"], **answer})
        while True:
            peer.handle(peer.receive())

    service = serve(wrong)
    client = connect(service.url)
    with pytest.raises(ServiceError, match="dict instead of text"):
        client.restore(THREAD)
    with pytest.raises(ServiceRefusal) as raised:
        client.merge(THREAD, [Clear()])
    assert raised.value.words == "Unknown action: 'merge'"
    assert THREAD in str(raised.value)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (str(copy), copy.words) == (str(raised.value), raised.value.words)
    for _ in range(2):
        with pytest.raises(ServiceError, match="gave no reason"):
            client.save(THREAD, b"{}")
    for _ in range(2):
        with pytest.raises(ServiceError, match="neither success nor failure"):
            client.restore(THREAD)
    with pytest.raises(ServiceError, match="the key <key> may not"):
        client.restore(THREAD)
    assert client.restore(THREAD) is None
    assert service.accepted == 1


def test_control_characters_of_the_service_reach_neither_log_nor_error(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_agentuity")
    evil = "no\nERROR forged\x1b[2J\u202e"

    def refuse_and_leave(peer: Peer) -> None:
        peer.authorize()
        peer.send({"id": peer.receive()["id"], "success": False, "error": evil})
        peer.receive()
        peer.close(1011, evil)

    def deny(peer: Peer) -> None:
        peer.upgrade()
        peer.receive()
        peer.send({"success": False, "error": evil})

    client = connect(serve(refuse_and_leave).url, grace=0)
    with pytest.raises(ServiceRefusal) as refused:
        client.restore(THREAD)
    with pytest.raises(RequestTimeout) as closed:
        client.restore(THREAD)
    with pytest.raises(AuthenticationFailed) as denied:
        connect(serve(deny).url).restore(THREAD)
    shown = [str(refused.value), refused.value.words, str(closed.value), str(denied.value)]
    for text in [*shown, *(record.getMessage() for record in caplog.records)]:
        assert not set(text) & set("\n\x1b\u202e")
    assert all(r"no\nERROR forged\x1b[2J\u202e" in text for text in shown)


def test_nonsense_between_replies_is_counted_and_ignored(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_agentuity")

    def messy(peer: Peer) -> None:
        peer.upgrade()
        peer.receive()
        peer.send_text(b"\xff\xfe")
        peer.send({"id": "early", "success": True})
        peer.send({"success": True})
        first = peer.receive()
        peer.send({"success": True})
        peer.send({"success": False, "error": "too late"})
        peer.send_text(b"[" * 5000)
        peer.send({"id": "unknown", "success": True})
        peer.send({"id": 5, "success": True})
        peer.protocol.send_binary(b"binary")
        peer.protocol.send_pong(b"unasked")
        peer.protocol.send_ping(b"hello")
        peer.answer(first)
        peer.answer(first)
        while True:
            peer.handle(peer.receive())

    service = serve(messy)
    client = connect(service.url)
    assert client.restore(THREAD) is None
    assert client.restore(THREAD) is None
    stats = client.stats()
    assert (stats["malformed"], stats["unknown_id"], stats["duplicate"]) == (7, 1, 1)
    assert service.accepted == 1
    eventually(lambda: Opcode.PONG in service.controls)
    assert "Ignored" in caplog.text


def test_a_thousand_unknown_ids_replace_the_connection(serve: Serve, connect: Connect) -> None:
    def flood(peer: Peer) -> None:
        peer.authorize()
        peer.receive()
        while True:
            peer.send({"id": "unknown", "success": True})

    service = serve(flood, Peer.serve)
    client = connect(service.url)
    with pytest.raises(RequestTimeout, match="1,000 consecutive messages that answer no request"):
        client.restore(THREAD)
    eventually(lambda: client.connection_number == 2)
    assert client.restore(THREAD) is None


def test_a_late_reply_after_a_timeout_is_ignored(serve: Serve, connect: Connect) -> None:
    go = threading.Event()

    def late(peer: Peer) -> None:
        peer.authorize()
        first, second = peer.receive(), peer.receive()
        peer.answer(second)
        go.wait(10)
        peer.answer(first, data="late")
        while True:
            peer.handle(peer.receive())

    service = serve(late)
    client = connect(service.url, request_timeout=0.5)
    slow = client.submit_restore(THREAD)
    client.save(THREAD, b"{}")
    with pytest.raises(RequestTimeout, match="did not reply within"):
        slow.result(5)
    go.set()
    client.save(THREAD, b"{}")
    assert client.stats()["late"] == 1
    assert client.stats()["timeouts"] == 1
    assert service.accepted == 1


def test_a_call_that_took_long_to_encode_times_out_at_its_own_time(
    serve: Serve, connect: Connect
) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.drain()

    client = connect(serve(deaf).url, request_timeout=2.0)
    client.features()
    encoding, second_sent = threading.Event(), threading.Event()
    ended: list[str] = []

    def encode(id: str) -> bytes:
        encoding.set()
        second_sent.wait(10)
        return json.dumps({"id": id, "action": "restore", "data": {}}).encode()

    def call_first() -> None:
        with pytest.raises(RequestTimeout):
            client.restore_reply(THREAD, encode)
        ended.append("first")

    first = threading.Thread(target=call_first)
    first.start()
    assert encoding.wait(10)
    time.sleep(1.5)
    # This one is sent first, and has 1.5 s more.
    second = client.submit_restore(THREAD)
    second.add_done_callback(lambda future: ended.append("second"))
    second_sent.set()
    with pytest.raises(RequestTimeout):
        second.result(10)
    first.join(10)
    assert ended == ["first", "second"]


def test_a_merge_that_is_not_answered_in_time_has_an_unknown_outcome(
    serve: Serve, connect: Connect
) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.drain()

    client = connect(serve(deaf).url, request_timeout=0.2)
    with pytest.raises(OutcomeUnknown, match="may or may not have been applied"):
        client.merge(THREAD, [Clear()])
    assert client.stats()["outcome_unknown"] == 1


def test_wrong_arguments_are_refused_before_anything_is_sent(
    serve: Serve, connect: Connect
) -> None:
    service = serve()
    client = connect(service.url)
    with pytest.raises(StateTooLarge):
        client.save(THREAD, b" " * 1_048_577)
    with pytest.raises(InvalidThreadId):
        client.submit_restore("\ud800")
    with pytest.raises(StateTooLarge):
        client.merge(THREAD, [Set("a", b"1" * 5_000_000)])
    client.save(THREAD, b'"' * 1_048_576)
    assert client.stats()["pending"] == 0
    assert len(service.received) == 2


def test_the_queue_is_bounded(serve: Serve, connect: Connect) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.drain()

    client = connect(serve(deaf).url, max_pending=5, request_timeout=0.5)
    futures = [client.submit_restore(THREAD) for _ in range(5)]
    with pytest.raises(Overloaded, match="Nothing was sent"):
        client.restore(THREAD)
    for future in futures:
        with pytest.raises(RequestTimeout):
            future.result(5)
    assert client.stats()["overloaded"] == 1
    client = connect("ws://127.0.0.1:9", max_queued_bytes=1000)
    with pytest.raises(Overloaded):
        client.save(THREAD, b'{"a":"%b"}' % (b"x" * 1000))


def test_a_call_that_waits_is_refused_in_the_io_thread(serve: Serve, connect: Connect) -> None:
    go = threading.Event()

    def slow(peer: Peer) -> None:
        peer.authorize()
        request = peer.receive()
        go.wait(5)
        peer.answer(request)
        peer.drain()

    service = serve(slow)
    client = connect(service.url)
    raised: list[BaseException] = []

    def wrong(future: Future[bytes | None]) -> None:
        try:
            client.merge(THREAD, [Clear()])
        except RuntimeError as error:
            raised.append(error)

    future = client.submit_restore(THREAD)
    future.add_done_callback(wrong)
    go.set()
    eventually(lambda: raised)
    assert "done callback" in str(raised[0])
    assert service.merges == []


def test_a_close_waits_for_calls_in_progress(serve: Serve, connect: Connect) -> None:
    go = threading.Event()

    def slow(peer: Peer) -> None:
        peer.authorize()
        request = peer.receive()
        go.wait(5)
        peer.answer(request)
        peer.receive()

    service = serve(slow)
    client = connect(service.url)
    future = client.submit_save(THREAD, b"{}")
    eventually(lambda: len(service.received) == 2)
    closing = threading.Thread(target=client.close, args=(5,))
    closing.start()
    eventually(lambda: client.stats()["state"] == "closing")
    with pytest.raises(ServiceUnavailable, match="closed"):
        client.restore(THREAD)
    go.set()
    closing.join(5)
    assert future.result(0) is None
    # It sent a close frame with code 1000.
    eventually(lambda: service.closes == [b"\x03\xe8"])
    client.close()
    with pytest.raises(ServiceUnavailable, match="closed"):
        client.restore(THREAD)
    assert client.stats()["state"] == "closed"


def test_a_close_waits_no_longer_than_its_timeout(serve: Serve, connect: Connect) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.drain()

    service = serve(deaf)
    client = connect(service.url)
    restore = client.submit_restore(THREAD)
    merge = client.submit_merge(THREAD, [Clear()])
    eventually(lambda: client.stats()["bytes_out"] > 300)
    client.close(timeout=0.1)
    with pytest.raises(RequestTimeout, match="closed"):
        restore.result(0)
    with pytest.raises(OutcomeUnknown, match="closed"):
        merge.result(0)


def test_a_client_that_is_no_longer_referenced_closes_itself(serve: Serve) -> None:
    service = serve()
    client = ThreadClient(service.url, KEY, ping_interval=0.1)
    client.restore(THREAD)
    del client
    eventually(lambda: len(service.closes) == 1)


def test_the_key_is_in_no_log(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_agentuity")
    caplog.set_level(logging.DEBUG, "websocket")
    service = serve(key="another")
    client = connect(service.url.replace("ws://", "ws://user:word@") + "/x?token=word")
    with pytest.raises(Exception, match="unknown key") as raised:
        client.restore(THREAD)
    assert KEY not in str(raised.value)
    assert KEY not in caplog.text
    assert "word" not in caplog.text
    assert "word" not in str(raised.value)
