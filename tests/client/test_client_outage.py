"""A service that disappears, hangs or sends nonsense during calls."""

from __future__ import annotations

import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
from support.tcp_proxy import Proxy
from support.waiting import eventually

from flask_agentuity.client import ThreadClient
from flask_agentuity.document.operations import Clear, Push, Set
from flask_agentuity.errors import OutcomeUnknown, RequestTimeout, ServiceUnavailable, StoreError

from .scripted_service import THREAD, Peer, Service

Serve = Callable[..., Service]
Connect = Callable[..., ThreadClient]
MakeProxy = Callable[[int], Proxy]


def has_connected(client: ThreadClient, number: int) -> bool:
    return client.connection_number == number


def has_received(service: Service, count: int) -> bool:
    return len(service.received) > count


def test_a_short_restart_is_not_noticed(serve: Serve, connect: Connect) -> None:
    first = serve()
    client = connect(first.url, grace=5)
    failures: list[Exception] = []
    slowest = 0.0
    running = True

    def work(number: int) -> None:
        nonlocal slowest
        while running:
            begin = time.monotonic()
            try:
                client.save(str(number), b"{}")
                client.restore(str(number))
            except StoreError as error:
                failures.append(error)
            slowest = max(slowest, time.monotonic() - begin)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(first.received) > 200)
    first.close()
    time.sleep(0.3)
    second = serve(port=first.port)
    eventually(lambda: len(second.received) > 200)
    running = False
    for thread in threads:
        thread.join(10)
    assert not failures
    assert slowest < 5
    assert client.connection_number == 2


def test_calls_fail_fast_during_a_long_outage(serve: Serve, connect: Connect) -> None:
    first = serve()
    client = connect(first.url, grace=0.2)
    client.restore(THREAD)
    first.close()
    begin = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        while time.monotonic() - begin < 10:
            client.restore(THREAD)
    begin = time.perf_counter()
    for _ in range(200):
        with pytest.raises(ServiceUnavailable, match="Nothing was sent"):
            client.restore(THREAD)
    assert time.perf_counter() - begin < 1
    serve(port=first.port)
    eventually(lambda: client.stats()["state"] == "ready")
    assert client.restore(THREAD) is None


def swallow(peer: Peer) -> None:
    """Answer one request, so that the connection is healthy. Read another and leave."""
    peer.authorize()
    peer.handle(peer.receive())
    peer.receive()


def test_a_repeatable_call_is_sent_again_once(serve: Serve, connect: Connect) -> None:
    service = serve(swallow, Peer.serve)
    client = connect(service.url)
    client.restore(THREAD)
    client.save(THREAD, b'{"state":{"a":1}}')
    saves = [each for each in service.received if each.get("action") == "save"]
    assert len(saves) == 2
    assert saves[0]["id"] == saves[1]["id"]
    assert client.stats()["repeated"] == 1
    # Not a third time.
    service = serve(swallow, swallow_again, Peer.serve)
    client = connect(service.url)
    client.restore(THREAD)
    with pytest.raises(RequestTimeout, match="was not answered"):
        client.delete(THREAD)
    deletes = [each for each in service.received if each.get("action") == "delete"]
    assert len(deletes) == 2


def swallow_again(peer: Peer) -> None:
    peer.authorize()
    peer.receive()


def test_a_merge_is_never_sent_twice(serve: Serve, connect: Connect) -> None:
    service = serve(swallow, Peer.serve)
    client = connect(service.url)
    client.restore(THREAD)
    with pytest.raises(OutcomeUnknown, match="it was closed without a close frame"):
        client.merge(THREAD, [Push("a", b"1")])
    client.restore(THREAD)
    assert sum(each.get("action") == "merge" for each in service.received) == 1


def test_a_merge_that_was_cut_off_half_way_is_sent_again(
    serve: Serve, connect: Connect, proxy: MakeProxy
) -> None:
    def stuck(peer: Peer) -> None:
        peer.authorize()
        peer.handle(peer.receive())
        stuffed.wait(10)

    stuffed = threading.Event()
    service = serve(stuck, Peer.serve)
    client = connect(service.url)
    client.restore(THREAD)
    # Larger than the socket's buffers, so the frame is sent only in part.
    large = [Push("a", b'"%b"' % (b"x" * 1_000_000)) for _ in range(3)]
    futures = [client.submit_merge(THREAD, large) for _ in range(4)]
    eventually(lambda: client.stats()["bytes_out"] > 100_000)
    time.sleep(0.1)
    stuffed.set()
    outcomes = []
    for future in futures:
        try:
            future.result(10)
            outcomes.append("done")
        except OutcomeUnknown:
            outcomes.append("unknown")
    # The merges that fit into the buffers are unknown. All others were applied exactly once.
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes[-1] == "done"
    assert len(service.merges) == outcomes.count("done")


