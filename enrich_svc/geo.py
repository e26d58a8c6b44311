"""What an address tells of a place, and how much of the address may be kept."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

# Registries file some ranges under a region; ISO 3166-1 has no such country.
NOT_COUNTRIES = frozenset({"AP", "EU", "ZZ"})

IPV4_KEPT_BITS = 24
IPV6_KEPT_BITS = 48


@dataclass(frozen=True, slots=True)
class Place:
    """The country of a public address, empty when unknown, and the address without its host part."""

    country: str
    truncated_ip: str


class Geographer:
    """Finds the place of an address; `country_of` answers an ISO 3166-1 alpha-2 code or None for its canonical text."""

    def __init__(self, country_of: Callable[[str], str | None]) -> None:
        self._country_of = country_of

    def locate(self, text: str) -> Place | None:
        """Return the place of a public address; None for any other text."""
        address = public_address(text)
        if address is None:
            return None
        country = self._country_of(str(address)) or ""
        return Place("" if country in NOT_COUNTRIES else country, truncate(address))


def public_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address of the public internet; None for private, reserved, multicast and malformed ones."""
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # An IPv4 address inside an IPv6 one is judged and cut as what it is: 48 bits of a 6to4 address hold all of it.
        address = address.ipv4_mapped or address.sixtofour or address
    return address if is_public(address) else None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is a unicast one that the public internet routes (IANA special-purpose registries)."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return isinstance(address, IPv4Address) or not address.is_site_local


def truncate(address: IPv4Address | IPv6Address) -> str:
    """Zero the host part: 8 bits of an IPv4 address, 80 of an IPv6 one."""
    if isinstance(address, IPv4Address):
        host_bits = 32 - IPV4_KEPT_BITS
        return str(IPv4Address(int(address) >> host_bits << host_bits))
    host_bits = 128 - IPV6_KEPT_BITS
    return str(IPv6Address(int(address) >> host_bits << host_bits))
