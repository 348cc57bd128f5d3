"""Protocol extensions that a service announces, and requests that need one."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.waiting import eventually

from flask_agentuity.client import FeatureMissing, ServiceRefusal, ThreadClient
from flask_agentuity.errors import AuthenticationFailed, OutcomeUnknown, ServiceUnavailable

from .scripted_service import THREAD, Gone, Peer, Service

Serve = Callable[..., Service]
Connect = Callable[..., ThreadClient]


def encode(id: str) -> bytes:
    data = {"thread_id": THREAD, "edits": []}
    return json.dumps({"id": id, "action": "edit", "data": data}).encode()


def answering(*answers: dict[str, Any], **features: Any) -> Callable[[Peer], None]:
    """Announce *features*, answer that many requests, then wait for the client to leave."""

    def script(peer: Peer) -> None:
        peer.authorize(**features)
        for answer in answers:
            peer.send({"id": peer.receive()["id"], "success": True, **answer})
        peer.receive()

    return script


def sent(service: Service, action: str) -> int:
    return sum(each.get("action") == action for each in service.received)


def test_features_are_those_of_the_current_connection(serve: Serve, connect: Connect) -> None:
    service = serve(answering(edits=1, runs=3, name="x", on=True), answering())
    client = connect(service.url)
    assert client.features() == {"edits": 1, "runs": 3}
    assert client.features() == {"edits": 1, "runs": 3}
    assert service.accepted == 1
    service.drop()
    eventually(lambda: client.connection_number == 2)
    assert client.features() == {}


def test_features_raise_the_errors_of_a_call(serve: Serve, connect: Connect) -> None:
    with pytest.raises(AuthenticationFailed):
        connect(serve(key="another").url).features()
    client = connect("ws://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match="refused"):
        client.features()
    client.close()
    with pytest.raises(ServiceUnavailable, match="closed"):
        client.features()


def test_a_call_for_features_times_out(serve: Serve, connect: Connect) -> None:
    def silent(peer: Peer) -> None:
        peer.upgrade()
        peer.drain()

    client = connect(serve(silent).url, request_timeout=0.2)
    with pytest.raises(ServiceUnavailable):
        client.features()
    assert client.stats()["pending"] == 0


def test_the_whole_reply_reaches_the_caller(serve: Serve, connect: Connect) -> None:
    service = serve(
        answering({"version": 7, "merged": {"a": []}}, {"data": "{}", "version": 8}, edits=1)
    )
    client = connect(service.url)
    reply = client.merge_edits(THREAD, encode)
    assert reply.fields["version"] == 7
    assert reply.fields["merged"] == {"a": []}
    reply = client.restore_reply(THREAD)
    assert reply.data == "{}"
    assert reply.fields["version"] == 8
    assert client.stats()["requests"] == {"merge ok": 1, "restore ok": 1}


def test_a_refused_merge_has_the_whole_reply(serve: Serve, connect: Connect) -> None:
    refusal = {"success": False, "error": "conflict", "keys": ["a"]}
    client = connect(serve(answering(refusal, edits=1)).url)
    with pytest.raises(ServiceRefusal, match="conflict") as raised:
        client.merge_edits(THREAD, encode)
    assert raised.value.fields["keys"] == ["a"]
    copy = pickle.loads(pickle.dumps(raised.value))
    assert copy.fields == raised.value.fields


@pytest.mark.parametrize("connected", [False, True])
def test_nothing_is_sent_without_the_feature(
    serve: Serve, connect: Connect, connected: bool
) -> None:
    service = serve()
    client = connect(service.url)
    if connected:
        client.restore(THREAD)
    with pytest.raises(FeatureMissing, match="does not support 'edits'") as raised:
        client.merge_edits(THREAD, encode)
    assert pickle.loads(pickle.dumps(raised.value)).feature == "edits"
    with pytest.raises(FeatureMissing):
        client.restore_reply(THREAD, requires="edits")
    assert client.restore(THREAD) is None
    assert sent(service, "edit") == 0
    assert client.stats()["pending"] == client.stats()["queued_bytes"] == 0


def test_a_merge_waiting_for_a_new_connection_needs_the_feature_there(
    serve: Serve, connect: Connect
) -> None:
    service = serve(answering({}, edits=1), Peer.serve)
    client = connect(service.url, reconnect_base=0.5, reconnect_max=0.5, grace=5)
    client.restore(THREAD)
    service.drop()
    eventually(lambda: client.stats()["state"] != "ready")
    with pytest.raises(FeatureMissing):
        client.merge_edits(THREAD, encode)
    assert sent(service, "edit") == 0


def test_a_repeated_restore_that_lost_the_feature_may_have_been_done(
    serve: Serve, connect: Connect
) -> None:
    def leave(peer: Peer) -> None:
        answering({}, edits=1)(peer)
        raise Gone

    client = connect(serve(leave, Peer.serve).url)
    client.restore(THREAD)
    with pytest.raises(Exception, match="no longer supports 'edits'") as raised:
        client.restore_reply(THREAD, requires="edits")
    assert not isinstance(raised.value, FeatureMissing)


def test_merged_edits_that_are_not_answered_are_not_sent_twice(
    serve: Serve, connect: Connect
) -> None:
    service = serve(answering({}, edits=1), answering({}, edits=1))
    client = connect(service.url)
    client.restore(THREAD)
    with pytest.raises(OutcomeUnknown):
        client.merge_edits(THREAD, encode)
    client.restore(THREAD)
    assert sent(service, "edit") == 1


def test_features_while_calls_are_under_way(serve: Serve, connect: Connect) -> None:
    client = connect(serve(answering(*[{"data": "{}"}] * 8, edits=1)).url)
    found: list[object] = []

    def look() -> None:
        found.append(client.features())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        client.restore(THREAD)
    for thread in threads:
        thread.join(10)
    assert found == [{"edits": 1}] * 8