@pytest.mark.parametrize("cut", [1, 50, 120, 200, 400])
def test_no_call_is_lost_wherever_the_connection_is_cut(
    serve: Serve, connect: Connect, proxy: MakeProxy, cut: int
) -> None:
    service = serve()
    through = proxy(service.port)
    client = connect(through.url)
    client.restore(THREAD)
    through.cut_after(cut)
    for number in range(4):
        client.save(THREAD, b'{"state":{"a":%d}}' % number)
    assert client.restore(THREAD) == b'{"state":{"a":3}}'
    assert through.accepted == 2
    through.cut_after(cut, "down")
    for number in range(4):
        client.save(THREAD, b'{"state":{"a":%d}}' % number)
        client.restore(THREAD)
    eventually(lambda: through.accepted == 3)


def test_a_reset_is_handled_like_any_loss(serve: Serve, connect: Connect, proxy: MakeProxy) -> None:
    through = proxy(serve().port)
    client = connect(through.url)
    for number in (2, 3, 4):
        client.restore(THREAD)
        through.drop(reset=True)
        restore = client.submit_restore(THREAD)
        # The proxy may still pass on this request before its threads notice the reset.
        eventually(partial(has_connected, client, number))
        assert restore.result(5) is None
    assert through.accepted == 4


def test_calls_work_over_a_slow_network(serve: Serve, connect: Connect, proxy: MakeProxy) -> None:
    through = proxy(serve().port)
    through.delay = 0.02
    client = connect(through.url)
    futures = [client.submit_restore(THREAD) for _ in range(30)]
    assert all(future.result(5) is None for future in futures)


def test_a_pulled_cable_is_noticed_with_a_call_under_way(
    serve: Serve, connect: Connect, proxy: MakeProxy
) -> None:
    through = proxy(serve().port)
    client = connect(through.url, probe_after=0.1, pong_timeout=0.4, grace=0.1)
    client.restore(THREAD)
    through.hold()
    restore = client.submit_restore(THREAD)
    begin = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="silent"):
        client.merge(THREAD, [Clear()])
    assert time.monotonic() - begin < 3
    with pytest.raises(StoreError):
        restore.result(5)
    assert client.stats()["lost"]["silent"] == 1
    through.drop()
    through.release()
    eventually(lambda: client.stats()["state"] == "ready")
    assert client.restore(THREAD) is None


def test_a_pulled_cable_is_noticed_while_nothing_is_under_way(
    serve: Serve, connect: Connect, proxy: MakeProxy
) -> None:
    through = proxy(serve().port)
    client = connect(through.url, ping_interval=0.1, pong_timeout=0.2)
    client.restore(THREAD)
    eventually(lambda: client.stats()["pongs"] >= 2)
    assert client.stats()["round_trip"] < 5
    through.hold()
    eventually(lambda: client.stats()["lost"].get("silent"))
    through.drop()
    through.release()
    eventually(lambda: client.connection_number == 2)


def test_a_service_that_stops_reading_is_noticed(
    serve: Serve, connect: Connect, proxy: MakeProxy
) -> None:
    through = proxy(serve().port)
    client = connect(through.url, probe_after=0.1, pong_timeout=0.4, grace=0.1)
    client.restore(THREAD)
    through.hold()
    large = b'{"state":{"a":"%b"}}' % (b"x" * 1_000_000)
    futures = [client.submit_save(str(n), large) for n in range(12)]
    for future in futures:
        with pytest.raises(StoreError):
            future.result(5)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 2


def test_a_timeout_in_silence_replaces_the_connection(serve: Serve, connect: Connect) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.handle(peer.receive())
        eventually_gone.wait(60)

    eventually_gone = threading.Event()
    service = serve(deaf, Peer.serve)
    client = connect(service.url, request_timeout=0.3)
    client.restore(THREAD)
    with pytest.raises(RequestTimeout):
        client.restore(THREAD)
    eventually(lambda: client.connection_number == 2, seconds=5)
    assert client.stats()["lost"] == {"silent": 1}
    assert client.restore(THREAD) is None
    eventually_gone.set()


