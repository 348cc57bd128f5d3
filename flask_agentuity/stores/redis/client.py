"""Make a client of redis-py for a URL: of one Redis, a cluster or a Sentinel's master."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from ...durations import LONGEST, is_duration
from ...errors import ConfigurationError

# Other modules import redis-py from here, so that this error is raised wherever it is missing.
try:
    import redis as redis
except ImportError as error:
    raise ConfigurationError(
        "Keeping threads in Redis needs the package redis. Install it with:\n"
        'python -m pip install "flask-agentuity[redis]"'
    ) from error

from redis import exceptions as exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import AbstractConnection as AbstractConnection
from redis.connection import SSLConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

Client = redis.Redis | redis.RedisCluster
N = TypeVar("N", int, float)

_ALLOWED = (
    "redis://HOST:PORT/DB, rediss://... (TLS), unix:///PATH?db=DB,"
    " redis+cluster://HOST:PORT,HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB,"
    " and ?timeout=SECONDS&prefix=TEXT&partitions=NUMBER"
)

_ESCAPES = "a /, ?, #, @ or : in a password is written %2F, %3F, %23, %40 or %3A"

# Settings of redis-py's connection pools. All others are settings of connections.
_OF_POOL = ("connection_class", "max_connections")


def client_maker(url: str, timeout: float) -> tuple[Callable[[], Client], dict[str, Any]]:
    """Return a function that makes the client of *url*, and the store's options in its query.

    Nothing is connected here.

    :param timeout: seconds to wait for a connection and for a reply, unless the query says so.
    :raises ConfigurationError: if the URL is wrong.
    """
    try:
        return _read(url, timeout)
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigurationError(
            f"The URL of the Redis store is wrong: {str(error).rstrip('.')}. Allowed: {_ALLOWED}."
        ) from None


def _read(url: str, timeout: float) -> tuple[Callable[[], Client], dict[str, Any]]:
    if "#" in url:
        # It would cut off the rest, which may be a part of a password.
        raise ValueError("it contains a #, which is written %23")
    parts = urlsplit(url)
    if parts.fragment or "\n" in url or "\r" in url or "\t" in url:
        raise ValueError(_ESCAPES)
    scheme, _, kind = parts.scheme.replace("valkey", "redis").partition("+")
    if scheme not in ("redis", "rediss", "unix") or kind not in ("", "cluster", "sentinel"):
        raise ValueError(f"the scheme {parts.scheme}:// is not known")
    if scheme == "unix" and kind:
        raise ValueError(f"the scheme {parts.scheme}:// is not known")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    own: dict[str, Any] = {}
    if "prefix" in query:
        own["prefix"] = query.pop("prefix")
    if "partitions" in query:
        own["partitions"] = _number(
            int, query.pop("partitions"), "partitions must be a whole number"
        )
    seconds = _number(float, query.pop("timeout", timeout), "timeout is not a number")
    if not is_duration(seconds):
        raise ValueError(f"timeout={seconds} is not a number of seconds from 0 to {LONGEST:,}")
    credentials, at, hosts = parts.netloc.rpartition("@")
    names = hosts.split(",")
    if len(names) > 1 and not kind:
        raise ValueError("several hosts need redis+cluster:// or redis+sentinel://")
    service, path = "", parts.path
    if kind == "sentinel":
        service, _, path = path.lstrip("/").partition("/")
        if not service:
            raise ValueError("it names no service that Sentinel watches")
    if scheme != "unix":
        path = _database(path, allowed=kind != "cluster")
    nodes = [_node(name) for name in names]
    single = f"{scheme}://{credentials}{at}{names[0]}/{path.lstrip('/')}?{urlencode(query)}"
    return _maker(kind, nodes, service, _settings(single, seconds)), own


def _database(path: str, *, allowed: bool) -> str:
    path = path.strip("/")
    if path and not (path.isdecimal() and allowed):
        # The text itself is not shown: it may be a part of a password.
        raise ValueError(f"what follows the host is not the number of a database ({_ESCAPES})")
    return path


def _settings(url: str, seconds: float) -> dict[str, Any]:
    """Return the settings of redis-py for the connections of a URL."""
    parts = urlsplit(url)
    settings: dict[str, Any] = {
        # Reads a long history in few pieces.
        "socket_read_size": 262_144,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # A request waits for one attempt only, and a repeated push would be stored twice.
        "retry": Retry(NoBackoff(), 0),
        **parse_url(url),  # type: ignore[no-untyped-call]
    }
    if parts.scheme == "rediss" and settings.get("ssl_cert_reqs") != "none":
        # Up to version 5, redis-py checks the certificate, but not its host name.
        settings.setdefault("ssl_check_hostname", True)
    # Detects options unknown to redis-py now, rather than in a request.
    connection_class = settings.get("connection_class", redis.Connection)
    try:
        connection_class(**{name: settings[name] for name in settings if name not in _OF_POOL})
    except TypeError as error:
        _, _, option = str(error).rpartition("argument ")
        if "@" in unquote(parts.query) or "pass" in parts.query.lower():
            # It may be a part of a password.
            raise ValueError(f"it has a wrong option ({_ESCAPES})") from None
        raise ValueError(f"redis-py's connections have no option {option}") from None
    return settings


def _maker(
    kind: str, nodes: list[tuple[str, int]], service: str, settings: dict[str, Any]
) -> Callable[[], Client]:
    if not kind:
        return lambda: redis.Redis.from_pool(redis.ConnectionPool(**settings))
    for name in ("host", "port"):
        settings.pop(name, None)
    if settings.pop("connection_class", None):
        settings["ssl"] = True
    if kind == "cluster":
        _require_checked_names(settings)

        def make_cluster() -> Client:
            # A cluster's client connects immediately, and keeps connections in these objects.
            startup = [ClusterNode(*node) for node in nodes]  # type: ignore[no-untyped-call]
            return redis.RedisCluster(startup_nodes=startup, **settings)

        return make_cluster
    shared = ("socket_timeout", "socket_connect_timeout", "retry")
    of_sentinels = {
        name: value for name, value in settings.items() if name in shared or name.startswith("ssl")
    }
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        nodes, sentinel_kwargs=of_sentinels, **settings
    )
    master: redis.Redis = sentinel.master_for(service)  # type: ignore[no-untyped-call]
    return lambda: master


def _require_checked_names(settings: dict[str, Any]) -> None:
    """Refuse a version of redis-py whose clusters ignore ``ssl_check_hostname``."""
    default = signature(SSLConnection).parameters["ssl_check_hostname"].default
    if settings.get("ssl_check_hostname") and not default:
        raise ValueError(
            f"redis-py {redis.__version__} does not check the host names of a cluster over TLS."
            ' Install a newer one with: python -m pip install "redis>=6"; or, to go without the'
            " check, add ssl_check_hostname=false"
        )


def _node(name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"redis://{name}")
        return parts.hostname or "localhost", parts.port or 6379
    except ValueError:
        raise ValueError(f"a port is not a number from 0 to 65535 ({_ESCAPES})") from None


def _number(kind: type[N], text: object, wrong: str) -> N:
    try:
        return kind(str(text))
    except ValueError:
        raise ValueError(wrong) from None
