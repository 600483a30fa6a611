"""Proxies from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from registry.errors import RegistryError

_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Supported proxy schemes and their default ports."""
_LONGEST_SECRET: Final = 255
"""Bytes of a name or password that SOCKS5 has room for."""
_ALIASES: Final = {"socks": "socks5"}
_EVERY: Final = "all"


class UnusableProxy(RegistryError):
    """The environment names a proxy that cannot be used; the text holds no secret."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's scheme, address, and (name, password)."""

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read `[scheme://][name:password@]host[:port]`. Raises UnusableProxy."""
        scheme, separator, rest = text.partition("://")
        scheme = _ALIASES.get(scheme.lower(), scheme.lower()) if separator else "http"
        if scheme not in _SCHEMES:
            raise UnusableProxy(f'unsupported proxy scheme "{scheme}"')
        try:
            url = urlsplit(f"{scheme}://{rest if separator else text}")
            host, port = url.hostname or "", url.port or _SCHEMES[scheme]
        except ValueError:
            host, port = "", 0
        if not host or not host.isascii() or not host.isprintable() or " " in host:
            raise UnusableProxy("the environment names a proxy that is no address")
        named = url.username is not None or url.password is not None
        auth = unquote(url.username or ""), unquote(url.password or "")
        if any(len(text.encode("utf-8", "replace")) > _LONGEST_SECRET for text in auth):
            raise UnusableProxy(f"a name or password for a proxy has more than {_LONGEST_SECRET} bytes")
        return cls(scheme, host, port, auth if named else None)

    @property
    def url(self) -> str:
        """The URL without name and password."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def basic_auth(self) -> dict[str, str]:
        """The header that tells an HTTP proxy name and password; empty without them."""
        if self.auth is None:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(':'.join(self.auth).encode()).decode()}"}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy URL for each scheme, and the NO_PROXY entries. Loopback is never proxied."""

    urls: Mapping[str, str] = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Proxies:
        """Read the variables; upper case wins over lower case."""
        every = _variable(environ, f"{_EVERY}_proxy")
        urls = {scheme: _variable(environ, f"{scheme}_proxy") or every for scheme in _PORTS}
        listed = _variable(environ, "no_proxy").lower().replace(",", " ").split()
        return cls({scheme: url for scheme, url in urls.items() if url}, tuple(listed))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems with the configured proxies, for the user."""
        warnings = []
        for scheme, url in self.urls.items():
            try:
                Proxy.parse(url)
            except UnusableProxy as error:
                warnings.append(f"{scheme} URLs cannot be reached: {error}")
        return tuple(warnings)

    def of(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """The proxy for a host; None to connect directly. Raises UnusableProxy."""
        proxy = self.urls.get(scheme)
        if proxy is None or _is_this_machine(host):
            return None
        host = host.lower().rstrip(".")
        port = port or _PORTS[scheme]
        return None if any(_matches(entry, host, port) for entry in self.exceptions) else Proxy.parse(proxy)


def _variable(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name.upper()) or environ.get(name) or ""
    return text.strip().strip("\"'")


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None) or address
        return bool(mapped.is_loopback or mapped.is_unspecified)
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether a NO_PROXY entry covers this host: `*`, an address, a network or a domain, with or without a port."""
    if entry == "*":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon and number.isascii() and number.isdigit():
        return int(number[:6]) == port and _matches(name, host, port)
    domain = entry.removeprefix("*")
    if not domain.strip("."):
        return False
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")