def test_an_unresponsive_service_costs_little(serve: Serve, connect: Connect) -> None:
    mute = threading.Event()
    mute.set()

    def sullen(peer: Peer) -> None:
        peer.authorize()
        while True:
            request = peer.receive()
            if mute.is_set():
                # Something is sent, but no reply.
                peer.send({"id": "unknown", "success": True})
            else:
                peer.handle(request)

    service = serve(sullen)
    client = connect(service.url, request_timeout=0.2, trial_timeout=0.2)
    for _ in range(3):
        with pytest.raises(RequestTimeout):
            client.restore(THREAD)
    assert client.stats()["circuit_open"]
    begin = time.perf_counter()
    for _ in range(50):
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            client.restore(THREAD)
    assert time.perf_counter() - begin < 0.45
    requests = len(service.received)
    mute.clear()
    eventually(lambda: _succeeds(client))
    assert not client.stats()["circuit_open"]
    # One trial at a time was let through, and the first was answered.
    assert len(service.received) == requests + 1
    assert service.accepted == 1


def _succeeds(client: ThreadClient) -> bool:
    try:
        client.restore(THREAD)
    except StoreError:
        return False
    return True


def terabyte(peer: Peer) -> None:
    peer.authorize()
    peer.handle(peer.receive())
    peer.receive()
    peer.raw(bytes([0x81, 127]) + struct.pack("!Q", 1 << 40))
    while True:
        peer.raw(b"x" * 100_000)


def endless_fragments(peer: Peer) -> None:
    peer.authorize()
    peer.handle(peer.receive())
    peer.receive()
    peer.raw(b"\x01\x01x")
    while True:
        peer.raw(b"\x00\x7e\x10\x00" + b"x" * 4096)


def two_at_once(peer: Peer) -> None:
    peer.authorize()
    peer.handle(peer.receive())
    peer.receive()
    peer.raw(b"\x01\x01x\x81\x01x")
    peer.drain()


@pytest.mark.parametrize("script", [terabyte, endless_fragments, two_at_once])
def test_invalid_frames_replace_the_connection(
    serve: Serve, connect: Connect, script: Callable[[Peer], None]
) -> None:
    service = serve(script, Peer.serve)
    client = connect(service.url, max_frame_bytes=4_000_000, request_timeout=60)
    tracemalloc.start()
    try:
        client.restore(THREAD)
        assert client.restore(THREAD) is None
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert client.connection_number == 2
    assert client.stats()["lost"] == {"frame": 1}


def test_nothing_leaks_over_many_connections(serve: Serve, connect: Connect) -> None:
    service = serve()
    client = connect(service.url, reconnect_base=0.001, reconnect_max=0.001)
    client.restore(THREAD)
    threads = threading.active_count()
    for number in range(2, 42):
        service.drop()
        eventually(partial(has_connected, client, number))
        assert client.restore(THREAD) is None
    eventually(lambda: threading.active_count() <= threads)
    stats = client.stats()
    assert stats["pending"] == stats["queued_bytes"] == 0
    # The open files are counted after every test.


def test_no_wake_up_is_lost(serve: Serve, connect: Connect) -> None:
    client = connect(serve().url)
    client.restore(THREAD)
    slowest: list[float] = []

    def work() -> None:
        worst = 0.0
        for _ in range(400):
            begin = time.monotonic()
            client.restore(THREAD)
            worst = max(worst, time.monotonic() - begin)
        slowest.append(worst)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # After a lost wake-up only a timer would send the request, seconds later.
    assert len(slowest) == 8
    assert max(slowest) < 3
    assert client.stats()["requests"] == {"restore ok": 3201}


def test_under_load_with_losses_every_call_ends_correctly(serve: Serve, connect: Connect) -> None:
    service = serve()
    client = connect(service.url, grace=5)
    wrong: list[object] = []
    unknown = 0
    running = True

    def work(number: int) -> None:
        nonlocal unknown
        turn = 0
        while running:
            turn += 1
            document = b'{"state":{"a":"%b"}}' % (b"%d" % turn * (10 ** (turn % 5)))
            thread_id = f"{number}-{turn % 3}"
            try:
                client.save(thread_id, document)
                if (stored := client.restore(thread_id)) != document:
                    wrong.append((thread_id, stored, document))
                client.merge(thread_id, [Set("b", b"1")])
            except OutcomeUnknown:
                unknown += 1
            except StoreError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for number in range(1, 6):
        eventually(partial(has_connected, client, number))
        before = len(service.received)
        eventually(partial(has_received, service, before + 100))
        service.drop()
    eventually(lambda: client.connection_number == 6)
    running = False
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    # The only error that is allowed: the connection was lost twice during one call.
    assert all(isinstance(each, RequestTimeout) for each in wrong), wrong[:3]
    assert client.stats()["pending"] == 0
