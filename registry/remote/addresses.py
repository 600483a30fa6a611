"""Which IP addresses a request may connect to (protection against SSRF).

A registry named by the user may be anywhere. A redirect may not: a registry on the internet could reach, through us,
hosts of our own network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Resolves a host name and port to IP addresses, the best first. Raises OSError."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
# Cloud metadata services that are not link-local: Azure, Alibaba, Oracle, Amazon.
_METADATA = frozenset({"168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})


class Reach(Enum):
    """Where a request may go: ANYWHERE if the user named the host, NEAR if a private registry did, else PUBLIC."""

    ANYWHERE = "anywhere"
    NEAR = "near"
    PUBLIC = "public"

    def allows(self, address: str) -> bool:
        """Whether this IP address may be connected to."""
        if self is Reach.ANYWHERE:
            return True
        return is_public(address) or (self is Reach.NEAR and not _is_special(_unwrapped(address)))


def is_public(address: str) -> bool:
    """Whether an IP address is globally routable."""
    bare = _unwrapped(address)
    local = isinstance(bare, IPv6Address) and bare.is_site_local
    return bare.is_global and not bare.is_multicast and not local and str(bare) not in _METADATA


def is_address(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, from the system's resolver. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in infos))


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    """The address itself, or the IPv4 address embedded in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return ip
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is link-local, multicast, unspecified or a metadata service: never a file server."""
    odd = address.is_link_local or address.is_multicast or address.is_unspecified
    return odd or str(address) in _METADATA
