"""What a client was told to do, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigurationError, StoreError
from ..wire import limits
from .address import Address


@dataclass(frozen=True)
class Settings:
    """The options of a client; all times are in seconds. See :class:`.ThreadClient`."""

    address: Address
    key: str = field(repr=False)
    connect_timeout: float = limits.CONNECT_TIMEOUT
    request_timeout: float = limits.REQUEST_TIMEOUT
    reconnect_base: float = 1.0
    reconnect_max: float = 30.0
    refused_base: float = 30.0
    refused_max: float = 300.0
    grace: float = 2.0
    ping_interval: float = 20.0
    pong_timeout: float = 10.0
    probe_after: float = 2.0
    trial_timeout: float = 3.0
    stable_after: float = 10.0
    max_pending: int = 1000
    max_queued_bytes: int = 64 * 1024 * 1024
    max_frame_bytes: int = limits.MAX_FRAME_BYTES
    ca_file: str | None = None
    on_connected: Callable[[], object] | None = None
    on_disconnected: Callable[[StoreError], object] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        :raises ConfigurationError: naming the option, its value and what is allowed.
        """
        if not isinstance(self.key, str) or not self.key:
            raise ConfigurationError("key must be a text that is not empty.")
        try:
            self.key.encode()
        except UnicodeEncodeError:
            raise ConfigurationError("key must be text that UTF-8 can hold.") from None
        for name in (
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
        ):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < 2**40:
                raise ConfigurationError(f"{name} must be a number above 0, not {value!r}.")
        for name in ("grace", "stable_after"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 2**40:
                raise ConfigurationError(f"{name} must be a number of 0 or more, not {value!r}.")
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            raise ConfigurationError(f"ca_file must be a file; {self.ca_file!r} is not.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
