"""One tenant cannot take the service's time or memory from the others."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

import pytest
from support.waiting import eventually

from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.service import ThreadService
from flask_agentuity.service.buffers import Buffers, Held
from flask_agentuity.service.fair_pool import FairPool
from flask_agentuity.stores.memory import MemoryStore

from .peers import KEY, PATIENCE, HeldStore, Peer

Serve = Callable[..., ThreadService]
Connect = Callable[..., Peer]

OTHER = "another key of the tests"
KIB = 1024
MIB = 1024 * KIB


# Threads


def test_tenants_take_turns() -> None:
    order: list[str] = []

    async def run() -> None:
        pool = FairPool(1, "thread-service-test")
        first = asyncio.create_task(pool.run("a", time.sleep, 0.01))
        await asyncio.sleep(0)
        waiting = [pool.run("a", order.append, f"a{number}") for number in range(5)]
        waiting += [pool.run("b", order.append, f"b{number}") for number in range(2)]
        await asyncio.gather(first, *waiting)
        pool.close()

    asyncio.run(run())
    # b had used nothing when it came, and comes before most of what a has waiting.
    assert order.index("b0") <= 1
    assert order.index("b1") <= 3
    assert [each for each in order if each[0] == "a"] == [f"a{number}" for number in range(5)]


def test_one_tenant_does_not_have_all_threads() -> None:
    async def run() -> None:
        pool = FairPool(4, "thread-service-test", reserve=1)
        go = threading.Event()
        held = [asyncio.create_task(pool.run("a", go.wait, PATIENCE)) for _ in range(10)]
        assert await pool.run("b", int, "5") == 5
        go.set()
        assert all(await asyncio.gather(*held))
        pool.close()

    asyncio.run(run())


def test_a_new_tenant_has_no_credit_for_the_past() -> None:
    """Otherwise it could keep others out for as long as they have used the pool before."""
    order: list[str] = []

    async def run() -> None:
        pool = FairPool(1, "thread-service-test")
        for _ in range(10):
            await pool.run("a", time.sleep, 0.01)
        first = asyncio.create_task(pool.run("a", time.sleep, 0.01))
        await asyncio.sleep(0)

        def work(name: str) -> None:
            order.append(name)
            time.sleep(0.01)

        waiting = [pool.run("a", work, "a") for _ in range(4)]
        waiting += [pool.run("b", work, "b") for _ in range(8)]
        await asyncio.gather(first, *waiting)
        pool.close()

    asyncio.run(run())
    assert order.index("a") < 4


def test_errors_and_results_reach_the_caller() -> None:
    async def run() -> None:
        pool = FairPool(2, "thread-service-test", rest=1.0)
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run("a", int, "x")
        assert await pool.run("a", int, "12", base=3) == 5
        pool.close()

    asyncio.run(run())


def test_a_thread_rests_after_what_it_did() -> None:
    async def run() -> float:
        pool = FairPool(1, "thread-service-test", rest=3.0)
        began = time.monotonic()
        for _ in range(3):
            await pool.run("a", time.sleep, 0.02)
        pool.close()
        return time.monotonic() - began

    # Two rests of 0.06 seconds are between the three.
    assert asyncio.run(run()) >= 0.17


def test_a_store_that_is_slow_for_one_tenant_serves_the_others(
    serve: Serve, connect: Connect
) -> None:
    store = HeldStore()
    service = serve(store, KEY, OTHER, workers=4)
    tenants = store.for_tenants()
    assert isinstance(tenants, HeldStore)
    greedy, other = [connect(service) for _ in range(3)], connect(service, OTHER)
    asked = [
        (peer, peer.ask("restore", f"held {number}")) for peer in greedy for number in range(20)
    ]
    assert tenants.held.acquire(timeout=PATIENCE)
    for number in range(20):
        assert other.restore(f"thread {number}") == ""
    tenants.go.set()
    for peer in greedy:
        replies = {peer.receive()["id"] for _ in range(20)}
        assert replies == {id for each, id in asked if each is peer}


def test_large_saves_of_one_tenant_leave_a_thread_to_the_others(
    serve: Serve, connect: Connect
) -> None:
    store = HeldStore()
    service = serve(store, KEY, OTHER)
    tenants = store.for_tenants()
    assert isinstance(tenants, HeldStore)
    document = '{"state":{"a":"%s"}}' % ("x" * 50_000)
    greedy, other = [connect(service) for _ in range(3)], connect(service, OTHER)
    for number, peer in enumerate(greedy):
        peer.ask("save", f"held {number}", user_data=document)
    assert tenants.held.acquire(timeout=PATIENCE)
    for _ in range(3):
        assert other.call("save", user_data=document)["success"] is True
    tenants.go.set()
    assert all(peer.receive()["success"] for peer in greedy)


def test_large_frames_do_not_stop_others(serve: Serve, connect: Connect) -> None:
    service = serve(None, KEY, OTHER)
    greedy, other = connect(service), connect(service, OTHER)
    values = ",".join(["0"] * 500_000)
    head = '{"id":"1","action":"merge","data":{"thread_id":"t","operations":[['
    frame = head + values + "]]}}"

    def send() -> None:
        for _ in range(40):
            greedy.raw(frame)

    sending = threading.Thread(target=send)
    sending.start()
    assert greedy.receive()["success"] is False
    # Others get in between: they do not wait for one large frame at each step.
    for _ in range(20):
        assert other.restore() == ""
    assert sending.is_alive()
    for _ in range(39):
        assert greedy.receive()["success"] is False
    sending.join(PATIENCE)


def test_one_of_several_keys_leaves_connections_to_the_others(
    serve: Serve, connect: Connect
) -> None:
    service = serve(None, KEY, OTHER, max_connections=4)
    greedy = [connect(service) for _ in range(3)]
    fourth = connect(service, key=None)
    fourth.send({"authorization": KEY})
    assert fourth.closed_with()[0] == 1013
    assert connect(service, OTHER).restore() == greedy[0].restore() == ""


# Slow readers


def test_a_client_that_does_not_read_is_disconnected(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    document = '{"state":{"a":"%s"}}' % ("x" * 1_000_000)

    class Large(MemoryStore):
        def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
            return codec.split_document(document.encode(), thread_id)

    service = serve(Large(), send_timeout=0.2)
    slow, other = connect(service), connect(service)
    for number in range(150):
        slow.ask("restore", f"large {number}")
    eventually(lambda: "does not read its replies" in caplog.text)
    assert len(other.restore()) > 1_000_000
    assert slow.closed_with() == (None, "")


# Memory


def test_the_largest_connection_of_the_largest_tenant_is_closed() -> None:
    closed: list[str] = []
    buffers = Buffers(MIB, lambda size: None)

    def hold(tenant: str, name: str) -> Held:
        return Held(buffers, tenant, lambda: closed.append(name))

    small = hold("a", "small")
    of_many = [hold("b", f"of many {number}") for number in range(5)]
    small.add(300 * KIB)
    for each in of_many:
        each.add(100 * KIB)
    of_many[2].add(100 * KIB)
    assert buffers.total == 900 * KIB
    small.add(200 * KIB)
    # It grew last, and is the largest, but the other tenant holds more.
    assert closed == ["of many 2"]
    assert buffers.total == 900 * KIB
    small.add(300 * KIB)
    assert closed == ["of many 2", "small"]
    for each in (small, *of_many):
        each.clear()
    assert buffers.total == 0


def test_little_is_not_counted() -> None:
    buffers = Buffers(MIB, lambda size: None)
    held = Held(buffers, "a", lambda: None)
    for _ in range(10):
        held.add(10 * KIB)
        held.remove(20 * KIB)
        assert buffers.total == 0
    held.add(64 * KIB + 1)
    assert buffers.total == 64 * KIB + 1


def test_unfinished_frames_are_bounded_together(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve(None, KEY, OTHER, max_frame_bytes=4 * MIB, max_memory_bytes=16 * MIB)
    other = connect(service, OTHER)
    greedy = [connect(service) for _ in range(6)]
    for peer in greedy:
        head = b"\x81\xff" + (4 * MIB).to_bytes(8, "big") + b"mask"
        with suppress(OSError):
            peer.socket.socket.sendall(head + b"x" * (3 * MIB))
    # 18 MiB are not held: the largest ones had to go.
    eventually(lambda: caplog.text.count("that held") >= 1)
    document = '{"state":{"a":"%s"}}' % ("x" * 1_000_000)
    assert other.call("save", user_data=document)["success"] is True
    assert other.restore() == document
    for peer in greedy:
        with suppress(OSError):
            peer.socket.socket.shutdown(socket.SHUT_RDWR)


def test_the_bound_holds_several_frames() -> None:
    with pytest.raises(ConfigurationError, match="max_memory_bytes"):
        ThreadService(MemoryStore(), [KEY], max_memory_bytes=31 * MIB)
