"""Which `Host` names the server answers to: the guard against DNS rebinding."""

from __future__ import annotations

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address

_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_LOOPBACK_SUFFIXES = (".localhost", ".local", ".internal")
_LOCAL_SUFFIXES = (".local", ".lan", ".internal")
_HOST = re.compile(
    r"(?P<host>(?:[\w-]+(?:\.[\w-]+)*\.?)?|\[[0-9A-F:.]+\])(?::(?P<port>[0-9]{0,5}))?", re.ASCII | re.IGNORECASE
)
_ENTRY = re.compile(r"(?:[a-z*][a-z0-9+.*-]*://)?(?P<host>\[[^\]]*\]|[^:/]*)(?::[0-9*]*)?/?", re.IGNORECASE)


class InvalidHost(ValueError):
    """A text is no `Host` header."""


def parse_host(header: str) -> str | IPAddress:
    """The name, folded, or the address in a `Host` header; an empty one is an empty name. Raises InvalidHost."""
    if "%" not in header and (bare := _address(header)) is not None:  # IPv6 without brackets, as some clients send it
        return bare
    found = _HOST.fullmatch(header)
    if found is None or int(found["port"] or 0) > 65535:
        raise InvalidHost(header)
    host = found["host"]
    if host.startswith("["):
        address = _address(host[1:-1]) if ":" in host else None
        if address is None:
            raise InvalidHost(header)
        return address
    return _address(host) or _name(host)


class Hosts:
    """Says of a `Host` header whether it may be answered.

    On a loopback address: names and addresses of this machine and of private networks. On any other: everything, but
    what a browser asks must be for an address, a name without dots, one of a local network or the machine's own, for
    a page can have any other name lead here. `names` may be asked for everywhere; they are names, `*.domain` for all
    below a domain, or `*`. So may the hosts of `origins`, but not on a loopback address.
    """

    def __init__(self, bind: str, names: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> None:
        self.on_loopback = is_loopback(bind)
        entries = names if self.on_loopback else (*names, *(entry for entry in origins if _names_a_host(entry)))
        patterns = [_host_of(entry) for entry in entries]
        self._names = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._wild = tuple(tuple(pattern.split("*", 1)) for pattern in patterns if "*" in pattern)
        self._own_name = _name(socket.gethostname())

    def allows(self, host: str | IPAddress, *, from_browser: bool) -> bool:
        """Whether a request for this host may be answered."""
        if self._is_named(str(host)):
            return True
        if not self.on_loopback:
            return not from_browser or not isinstance(host, str) or self._is_near(host)
        if isinstance(host, str):
            return host in ("", "localhost", self._own_name) or host.endswith(_LOOPBACK_SUFFIXES)
        return host.is_loopback or host.is_unspecified or _is_private(host) or str(host) in _own_addresses()

    def _is_named(self, host: str) -> bool:
        return host in self._names or any(
            len(host) >= len(before) + len(after) and host.startswith(before) and host.endswith(after)
            for before, after in self._wild
        )

    def _is_near(self, name: str) -> bool:
        """Whether a name leads into this machine's own network, whoever asks."""
        return "." not in name or name == self._own_name or name.endswith(_LOCAL_SUFFIXES)


def is_loopback(bind: str) -> bool:
    """Whether a server listening on this host is reachable from this machine only."""
    if (address := _address(bind)) is not None:
        return address.is_loopback
    if not bind:
        return False
    try:
        found = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all((address := _address(str(entry[4][0]))) is not None and address.is_loopback for entry in found)


def _names_a_host(origin: str) -> bool:
    """Whether an entry of OLLAMA_ORIGINS is about web pages of a host, not about apps or extensions."""
    scheme, found, _ = origin.lower().partition("://")
    return not found or scheme in ("http", "https") or "*" in scheme


def _host_of(entry: str) -> str:
    """The host in a name, an address, a `Host` header or an origin."""
    address = _address(entry)
    if address is not None:
        return str(address)
    found = _ENTRY.fullmatch(entry)
    host = _name(found["host"] if found else entry)
    return str(_address(host.strip("[]")) or host)


def _name(text: str) -> str:
    """A name in the form in which names are compared: the dot that ends a full one says nothing."""
    return text.lower().removesuffix(".")


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_private(address: IPAddress) -> bool:
    return any(address.version == network.version and address in network for network in _PRIVATE)


def _own_addresses() -> frozenset[str]:
    import psutil  # only a request under a public address needs it

    return frozenset(entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)
