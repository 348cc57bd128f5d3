"""Where the Redis store connects to."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from support.ports import free_port
from support.redis_server import RedisServer, running

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ServiceUnavailable,
)
from flask_agentuity.stores.redis.store import RedisStore

from .stored import name


def test_the_answers_of_authentication(tmp_path: Path, thread_id: str) -> None:
    with running(tmp_path) as server:
        with closing(server.client()) as client:
            client.config_set("requirepass", "right @/:")
        for credentials in ("", ":wrong@"):
            url = f"redis://{credentials}127.0.0.1:{server.port}"
            with (
                closing(RedisStore.from_url(url)) as store,
                pytest.raises(AuthenticationFailed, match=thread_id),
            ):
                store.merge(thread_id, [Set("a", b"1")])
        url = f"redis://:right%20%40%2F%3A@127.0.0.1:{server.port}/3"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'


def test_a_unix_socket(redis_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(f"unix://{redis_server.path}?db=2")) as store:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'
    with closing(redis.Redis(port=redis_server.port, db=2)) as client:
        assert client.exists(name(thread_id))


def test_tls(tmp_path: Path, thread_id: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem")
    with running(tmp_path, *options, *files, "--tls-ca-cert-file", "ca.pem"):
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
        with (
            closing(RedisStore.from_url(f"rediss://localhost:{port}")) as store,
            pytest.raises(ServiceUnavailable, match=r"(?i)certificate"),
        ):
            store.restore(thread_id)


def test_what_sentinel_watches(tmp_path: Path, redis_server: RedisServer, thread_id: str) -> None:
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"sentinel monitor mine 127.0.0.1 {redis_server.port} 1\n")
    with running(tmp_path, "--sentinel", configuration=configuration) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/mine/1"
        with closing(RedisStore.from_url(url)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
        with (
            closing(RedisStore.from_url(url.replace("/mine/", "/other/"))) as store,
            pytest.raises(ServiceUnavailable, match="other"),
        ):
            store.restore(thread_id)
    with closing(redis.Redis(port=redis_server.port, db=1)) as client:
        assert client.exists(name(thread_id))


def test_valkey_is_another_word_for_it(redis_server: RedisServer, thread_id: str) -> None:
    with closing(RedisStore.from_url(f"valkey://127.0.0.1:{redis_server.port}")) as store:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://localhost/name", "number of a database"),
        ("redis://:p@ss/w#1@localhost", "%23"),
        ("redis://:p@ss/w1@localhost", "%2F"),
        ("redis://localhost/0#1", "%23"),
        ("unix:///run/a#b.sock", "%23"),
        ("redis://localhost?foo=1", "'foo'"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:99999", "port.*0 to 65535"),
        ("redis://one,two", "several hosts"),
        ("redis://localhost?timeout=0", "timeout"),
        ("redis://localhost?timeout=soon", "timeout is not a number"),
        ("redis://localhost?timeout=inf", "timeout"),
        ("redis://localhost?timeout=1e12", "timeout"),
        ("redis://localhost?partitions=many", "partitions must be a whole number"),
        ("redis://localhost?no_such_option=1", "no_such_option"),
        ("redis://localhost?socket_timeout=x", "socket_timeout"),
        ("redis+cluster://localhost/1", "database"),
        ("redis+sentinel://localhost", "service"),
        ("redis+other://localhost", r"redis\+other"),
        ("unix+cluster:///path", r"unix\+cluster"),
        ("rediscover://localhost", "rediscover"),
    ],
)
def test_a_wrong_url_is_a_configuration_error(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        RedisStore.from_url(url)
    assert "Allowed: redis://" in str(caught.value)


@pytest.mark.parametrize("query", ["password=ab&secret=1", "username=me&passwrod=&secret"])
def test_what_may_be_a_part_of_a_password_is_not_shown(query: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStore.from_url(f"redis://localhost?{query}=1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("count", [0, -1, 16_385, 2.0, True, "2"])
def test_a_wrong_number_of_partitions_is_a_configuration_error(count: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"partitions={count!r} is wrong"):
        RedisStore.from_url("redis://h", partitions=count)


@pytest.mark.parametrize("url", ["redis://h", "redis+cluster://a,b:1", "redis+sentinel://a,b/s/2"])
def test_nothing_is_connected_before_the_first_use(url: str) -> None:
    RedisStore.from_url(url).close()


def test_a_cluster_that_is_not_there(thread_id: str) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    with (
        closing(RedisStore.from_url(url)) as store,
        pytest.raises(ServiceUnavailable, match=thread_id),
    ):
        store.merge(thread_id, [Set("a", b"1")])


@pytest.mark.parametrize("client", [None, "redis://localhost", redis.asyncio.Redis()])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="not a client of redis-py"):
        RedisStore(client)


def test_without_the_package_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from flask_agentuity.errors import ConfigurationError\n"
        "try:\n"
        "    import flask_agentuity.stores.redis\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == 'python -m pip install "flask-agentuity[redis]"'
