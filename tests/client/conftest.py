from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.tcp_proxy import Proxy

from flask_agentuity.client import ThreadClient

from .scripted_service import KEY, Script, Service

#: Delays are short, so that an outage in a test is short as well.
SHORT: dict[str, Any] = {
    "connect_timeout": 5.0,
    "request_timeout": 5.0,
    "reconnect_base": 0.05,
    "reconnect_max": 0.1,
}


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def make(*scripts: Script, **options: Any) -> Service:
        services.append(Service(*scripts, **options))
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., ThreadClient]]:
    clients: list[ThreadClient] = []

    def make(url: str, key: str = KEY, **options: Any) -> ThreadClient:
        clients.append(ThreadClient(url, key, **{**SHORT, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close(timeout=0)


@pytest.fixture
def proxy() -> Iterator[Callable[[int], Proxy]]:
    proxies: list[Proxy] = []

    def make(port: int) -> Proxy:
        proxies.append(Proxy(port))
        return proxies[-1]

    yield make
    for each in proxies:
        each.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("certificates") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No test leaves a thread or an open file. Threads may take a moment to end."""
    files = Path("/proc/self/fd")
    before = len(list(files.iterdir())) if files.exists() else 0
    yield
    until = time.monotonic() + 10
    while time.monotonic() < until:
        threads = [t for t in threading.enumerate() if t.name.startswith("flask-agentuity")]
        opened = len(list(files.iterdir())) if files.exists() else 0
        if not threads and opened <= before:
            return
        time.sleep(0.01)
    raise AssertionError(f"left behind: {threads}, {opened - before} files")
