"""The options of a service, checked once."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..stores.base import ThreadStore
from ..wire import limits
from .keys import Keys

#: The default limit for a frame, in bytes: a document of 1 MiB in which every character is
#: escaped, and as much again.
DEFAULT_MAX_FRAME_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class ServiceSettings:
    """The options of a service; all times are in seconds. See :class:`.ThreadService`."""

    store: ThreadStore
    keys: Keys
    host: str = "127.0.0.1"
    port: int = 0
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    max_connections: int = 1000
    max_requests: int = 64
    workers: int = 8
    authorization_timeout: float = 10.0
    drain_timeout: float = 10.0
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Check the options.

        :raises ConfigurationError: if one is wrong. It names the option, its value and what is
            allowed.
        """
        least = {"port": 0, "max_frame_bytes": limits.MAX_REQUEST_BYTES}
        for name in ("port", "max_frame_bytes", "max_connections", "max_requests", "workers"):
            value = getattr(self, name)
            lowest = least.get(name, 1)
            highest = 65_535 if name == "port" else 2**40
            if type(value) is not int or not lowest <= value <= highest:
                raise ConfigurationError(
                    f"{name} must be an integer from {lowest:,} to {highest:,}, not {value!r}."
                )
        for name in ("authorization_timeout", "drain_timeout"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 2**40:
                raise ConfigurationError(f"{name} must be a number above 0, not {value!r}.")
