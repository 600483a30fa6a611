"""The `Host` names that the server answers to, against DNS rebinding."""

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
    """A malformed `Host` header."""


def parse_host(header: str) -> str | IPAddress:
    """The lower-case name, or the address, in a `Host` header; "" if it is empty. Raises InvalidHost."""
    if "%" not in header and (bare := _address(header)) is not None:  # IPv6 without brackets, as some clients send it
        return bare
    match = _HOST.fullmatch(header)
    if match is None or int(match["port"] or 0) > 65535:
        raise InvalidHost(header)
    host = match["host"]
    if host.startswith("["):
        address = _address(host[1:-1]) if ":" in host else None
        if address is None:
            raise InvalidHost(header)
        return address
    return _address(host) or _name(host)


class Hosts:
    """The rules by which a request's host is allowed.

    - Bound to loopback: names and addresses of this machine, and addresses of private networks.
    - Bound to anything else: every host; but from a browser only an address, a name without dots, a name of a local
      network, or our own name, because a web page can make any other name resolve to us.

    `names` are always allowed: a name, `*.domain` or `*`. The hosts of `origins` are too, unless bound to loopback.
    """

    def __init__(self, bind: str, names: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> None:
        self.on_loopback = is_loopback(bind)
        entries = names if self.on_loopback else (*names, *(entry for entry in origins if _names_a_host(entry)))
        patterns = [_host_of(entry) for entry in entries]
        self._names = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._wild = tuple(tuple(pattern.split("*", 1)) for pattern in patterns if "*" in pattern)
        self._own_name = _name(socket.gethostname())

    def allows(self, host: str | IPAddress, *, from_browser: bool) -> bool:
        """Whether to answer a request for this host."""
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
        """Whether a name belongs to the local network, where no stranger can register it."""
        return "." not in name or name == self._own_name or name.endswith(_LOCAL_SUFFIXES)


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach a server that listens on this host."""
    if (address := _address(bind)) is not None:
        return address.is_loopback
    if not bind:
        return False
    try:
        entries = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all((address := _address(str(entry[4][0]))) is not None and address.is_loopback for entry in entries)


def _names_a_host(origin: str) -> bool:
    """Whether an entry of OLLAMA_ORIGINS names a host's web pages, not an app or extension."""
    scheme, separator, _ = origin.lower().partition("://")
    return not separator or scheme in ("http", "https") or "*" in scheme


def _host_of(entry: str) -> str:
    """The host of a name, an address, a `Host` header or an origin."""
    address = _address(entry)
    if address is not None:
        return str(address)
    match = _ENTRY.fullmatch(entry)
    host = _name(match["host"] if match else entry)
    return str(_address(host.strip("[]")) or host)


def _name(text: str) -> str:
    """A name in lower case, without the final dot of a fully qualified one."""
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
