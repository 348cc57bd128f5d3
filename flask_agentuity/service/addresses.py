"""The addresses of clients: what counts as one address, and which addresses are trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ..errors import ConfigurationError

#: A host in IPv6 usually has a whole network of this size.
_IPV6_PREFIX = 64


def source_of(host: str) -> str:
    """Return what counts as one address for limits: an IPv4 address or an IPv6 network."""
    address = _parse(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address.packed, _IPV6_PREFIX), strict=False))
    return host if address is None else str(address)


class TrustedAddresses:
    """Addresses that are exempt from the limits for each address."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Trust the addresses and the *networks*, such as ``10.0.0.0/8``.

        :raises ConfigurationError: if one of them is neither.
        """
        try:
            self._networks = [ipaddress.ip_network(each, strict=False) for each in networks]
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"trusted_addresses must be addresses or networks such as 10.0.0.0/8: {error}"
            ) from None

    def __contains__(self, host: str) -> bool:
        """Return whether *host* is trusted."""
        address = _parse(host)
        return address is not None and any(address in network for network in self._networks)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # A link-local address of IPv6 names its interface.
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
