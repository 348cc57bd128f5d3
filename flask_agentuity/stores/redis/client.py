"""From a URL to a client of redis-py: one Redis, a cluster, or what Sentinel watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from ...errors import ConfigurationError

# The other modules take redis-py from here, so that this is said wherever it is missing.
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
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

Client = redis.Redis | redis.RedisCluster

_ALLOWED = (
    "redis://HOST:PORT/DB, rediss://... (TLS), unix:///PATH?db=DB,"
    " redis+cluster://HOST:PORT,HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB,"
    " and ?timeout=SECONDS&prefix=TEXT&partitions=NUMBER"
)

# Settings of redis-py's connection pool; all others are a connection's.
_OF_POOL = ("connection_class", "max_connections")


def client_maker(url: str, timeout: float) -> tuple[Callable[[], Client], dict[str, Any]]:
    """Return what makes the client of *url*, and the options of the store that its query names.

    *timeout* is in seconds, for where the query has none. Nothing is connected here.

    :raises ConfigurationError: when anything about the URL is wrong.
    """
    try:
        return _read(url, timeout)
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigurationError(
            f"The URL of the Redis store is wrong: {error}. Allowed: {_ALLOWED}."
        ) from error


def _read(url: str, timeout: float) -> tuple[Callable[[], Client], dict[str, Any]]:
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.replace("valkey", "redis").partition("+")
    if scheme not in ("redis", "rediss", "unix") or kind not in ("", "cluster", "sentinel"):
        raise ValueError(f"nothing goes by {parts.scheme}://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    own: dict[str, Any] = {}
    if "prefix" in query:
        own["prefix"] = query.pop("prefix")
    if "partitions" in query:
        own["partitions"] = int(query.pop("partitions"))
    seconds = float(query.pop("timeout", timeout))
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout={seconds} is not a number of seconds above 0")
    credentials, at, hosts = parts.netloc.rpartition("@")
    names = hosts.split(",")
    service, path = "", parts.path
    if kind == "sentinel":
        service, _, path = path.lstrip("/").partition("/")
        if not service:
            raise ValueError("it names no service that Sentinel watches")
    if scheme == "unix":
        if kind:
            raise ValueError(f"nothing goes by {parts.scheme}://")
    else:
        path = path.strip("/")
        if path and (not path.isdecimal() or kind == "cluster"):
            # Not what it is: it may be a part of a password.
            raise ValueError(
                "what follows the host is not the number of a database (a /, ? or # in a password"
                " is written %2F, %3F or %23)"
            )
    if len(names) > 1 and not kind:
        raise ValueError("several hosts need redis+cluster:// or redis+sentinel://")
    single = f"{scheme}://{credentials}{at}{names[0]}/{path.lstrip('/')}?{urlencode(query)}"
    settings: dict[str, Any] = {
        # A long history in one piece or two, not in many.
        "socket_read_size": 262_144,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # A request waits for one attempt, and a push that is repeated may be there twice.
        "retry": Retry(NoBackoff(), 0),
        **parse_url(single),  # type: ignore[no-untyped-call]
    }
    # An option that redis-py does not know is found here, not in a request.
    connection_class = settings.get("connection_class", redis.Connection)
    try:
        connection_class(**{name: settings[name] for name in settings if name not in _OF_POOL})
    except TypeError as error:
        _, _, option = str(error).rpartition("argument ")
        raise ValueError(f"redis-py's connections have no option {option}") from None
    if not kind:
        return lambda: redis.Redis.from_pool(redis.ConnectionPool(**settings)), own
    for name in ("host", "port"):
        settings.pop(name, None)
    if settings.pop("connection_class", None):
        settings["ssl"] = True
    nodes = [_node(name) for name in names]
    if kind == "cluster":

        def make_cluster() -> Client:
            # It connects when it is made, and keeps its connections in the nodes it is given.
            startup = [ClusterNode(*node) for node in nodes]  # type: ignore[no-untyped-call]
            return redis.RedisCluster(startup_nodes=startup, **settings)

        return make_cluster, own
    shared = ("socket_timeout", "socket_connect_timeout", "retry", "ssl")
    of_sentinels = {name: settings[name] for name in shared if name in settings}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        nodes, sentinel_kwargs=of_sentinels, **settings
    )
    master: redis.Redis = sentinel.master_for(service)  # type: ignore[no-untyped-call]
    return lambda: master, own


def _node(name: str) -> tuple[str, int]:
    parts = urlsplit(f"redis://{name}")
    return parts.hostname or "localhost", parts.port or 6379
