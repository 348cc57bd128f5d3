"""The options of a service, checked once."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from ..durations import LONGEST, is_duration
from ..errors import ConfigurationError
from ..stores.base import ThreadStore
from ..wire import limits
from .addresses import TrustedAddresses
from .former_threads import move_former_threads
from .keys import Keys
from .origins import read_origins
from .tenants import Tenant, namespace_of, require_apart, shares_with_tenants

#: The default limit for a frame, in bytes: a document of 1 MiB in which every character is
#: escaped, and as much again.
DEFAULT_MAX_FRAME_BYTES = 8 * 1024 * 1024

#: The default bound for all connections together.
DEFAULT_MAX_MEMORY_BYTES = 256 * 1024 * 1024

#: This machine, whose processes have the same address.
LOOPBACK = ("127.0.0.0/8", "::1")

#: The integers among the options, with what they must be at least.
_LEAST = {
    "port": 0,
    "max_frame_bytes": limits.MAX_REQUEST_BYTES,
    "max_memory_bytes": 1,
    "max_connections": 1,
    "max_unauthorized": 1,
    "max_unauthorized_per_address": 1,
    "max_operations": 1,
    "max_requests": 1,
    "workers": 1,
}


class ServiceOptions(TypedDict, total=False):
    """The keyword arguments of :class:`.ThreadService`; see :class:`ServiceSettings`."""

    host: str
    port: int
    max_frame_bytes: int
    max_memory_bytes: int
    max_connections: int
    max_unauthorized: int
    max_unauthorized_per_address: int
    max_operations: int
    max_requests: int
    workers: int
    authorization_timeout: float
    send_timeout: float
    drain_timeout: float
    trusted_addresses: Sequence[str]
    allowed_origins: Sequence[str]
    ssl_context: ssl.SSLContext | None


@dataclass(frozen=True)
class ServiceSettings:
    """The options of a service. All times are in seconds."""

    store: ThreadStore = field(repr=False)
    keys: Keys
    host: str = "127.0.0.1"
    #: 0 chooses a free port.
    port: int = 0
    #: The largest frame, in bytes. A connection that sends a larger one is closed (1009).
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    #: The maximum number of operations in one merge.
    max_operations: int = limits.MAX_OPERATIONS
    #: Bytes that the service holds for all clients together: frames, replies, and what JavaScript
    #: clients have restored. If it holds more, the largest connection of the key that uses most is
    #: closed.
    max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES
    #: Further clients are told to try again later (503). If there are several keys, one of them
    #: can have three quarters of the connections. The limit of open files can lower both.
    max_connections: int = 1000
    #: How many clients that have not sent their key may be connected, in total and per address
    #: (IPv6: per /64 network). If there are more, the oldest connection is closed.
    max_unauthorized: int = 200
    max_unauthorized_per_address: int = 20
    #: How many requests of a connection are processed at the same time. Others are read later.
    max_requests: int = 64
    #: The number of Python threads that use the store. If there are several keys, one of them can
    #: use three quarters of them.
    workers: int = 8
    #: The time for the handshakes and the first frame.
    authorization_timeout: float = 5.0
    #: The time for sending one reply. A client that does not read it is disconnected.
    send_timeout: float = 30.0
    #: The time for replying to pending requests when the service stops.
    drain_timeout: float = 10.0
    #: Addresses and networks to which limits per address do not apply: proxies and app servers.
    trusted_addresses: Sequence[str] = LOOPBACK
    #: Origins of web pages that may connect, for example ``https://example.com``. Other clients
    #: need none.
    allowed_origins: Sequence[str] = ()
    #: For ``wss://``.
    ssl_context: ssl.SSLContext | None = None
    trusted: TrustedAddresses = field(init=False, repr=False)
    #: The allowed origins in the form in which they are compared.
    origins: frozenset[str] = field(init=False, repr=False)
    #: Where the threads of all keys but an app's own are.
    tenants_store: ThreadStore = field(init=False, repr=False)
    # The tenants whose threads are no longer in the store itself.
    _moved: set[str] = field(init=False, repr=False, default_factory=set)

    def __post_init__(self) -> None:
        """Check the options.

        :raises ConfigurationError: if one is wrong. It names the option, its value and what is
            allowed.
        """
        for name, lowest in _LEAST.items():
            value = getattr(self, name)
            highest = 65_535 if name == "port" else 2**40
            if type(value) is not int or not lowest <= value <= highest:
                raise ConfigurationError(
                    f"{name} must be an integer from {lowest:,} to {highest:,}, not {value!r}."
                )
        for name in ("authorization_timeout", "send_timeout", "drain_timeout"):
            value = getattr(self, name)
            if not is_duration(value):
                raise ConfigurationError(
                    f"{name} must be a number above 0 and at most {LONGEST:,}, not {value!r}."
                )
        if self.max_memory_bytes < 4 * self.max_frame_bytes:
            raise ConfigurationError("max_memory_bytes must be at least 4 times max_frame_bytes.")
        object.__setattr__(self, "origins", read_origins(self.allowed_origins))
        object.__setattr__(self, "trusted", TrustedAddresses(self.trusted_addresses))
        if self.keys.has_own and len(self.keys) > 1:
            require_apart(self.store)
        shared = shares_with_tenants(self.store)
        object.__setattr__(
            self, "tenants_store", self.store if shared else self.store.for_tenants()
        )

    @property
    def stores(self) -> Sequence[ThreadStore]:
        """The stores that the keys need."""
        if not self.keys.has_own:
            return [self.tenants_store]
        return [self.store] if len(self.keys) == 1 else [self.store, self.tenants_store]

    def tenant_of(self, key: str) -> Tenant:
        """Return the tenant whose threads a client with *key* sees. The first call is slow."""
        if self.keys.is_own(key):
            return Tenant("the app", self.store, None, lists=True)
        namespace = namespace_of(key)
        store = self.tenants_store
        if store is not self.store and namespace not in self._moved:
            move_former_threads(namespace, self.store, store)
            self._moved.add(namespace)
        return Tenant(namespace, store, namespace, lists=store.owners)

    @property
    def reserved_workers(self) -> int:
        """How many of the threads one of several keys always leaves to the others."""
        return 0 if len(self.keys) == 1 else max(1, self.workers // 4)
