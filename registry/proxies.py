"""Proxies, as the usual variables of an environment name them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy of each scheme, and the hosts that are reached without. Never used for this machine itself."""

    urls: Mapping[str, str] = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Proxies:
        """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY; capital letters win over small ones."""
        urls = {scheme: _variable(environ, f"{scheme}_proxy") for scheme in _PORTS}
        listed = _variable(environ, "no_proxy").lower().split(",")
        return cls(
            {scheme: url if "://" in url else f"http://{url}" for scheme, url in urls.items() if url},
            tuple(entry.strip() for entry in listed if entry.strip()),
        )

    def of(self, scheme: str, host: str, port: int | None) -> str | None:
        """The URL of the proxy to use for a host; None if it is to be reached directly."""
        proxy = self.urls.get(scheme)
        if proxy is None or _is_this_machine(host):
            return None
        host = host.lower().rstrip(".")
        port = port or _PORTS[scheme]
        return None if any(_matches(entry, host, port) for entry in self.exceptions) else proxy


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name.upper()) or environ.get(name) or "").strip()


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: `*`, an address, a network, a domain, each perhaps with a port."""
    if entry == "*":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit():
        return int(wanted) == port and _matches(name.strip("[]"), host, port)
    domain = entry.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")
