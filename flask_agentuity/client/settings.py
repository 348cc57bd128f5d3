"""The options of a client, and their checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from ..durations import LONGEST, is_duration
from ..errors import ConfigurationError, StoreError
from ..wire import limits
from .address import Address

_ABOVE_ZERO = (
    "connect_timeout",
    "request_timeout",
    "reconnect_base",
    "reconnect_max",
    "refused_base",
    "refused_max",
    "ping_interval",
    "pong_timeout",
    "probe_after",
    "trial_timeout",
    "max_pending",
    "max_queued_bytes",
    "max_frame_bytes",
    "max_document_bytes",
)
_ZERO_OR_MORE = ("grace", "stable_after")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of :class:`.ThreadClient`; see :class:`ClientSettings`."""

    connect_timeout: float
    request_timeout: float
    reconnect_base: float
    reconnect_max: float
    refused_base: float
    refused_max: float
    grace: float
    ping_interval: float
    pong_timeout: float
    probe_after: float
    trial_timeout: float
    stable_after: float
    max_pending: int
    max_queued_bytes: int
    max_frame_bytes: int
    max_document_bytes: int
    ca_file: str | None
    on_connected: Callable[[], object] | None
    on_disconnected: Callable[[StoreError], object] | None


@dataclass(frozen=True)
class ClientSettings:
    """The address, the key and the options of a client. All times are in seconds.

    :raises ConfigurationError: if a value is wrong. The message names the option, its value and
        what is allowed, but never the key.
    """

    address: Address
    key: str = field(repr=False)
    #: The time for resolving the name, connecting and authorizing together.
    connect_timeout: float = limits.CONNECT_TIMEOUT
    #: The time for a call, including the wait for a connection.
    request_timeout: float = limits.REQUEST_TIMEOUT
    #: The longest delay before the first reconnection attempt. It doubles with each failure, up
    #: to twice this value plus a tenth of the outage so far.
    reconnect_base: float = 1.0
    #: The longest delay between two attempts.
    reconnect_max: float = 30.0
    #: The shortest delay after a failure that an immediate retry cannot fix (a refused key, an
    #: invalid certificate). It doubles with each such failure.
    refused_base: float = 30.0
    #: The longest delay after such a failure.
    refused_max: float = 300.0
    #: How long calls wait for a new connection after a healthy one was lost.
    grace: float = 2.0
    #: The silence after which an idle connection is pinged. Proxies commonly close connections
    #: that are idle for a minute.
    ping_interval: float = 20.0
    #: The time for the response to a ping. Half of it while requests await their replies.
    pong_timeout: float = 10.0
    #: The silence after which a connection is pinged while requests await their replies.
    probe_after: float = 2.0
    #: The time for the single request that probes a service which had stopped answering.
    trial_timeout: float = 3.0
    #: How long a connection must last before reconnection delays start from the beginning again.
    stable_after: float = 10.0
    #: How many calls may be in progress.
    max_pending: int = 1000
    #: How many bytes may wait to be sent.
    max_queued_bytes: int = 64 * 1024 * 1024
    #: The largest message in bytes that is accepted from the service.
    max_frame_bytes: int = limits.MAX_FRAME_BYTES
    #: The largest document in bytes that is accepted from the service.
    max_document_bytes: int = limits.MAX_DOCUMENT_BYTES
    #: A file of PEM certificates to trust instead of the system's.
    ca_file: str | None = None
    #: Called in a separate thread after the service accepted the key.
    on_connected: Callable[[], object] | None = None
    #: Called there with the reason after that connection was lost.
    on_disconnected: Callable[[StoreError], object] | None = None

    def __post_init__(self) -> None:
        check_key(self.key)
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if not is_duration(value):
                raise ConfigurationError(
                    f"{name} must be a number greater than 0, at most {LONGEST:,}, not {value!r}."
                )
        for name in _ZERO_OR_MORE:
            value = getattr(self, name)
            if not is_duration(value, or_zero=True):
                raise ConfigurationError(
                    f"{name} must be a number from 0 to {LONGEST:,}, not {value!r}."
                )
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            raise ConfigurationError(f"ca_file must be an existing file, not {self.ca_file!r}.")


def check_key(key: object) -> None:
    """Refuse what cannot be a key.

    :raises ConfigurationError: if it is none. The message does not contain it.
    """
    if not isinstance(key, str) or not key:
        raise ConfigurationError("key must be a non-empty string.")
    if key.endswith(("\n", "\r")):
        raise ConfigurationError(
            "key must not end with a newline. Strip it if the key was read from a file."
        )
    if key != key.strip():
        raise ConfigurationError("key must not begin or end with white space.")
    if any(ord(each) < 32 or ord(each) == 127 for each in key):
        raise ConfigurationError("key must not contain control characters.")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("key must be valid Unicode; it contains a surrogate.") from None
