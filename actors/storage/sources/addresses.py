"""How far inside an address lies: whether a redirect may lead there. Pure.

A server on the internet that redirects to an address of the house, or of this machine, makes noyau
ask there in its place (server-side request forgery). So a redirect never leads further inside than
the first address was.
"""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from typing import Final


class Depth(IntEnum):
    """From the outside in."""

    PUBLIC = 0
    """Of the whole internet."""
    PRIVATE = 1
    """Of a network of its own: RFC 1918, RFC 4193, and a provider's shared ones, RFC 6598."""
    LOCAL = 2
    """Of this machine, of this link (where clouds keep their secrets: 169.254.169.254), of groups,
    or set aside for what is no host."""


_PRIVATE: Final = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


def depth_of(address: str) -> Depth:
    """Of an address as the operating system writes it, also with a scope (``fe80::1%eth0``)."""
    found = _inner(ipaddress.ip_address(address))
    if any(found in network for network in _PRIVATE if network.version == found.version):
        return Depth.PRIVATE
    if found.is_global and not found.is_multicast and not found.is_reserved:
        return Depth.PUBLIC
    return Depth.LOCAL


def depth_of_host(host: str) -> Depth:
    """Of a host in a URL, as far as its name alone says: a name may lead anywhere."""
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return Depth.LOCAL
    try:
        return depth_of(bare)
    except ValueError:
        # 127.1, 0x7f.1 and 2130706433 are addresses to many who look them up.
        return Depth.LOCAL if _NUMBER.fullmatch(bare.rpartition(".")[2]) else Depth.PUBLIC


def _inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does: the packets go there."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
