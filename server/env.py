"""Parsers for the values of environment variables. Pure; a bad value raises ValueError."""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from server.duration import parse_duration

DEFAULT_PORT = 11434
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
_YES = ("yes", "y", "on")
CACHE_TYPES = ("f16", "bf16", "f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(i?B)?", re.IGNORECASE)
_MOST_PORT = 65535
_LARGEST = (1 << 63) - 1
_MOST_SECONDS = 1 << 53
LEAST_TIMEOUT = 0.01  # seconds
_SCHEME_PORTS = {"http": 80, "https": 443}


class Doubtful(ValueError):
    """A part of the text was replaced by a default; `value` is the result."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value


def clean(text: str) -> str:
    """The value without surrounding blanks and quotation marks."""
    return text.strip().strip("\"'")


def parse_bool(text: str) -> bool:
    """Whether a switch is on: any text but a form of 0 or false. Raises Doubtful for what is no form of 1 or true."""
    if text not in TRUE and text not in FALSE and text.lower() not in _YES:
        raise Doubtful(True, "which is neither 1 nor 0 and counts as 1")
    return text not in FALSE


def parse_switch(text: str) -> bool:
    """As `parse_bool`, with llama.cpp's own words."""
    return text.lower() not in ("off", "disabled") and (text.lower() == "enabled" or parse_bool(text))


def parse_automatic_bool(text: str) -> bool | None:
    """As `parse_bool`; None for `auto`."""
    return None if text.lower() == "auto" else parse_bool(text)


def parse_tristate(text: str) -> bool | None:
    """True or False for a form of 1, true, 0 or false; None for `auto`. Raises Doubtful for other texts."""
    if text not in (*TRUE, *FALSE, "auto"):
        raise Doubtful(None, "which is neither 1 nor 0, automatic is used")
    return None if text == "auto" else text in TRUE


def parse_cache_types(text: str) -> str:
    """A type of the KV cache, or two with a comma between them, in any case. Raises Doubtful; its value is f16."""
    types = [part.strip() for part in text.lower().split(",")]
    if len(types) > len(("keys", "values")) or not set(types) <= set(CACHE_TYPES):
        raise Doubtful("f16", f"which is none of {', '.join(CACHE_TYPES)} or two of them, f16 is used")
    return ",".join(types)


def parse_uints(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(parse_uint(part.strip()) for part in text.split(","))


def parse_uint(text: str) -> int:
    """A non-negative whole number in decimal digits, of 63 bits at most."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number")
    if (number := int(text)) > _LARGEST:
        raise ValueError("must be a whole number that is not so large")
    return number


def parse_size(text: str) -> int:
    """Bytes: a number alone, or with a unit: `20GiB` and `20G` are 20 × 2^30, `20GB` is 20 × 10^9."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a size")
    base = 1000 if (match[3] or "").upper() == "B" else 1024
    return int(float(match[1]) * base ** " KMGT".index((match[2] or " ").upper()))


def parse_folder_and_size(text: str) -> tuple[Path, int] | None:
    """An absolute folder, a colon, and a size, as in `/var/cache/pronk:20GiB`; None for size 0 or `off`."""
    if text.lower() == "off":
        return None
    folder, _, size = text.rpartition(":")
    try:
        path = Path(folder).expanduser()
    except RuntimeError:
        raise ValueError("no home folder is known") from None
    if not path.is_absolute():
        raise ValueError("must be an absolute folder, a colon and a size")
    return (path, parse_size(size)) if parse_size(size) else None


def parse_seconds(text: str) -> float:
    """Seconds: a Go duration (`5m`) or a whole number."""
    try:
        return parse_duration(text)
    except ValueError:
        if not text.isascii() or "_" in text:
            raise  # Python would read it as a number
        seconds = int(text)
    if abs(seconds) > _MOST_SECONDS:
        raise ValueError("must be a time that a clock can show")
    return float(seconds)


