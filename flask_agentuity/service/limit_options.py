"""The limits of a service as options of its commands."""

from __future__ import annotations

from typing import NamedTuple

from .settings import ServiceSettings


class LimitOption(NamedTuple):
    """A number among the options of a service.

    ``name`` is that of the setting, ``unit`` the placeholder of the value, ``what`` its meaning.
    """

    name: str
    unit: str
    what: str

    @property
    def option(self) -> str:
        """The option of a command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def default(self) -> int | float:
        """The value of the setting without the option."""
        default: int | float = getattr(ServiceSettings, self.name)
        return default

    @property
    def shown_default(self) -> str:
        """The default as the help shows it."""
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


#: All of them.
LIMIT_OPTIONS = (
    LimitOption("max_frame_bytes", "BYTES", "the largest frame"),
    LimitOption("max_operations", "N", "the most operations in one merge"),
    LimitOption("max_memory_bytes", "BYTES", "the memory for the frames of all clients together"),
    LimitOption("max_connections", "N", "the most connected clients"),
    LimitOption("max_unauthorized", "N", "the most connected clients that have not sent their key"),
    LimitOption("max_unauthorized_per_address", "N", "the same, per address"),
    LimitOption("max_requests", "N", "the most requests of one client that are processed at once"),
    LimitOption("workers", "N", "the threads that use the store"),
    LimitOption("authorization_timeout", "SECONDS", "the time for a client's handshake and key"),
    LimitOption("send_timeout", "SECONDS", "the time for a client to read a reply"),
    LimitOption("drain_timeout", "SECONDS", "the time to answer pending requests on SIGTERM"),
)

#: The help of further options.
TRUSTED_ADDRESS = (
    "an address or a network to exempt from the limits per address, for example of a proxy or"
    " of app servers; this machine is exempt; can be repeated"
)
ALLOW_ORIGIN = "an origin such as https://HOST whose web pages may connect; can be repeated"
CERTIFICATE = "serve wss with this certificate (PEM)"
CERTIFICATE_KEY = "the certificate's private key (PEM), if it is in another file"
