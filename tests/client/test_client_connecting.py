"""What can go wrong before the service accepts the client."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable

import pytest
import trustme
from support.ports import free_port
from support.waiting import eventually

from flask_agentuity.client import ThreadClient
from flask_agentuity.errors import AuthenticationFailed, ServiceUnavailable, StoreError

from .scripted_service import KEY, THREAD, Peer, Service

Serve = Callable[..., Service]
Connect = Callable[..., ThreadClient]


def read_head(peer: Peer) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = peer.socket.recv(4096)
        if not data:
            break
        head += data
    return head


def answering(response: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        read_head(peer)
        peer.raw(response)
        peer.drain()

    return script


def http(status: str, *headers: str, body: bytes = b"") -> Callable[[Peer], None]:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return answering("\r\n".join(lines).encode() + body)


def failure(client: ThreadClient) -> StoreError:
    with pytest.raises(StoreError) as raised:
        client.restore(THREAD)
    return raised.value


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (http("200 OK", body=b"<html>" * 1000), "web page (HTTP status 200)"),
        (http("404 Not Found"), "no thread service at"),
        (http("500 Oops"), "HTTP status 500"),
        (http("503 Busy", "Retry-After: 7"), "HTTP status 503) and asks to wait 7 s"),
        (http("503 Busy", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"), "HTTP status 503)."),
        (http("429 Slow down"), "HTTP status 429)."),
        (
            http("302 Found", "Location: https://user:word@elsewhere/login?token=word"),
            "redirects to 'https://elsewhere/login' (302). Redirects are not followed",
        ),
        (http("301 Moved"), "redirects to 'nowhere' (301)"),
        (
            http("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"),
            "does not speak WebSocket",
        ),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "does not speak WebSocket"),
        (answering(b"\xff\xfe\x00\r\n\r\n"), "does not speak WebSocket"),
        (answering(b"\r\n\r\n"), "does not speak WebSocket"),
        (lambda peer: None, "the connection"),
    ],
)
def test_errors_say_what_answered_and_where(
    serve: Serve,
    connect: Connect,
    script: Callable[[Peer], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = serve(script)
    client = connect(service.url.replace("://", "://user:word@") + "?token=word")
    error = failure(client)
    assert isinstance(error, ServiceUnavailable)
    assert words in str(error)
    assert f"127.0.0.1:{service.port}/thread/ws" in str(error)
    assert "word" not in str(error) + caplog.text
    # The log has it as well, and later calls fail at once with it.
    assert words in caplog.text
    assert words in str(failure(client))


def test_the_key_is_not_sent_before_the_upgrade(serve: Serve, connect: Connect) -> None:
    heads: list[bytes] = []
    elsewhere = serve()

    def redirect(peer: Peer) -> None:
        heads.append(read_head(peer))
        peer.raw(b"HTTP/1.1 302 Found\r\nLocation: %b/\r\n\r\n" % elsewhere.url.encode())
        heads.append(peer.socket.recv(4096))

    error = failure(connect(serve(redirect).url))
    assert elsewhere.url in str(error)
    eventually(lambda: len(heads) == 2)
    assert KEY.encode() not in heads[0]
    assert heads[1] == b""
    assert elsewhere.accepted == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "unknown key"),
        (http("401 Unauthorized"), "HTTP status 401"),
        (http("403 Forbidden"), "HTTP status 403"),
    ],
)
def test_a_wrong_key_is_reported_at_once_and_retried_slowly(
    serve: Serve,
    connect: Connect,
    script: Callable[[Peer], None] | None,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = serve(*([script] if script else []), key="another")
    client = connect(service.url)
    for _ in range(3):
        error = failure(client)
        assert isinstance(error, AuthenticationFailed)
        assert words in str(error)
    assert service.accepted == 1
    assert client.stats()["next_attempt_in"] > 20
    assert [r.levelname for r in caplog.records if words in r.message] == ["ERROR"]


def test_a_corrected_key_works_without_a_restart(serve: Serve, connect: Connect) -> None:
    service = serve(key="another")
    client = connect(service.url, refused_base=0.02, refused_max=0.1)
    assert isinstance(failure(client), AuthenticationFailed)
    service.key = KEY
    eventually(lambda: client.stats()["state"] == "ready")
    assert client.restore(THREAD) is None


def test_a_close_for_policy_is_a_refused_key(serve: Serve, connect: Connect) -> None:
    def curt(peer: Peer) -> None:
        peer.upgrade()
        peer.receive()
        peer.close(1008, f"bad key {KEY}")

    error = failure(connect(serve(curt).url))
    assert isinstance(error, AuthenticationFailed)
    assert "bad key <key>" in str(error)


def test_nothing_listens(connect: Connect) -> None:
    client = connect(f"ws://127.0.0.1:{free_port()}", reconnect_base=5, reconnect_max=5)
    assert "Connection refused" in str(failure(client))
    begin = time.perf_counter()
    for _ in range(1000):
        assert isinstance(failure(client), ServiceUnavailable)
    assert time.perf_counter() - begin < 2
    assert client.stats()["dials"] <= 2
    assert client.stats()["fail_fast"] >= 1000


def test_an_address_that_cannot_be_resolved(connect: Connect) -> None:
    assert "could not be resolved" in str(failure(connect("ws://no-such-host.invalid")))
    assert "could not be resolved" in str(failure(connect(f"ws://{'a' * 70}.invalid")))


def drip(peer: Peer) -> None:
    read_head(peer)
    peer.raw(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        peer.raw(b"X")
        time.sleep(0.02)


def silent_upgrade(peer: Peer) -> None:
    peer.drain()


def silent_authorization(peer: Peer) -> None:
    peer.upgrade()
    peer.drain()


@pytest.mark.parametrize("script", [drip, silent_upgrade, silent_authorization])
def test_the_connect_timeout_is_a_total(
    serve: Serve, connect: Connect, script: Callable[[Peer], None]
) -> None:
    service = serve(script, script, Peer.serve)
    client = connect(service.url, connect_timeout=0.3)
    begin = time.monotonic()
    error = failure(client)
    assert "within 0.3 s" in str(error) or "timed out" in str(error)
    assert 0.25 < time.monotonic() - begin < 2
    # Defects 3 to 6 of the runtime: later attempts follow without a call, and succeed.
    eventually(lambda: client.stats()["state"] == "ready")
    assert client.restore(THREAD) is None


def test_the_service_closes_many_times_before_the_authorization(
    serve: Serve, connect: Connect
) -> None:
    def abrupt(peer: Peer) -> None:
        peer.upgrade()
        peer.receive()

    service = serve(abrupt, abrupt, abrupt, abrupt, abrupt, abrupt, abrupt, Peer.serve)
    client = connect(service.url)
    assert isinstance(failure(client), ServiceUnavailable)
    eventually(lambda: client.stats()["state"] == "ready")
    assert service.accepted == 8
    assert client.restore(THREAD) is None


def test_the_first_callers_share_one_connection(serve: Serve, connect: Connect) -> None:
    service = serve()
    client = connect(service.url)
    futures = [client.submit_restore(THREAD) for _ in range(100)]
    assert all(future.result(5) is None for future in futures)
    assert service.accepted == 1


def test_tls_with_a_ca_file(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, ca_file: str
) -> None:
    service = serve(context=server_context)
    client = connect(service.url, ca_file=ca_file)
    document = b'{"state":{"a":"%b"}}' % (b"x" * 1_000_000)
    client.save(THREAD, document)
    assert client.restore(THREAD) == document


def test_tls_with_data_right_behind_the_upgrade(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, ca_file: str
) -> None:
    def eager(peer: Peer) -> None:
        for event in peer._events():
            peer.protocol.send_response(peer.protocol.accept(event))
            break
        peer.protocol.send_text(b'{"success":true}')
        peer.raw(b"".join(peer.protocol.data_to_send()))
        peer.receive()
        while True:
            peer.handle(peer.receive())

    client = connect(serve(eager, context=server_context).url, ca_file=ca_file)
    assert client.restore(THREAD) is None


def test_an_untrusted_or_wrong_certificate_is_rejected(
    serve: Serve,
    connect: Connect,
    authority: trustme.CA,
    server_context: ssl.SSLContext,
    ca_file: str,
) -> None:
    service = serve(context=server_context)
    client = connect(service.url)
    assert "certificate" in str(failure(client))
    assert "rejected" in str(failure(client))
    assert client.stats()["next_attempt_in"] > 20
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    error = failure(connect(serve(context=context).url, ca_file=ca_file))
    assert "localhost" in str(error)
    assert "rejected" in str(error)


def test_tls_to_a_plain_port_and_the_reverse(
    serve: Serve, connect: Connect, server_context: ssl.SSLContext, ca_file: str
) -> None:
    plain = serve(lambda peer: peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    client = connect(plain.url.replace("ws://", "wss://"), ca_file=ca_file)
    assert "TLS" in str(failure(client))
    secure = serve(context=server_context)
    assert isinstance(failure(connect(secure.url.replace("wss", "ws"))), ServiceUnavailable)


def test_a_proxy_from_the_environment(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def tunnel(peer: Peer) -> None:
        asked.append(read_head(peer))
        peer.raw(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.serve()

    service = serve(tunnel)
    monkeypatch.setenv("http_proxy", f"http://us:p%40ss@127.0.0.1:{service.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = connect("ws://threads.example:81")
    assert client.restore(THREAD) is None
    assert asked[0].startswith(b"CONNECT threads.example:81 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXM6cEBzcw==\r\n" in asked[0]


def test_a_proxy_that_refuses_and_one_that_is_ignored(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = serve(http("407 Proxy Authentication Required"))
    monkeypatch.setenv("http_proxy", f"http://us:word@127.0.0.1:{service.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = failure(connect("ws://threads.example"))
    named = f"http_proxy is set to http://127.0.0.1:{service.port}"
    assert "other credentials (407)" in str(error)
    assert named in str(error)
    assert "us:" not in str(error)
    service = serve(http("403 Forbidden\x1b[2J"))
    monkeypatch.setenv("http_proxy", f"http://us:word@127.0.0.1:{service.port}")
    error = failure(connect("ws://threads.example"))
    assert "The proxy for ws://threads.example/thread/ws failed" in str(error)
    assert f"http_proxy is set to http://127.0.0.1:{service.port}" in str(error)
    assert "\x1b" not in str(error)
    monkeypatch.setenv("http_proxy", "us:word@127.0.0.1:3128")
    caplog.set_level(logging.WARNING)
    failure(connect(f"ws://127.0.0.1:{free_port()}"))
    assert "http_proxy has no scheme" in caplog.text
    assert "word" not in caplog.text


def test_a_proxy_that_cannot_be_reached_is_named(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://us:word@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = str(failure(connect("ws://threads.example")))
    assert "Connection refused" in error
    assert f"http_proxy is set to http://127.0.0.1:{port}" in error
    assert "word" not in error


def test_an_unencrypted_connection_is_logged_once(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("ws://no-such-host.invalid")
    for _ in range(2):
        failure(client)
    assert caplog.text.count("is not encrypted") == 1


def test_callbacks_run_in_their_own_thread(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    def on_connected() -> None:
        told.append("connected")
        # Even a call that waits may be made here.
        client.restore(THREAD)
        raise RuntimeError("the application's own fault")

    service = serve()
    client = connect(service.url, on_connected=on_connected, on_disconnected=told.append)
    client.restore(THREAD)
    service.drop()
    eventually(lambda: len(told) == 3)
    assert told[0] == told[2] == "connected"
    assert isinstance(told[1], ServiceUnavailable)
    eventually(lambda: client.restore(THREAD) is None)
    client.close()
    eventually(lambda: len(told) == 4)
    assert "closed" in str(told[3])
    assert "the application's own fault" in caplog.text
