"""Forks, the end of the interpreter, and greenlets, each in a separate process."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest
from support.waiting import eventually

from .scripted_service import KEY, Peer, Service

Serve = Callable[..., Service]

HEAD = f"""
import contextlib, os, sys, threading, time
from flask_agentuity.client import ThreadClient
from flask_agentuity.errors import StoreError
from flask_agentuity.document.operations import Clear
client = ThreadClient(sys.argv[1], {KEY!r}, ca_file=sys.argv[2] or None,
                      reconnect_base=0.05, reconnect_max=0.1)
"""


def run(program: str, *arguments: str, head: str = HEAD) -> str:
    result = subprocess.run(
        [
            sys.executable,
            *("-W", "error", "-W", "ignore:This process:DeprecationWarning"),
            *("-c", head + textwrap.dedent(program), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


FORKS = """
running = True
failures = []
calls = 0
def work(number):
    global calls
    while running:
        try:
            client.save(str(number), b'{"n":%d}' % number)
            if client.restore(str(number)) != b'{"n":%d}' % number:
                failures.append("wrong answer")
        except StoreError as error:
            failures.append(error)
        calls += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
client.restore("parent")
children = []
for number in range(10):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            client.save(f"child-{number}", b"{}")
            code = 0 if client.restore(f"child-{number}") == b"{}" else 2
            client.close()
        finally:
            os._exit(code)
    children.append(pid)
    before = calls
    deadline = time.monotonic() + 20
    while calls < before + 5 and time.monotonic() < deadline:
        time.sleep(0.001)
codes = [os.waitpid(pid, 0)[1] for pid in children]
running = False
for thread in threads:
    thread.join()
assert codes == [0] * 10, codes
assert not failures, failures[:3]
assert client.connection_number == 1, client.stats()
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_children_connect_and_the_parent_is_not_affected(serve: Serve) -> None:
    service = serve()
    run(FORKS, service.url, "")
    assert service.accepted == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_same_over_tls(serve: Serve, server_context: ssl.SSLContext, ca_file: str) -> None:
    service = serve(context=server_context)
    run(FORKS, service.url, ca_file)
    assert service.accepted == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_a_lock_is_held(serve: Serve) -> None:
    service = serve()
    run(
        """
        client.restore("a")
        process = client._here.get()
        def locks_of(part, seen):
            for value in part if isinstance(part, list) else vars(part).values():
                if isinstance(value, type(threading.Lock())):
                    yield value
                elif type(value).__module__.startswith("flask_agentuity.client"):
                    if id(value) not in seen and hasattr(value, "__dict__"):
                        seen.add(id(value))
                        yield from locks_of(value, seen)
        locks = list(locks_of([process], set()))
        assert len(locks) >= 6, locks
        with contextlib.ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            pid = os.fork()
            if pid == 0:
                os._exit(0 if client.restore("b") is None else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert client.restore("d") is None
        assert client.connection_number == 1
        """,
        service.url,
        "",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_client_starts_nothing_before_the_fork(serve: Serve) -> None:
    service = serve()
    run(
        """
        assert threading.active_count() == 1
        files = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        pids = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if client.restore("a") is None else 1)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
        assert threading.active_count() == 1
        if files:
            assert len(os.listdir("/proc/self/fd")) == files
        """,
        service.url,
        "",
    )
    assert service.accepted == 3


def test_the_interpreter_ends_despite_a_hanging_call(serve: Serve) -> None:
    def deaf(peer: Peer) -> None:
        peer.authorize()
        peer.drain()

    service = serve(deaf)
    begin = time.monotonic()
    run(
        """
        threading.Thread(target=client.submit_restore, args=("a",)).start()
        hanging = threading.Thread(target=client.restore, args=("a",), daemon=True)
        threading.excepthook = lambda arguments: None
        hanging.start()
        while client.stats()["bytes_out"] < 200:
            time.sleep(0.001)
        """,
        service.url,
        "",
        head=HEAD.replace("reconnect_base", "request_timeout=120.0, reconnect_base", 1),
    )
    assert time.monotonic() - begin < 60, "the call itself waits for 120"


def test_the_interpreter_closes_the_connection(serve: Serve) -> None:
    service = serve()
    run("client.restore('a')", service.url, "")
    eventually(lambda: service.closes == [b"\x03\xe8"])


def test_a_call_while_the_interpreter_ends_works_or_is_refused(serve: Serve) -> None:
    service = serve()
    out = run(
        """
        import atexit
        def last():
            try:
                client.save("a", b"{}")
                print("saved")
            except StoreError as error:
                print("refused", type(error).__name__)
        atexit.register(last)
        """,
        service.url,
        "",
    )
    assert out.strip() in ("saved", "refused ServiceUnavailable")


GREENLETS = """
import gevent
documents = [b'{"a":"%b"}' % (b"x" * size) for size in (10, 3000, 300000)]
failures = []
def work(number):
    for turn in range(12):
        document = documents[turn % 3]
        try:
            client.save(f"{number}", document)
            if client.restore(f"{number}") != document:
                failures.append("wrong answer")
        except StoreError as error:
            failures.append(error)
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
ticking = gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, n) for n in range(24)], raise_error=True)
ticking.kill()
assert not failures, failures[:3]
assert ticks > 3
client.close()
"""


@pytest.mark.parametrize("patched", ["early", "late"])
@pytest.mark.parametrize("tls", [False, True])
def test_greenlets_share_a_client(
    serve: Serve, server_context: ssl.SSLContext, ca_file: str, patched: str, tls: bool
) -> None:
    pytest.importorskip("gevent")
    service = serve(context=server_context) if tls else serve()
    patch = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gevent import monkey
    monkey.patch_all()
"""
    head = patch + HEAD if patched == "early" else HEAD + patch
    run(GREENLETS, service.url, ca_file if tls else "", head=head)
    assert service.accepted == 1
