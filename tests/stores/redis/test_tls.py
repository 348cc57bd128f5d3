"""Redis over TLS: for whom a certificate was made is checked, with every version of redis-py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from support.ports import free_port
from support.redis_server import running

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import ConfigurationError, StoreError
from flask_agentuity.stores import open_store
from flask_agentuity.stores.redis.client import client_maker

THREAD = "thrd_0123456789abcdef0123456789abcdef"


@dataclass
class Server:
    port: int
    authority: Path


@pytest.fixture(params=["127.0.0.1", "other.example"])
def certified_for(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(tmp_path: Path, certified_for: str) -> Iterator[Server]:
    authority = trustme.CA()
    certificate = authority.issue_cert(certified_for)
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    port = free_port()
    options = {
        "--tls-port": str(port),
        "--tls-cert-file": str(tmp_path / "certificate.pem"),
        "--tls-key-file": str(tmp_path / "key.pem"),
        "--tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "--tls-auth-clients": "no",
    }
    with running(tmp_path, *(each for option in options.items() for each in option)):
        yield Server(port, tmp_path / "ca.pem")


def test_the_name_is_checked(server: Server, certified_for: str) -> None:
    url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={server.authority}"
    with closing(open_store(url)) as store:
        if certified_for == "127.0.0.1":
            store.merge(THREAD, [Set("a", b"1")])
            assert store.restore(THREAD) == b'{"state":{"a":1}}'
        else:
            with pytest.raises(StoreError, match="certificate"):
                store.restore(THREAD)
    with closing(open_store(f"{url}&ssl_check_hostname=false")) as store:
        assert (store.restore(THREAD) is None) == (certified_for == "other.example")
    with closing(open_store(f"{url}&ssl_cert_reqs=none")) as store:
        assert (store.restore(THREAD) is None) == (certified_for == "other.example")


def test_sentinels_are_checked_as_well() -> None:
    make, _ = client_maker("rediss+sentinel://127.0.0.1:1/master/0?ssl_ca_certs=/ca.pem", 1.0)
    client: Any = make()
    settings = client.connection_pool.connection_kwargs
    (sentinel,) = client.connection_pool.sentinel_manager.sentinels
    for each in (settings, sentinel.connection_pool.connection_kwargs):
        assert each["ssl_check_hostname"] is True
        assert each["ssl_ca_certs"] == "/ca.pem"


def test_a_cluster_is_checked_or_refused() -> None:
    url = "rediss+cluster://127.0.0.1:1"
    if int(redis.__version__.partition(".")[0]) >= 6:
        client_maker(url, 1.0)
    else:
        with pytest.raises(ConfigurationError, match=r"does not check.*redis>=6"):
            client_maker(url, 1.0)
    client_maker(f"{url}?ssl_check_hostname=false", 1.0)
