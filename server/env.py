"""How the text of an environment variable becomes a value. Pure; a bad value raises ValueError."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from server.gotext import parse_duration

DEFAULT_PORT = 11434
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SCHEME_PORTS = {"http": 80, "https": 443}


def clean(text: str) -> str:
    """The value without surrounding blanks and quotation marks."""
    return text.strip().strip("\"'")


def parse_bool(text: str) -> bool:
    """Whether a switch is on; any text that is not a known "no" means yes."""
    return text not in _FALSE


def parse_tristate(text: str) -> bool | None:
    """On, off, or None for a text that says neither."""
    return True if text in _TRUE else False if text in _FALSE else None


def parse_uint(text: str) -> int:
    """A whole number, decimal digits only."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number")
    return int(text)


def parse_seconds(text: str) -> float:
    """Seconds of a Go duration (`5m`), else of a plain number of seconds."""
    try:
        return parse_duration(text)
    except ValueError:
        return float(int(text))


def parse_keep_alive(text: str) -> float:
    """Seconds that an idle model stays loaded; negative means forever, which is inf."""
    seconds = parse_seconds(text)
    return math.inf if seconds < 0 else seconds


def parse_timeout(text: str) -> float:
    """Seconds; zero or less means no limit, which is inf."""
    seconds = parse_seconds(text)
    return math.inf if seconds <= 0 else seconds


def parse_debug(text: str) -> int:
    """0 for info, 1 for debug, 2 and more for trace."""
    switch = parse_tristate(text)
    if switch is not None:
        return int(switch)
    return max(0, int(text)) if text.lstrip("-").isdigit() else 1


def parse_list(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, empty ones left out."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens and clients find it. `host` is empty for all interfaces."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    scheme: str = "http"
    path: str = ""

    @property
    def shown(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where a client on this machine connects; "all interfaces" becomes the loopback address."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}://{Address(host, self.port).shown}{path}"


def parse_address(text: str) -> Address:
    """`[scheme://]host[:port][/path]`, every part optional. A port that is none gives the default port."""
    text = text.strip()
    if text == "ollama.com":
        return Address("ollama.com", 443, "https")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if found else DEFAULT_PORT
    hostport, _, path = rest.partition("/")
    host, port = _split(hostport)
    number = int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else default_port
    return Address(host, number, scheme, path)


def split_host_port(text: str) -> tuple[str, str] | None:
    """`host:port` or `[host]:port` as Go splits it; None where there is no port or too many colons."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        return (host, rest[1:]) if closed and rest.startswith(":") and "[" not in host else None
    host, found, port = text.rpartition(":")
    return (host, port) if found and ":" not in host and "]" not in host else None


def _split(hostport: str) -> tuple[str, str]:
    if (parts := split_host_port(hostport)) is not None:
        return parts
    bare = hostport.strip("[]")
    try:
        return str(ipaddress.ip_address(bare)), ""
    except ValueError:
        return hostport or "127.0.0.1", ""
