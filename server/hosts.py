"""Which `Host` names the server answers to: the guard against DNS rebinding."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from server.env import split_host_port

_Address = IPv4Address | IPv6Address
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


class Hosts:
    """Says of a `Host` header whether it may be answered.

    Names and addresses of this machine and of private networks always may. `extra` entries are names, `*.domain`
    for all names below a domain, or `*`. With none of them, and when not listening on a loopback address, everything
    may: that is how clients expect a public bind to behave.
    """

    def __init__(self, bind: str, extra: tuple[str, ...] = ()) -> None:
        self.active = "*" not in extra and (bool(extra) or is_loopback(bind))
        self._names = frozenset(name.lower() for name in extra)
        self._suffixes = tuple(name[1:].lower() for name in extra if name.startswith("*."))
        self._own_name = socket.gethostname().lower()

    def is_name(self, host: str) -> bool:
        """Whether the header holds a name that is allowed, as opposed to an address."""
        name = _host_part(host).lower()
        return (
            name in ("", "localhost", self._own_name)
            or name in self._names
            or name.endswith(_LOCAL_SUFFIXES)
            or (bool(self._suffixes) and name.endswith(self._suffixes))
        )

    def is_address(self, host: str) -> bool:
        """Whether the header holds an address of this machine or of a private network."""
        address = _parse(_host_part(host))
        if address is None:
            return False
        return address.is_loopback or address.is_unspecified or _is_private(address) or str(address) in _own_addresses()


def is_loopback(bind: str) -> bool:
    """Whether a server listening on this host is reachable from this machine only."""
    if (address := _parse(bind)) is not None:
        return address.is_loopback
    if not bind:
        return False
    try:
        found = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all((address := _parse(str(entry[4][0]))) is not None and address.is_loopback for entry in found)


def _host_part(header: str) -> str:
    parts = split_host_port(header)
    return header if parts is None else parts[0]


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_private(address: _Address) -> bool:
    return any(address.version == network.version and address in network for network in _PRIVATE)


def _own_addresses() -> frozenset[str]:
    import psutil  # only a request under a public address needs it

    return frozenset(entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)