def parse_keep_alive(text: str) -> float:
    """Seconds that an idle model stays loaded; negative means forever (inf)."""
    seconds = parse_seconds(text)
    return math.inf if seconds < 0 else seconds


def parse_timeout(text: str) -> float:
    """Seconds; zero or less means no limit (inf). Raises Doubtful for less than anything takes."""
    seconds = parse_seconds(text)
    if 0 < seconds < LEAST_TIMEOUT:
        raise Doubtful(LEAST_TIMEOUT, f"which is shorter than anything takes, {LEAST_TIMEOUT} s are used")
    return math.inf if seconds <= 0 else seconds


def parse_span(text: str) -> float:
    """Seconds, zero or more. Raises Doubtful for less; its value is 0."""
    seconds = parse_seconds(text)
    if seconds < 0:
        raise Doubtful(0.0, "which is negative, 0 is used")
    return seconds


def parse_debug(text: str) -> int:
    """0: INFO, 1: DEBUG, 2 and more: TRACE. Text that is no number is read as `parse_bool` does."""
    number = text.removeprefix("-")
    return max(0, int(text)) if number.isascii() and number.isdigit() else int(parse_bool(text))


def parse_log_format(text: str) -> str:
    """`text` or `json`, in any case."""
    if (lower := text.lower()) not in ("text", "json"):
        raise ValueError("must be text or json")
    return lower


def parse_header(text: str) -> str:
    """A value for an HTTP header: printable ASCII."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be printable ASCII")
    return text


def parse_list(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, empty ones left out."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens and clients connect. An empty `host` means all interfaces."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    scheme: str = "http"
    path: str = ""

    @property
    def shown(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_everywhere(self) -> bool:
        """Whether it means all interfaces: empty, `::`, `0.0.0.0` or `0`."""
        try:
            return not self.host or ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return _is_zero(self.host)

    @property
    def client_host(self) -> str:
        """The host that a client on this machine connects to. For all interfaces 127.0.0.1: IPv6 may be off."""
        return "127.0.0.1" if self.is_everywhere else self.host

    @property
    def url(self) -> str:
        """The base URL for a client on this machine."""
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}://{Address(self.client_host, self.port).shown}{path}"


def parse_address(text: str) -> Address:
    """`[scheme://]host[:port][/path]`, every part optional.

    Raises Doubtful for a bad port; its value has the default port. The host is not checked.
    """
    text = clean(text)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.strip().lower()
    if not separator:
        scheme, rest = "http", text
    if not separator and rest.lower() == "ollama.com":
        return Address("ollama.com", 443, "https")
    default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    hostport, _, path = rest.partition("/")
    host, port = _split(hostport.strip())
    port = port.strip()
    if port.isascii() and port.isdigit() and len(port) < 10 and int(port) <= _MOST_PORT:
        return Address(host.strip(), int(port), scheme, path)
    address = Address(host.strip(), default_port, scheme, path)
    if port:
        raise Doubtful(address, f"{port!r} is no port, {default_port} is used")
    return address


def split_host_port(text: str) -> tuple[str, str] | None:
    """Split `host:port` or `[host]:port` as Go does; None without a port or with too many colons."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        return (host, rest[1:]) if closed and rest.startswith(":") and "[" not in host else None
    host, colon, port = text.rpartition(":")
    return (host, port) if colon and ":" not in host and "]" not in host else None


def _is_zero(host: str) -> bool:
    """Whether a host is an old form of 0.0.0.0, such as `0`."""
    try:
        return socket.inet_aton(host) == bytes(4)
    except (OSError, UnicodeError):
        return False


def _split(hostport: str) -> tuple[str, str]:
    if (parts := split_host_port(hostport)) is not None:
        return parts
    bare = hostport.strip("[]")
    try:
        return str(ipaddress.ip_address(bare)), ""
    except ValueError:
        return hostport or "127.0.0.1", ""
