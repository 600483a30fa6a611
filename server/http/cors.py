"""CORS: the web pages that may call the server. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
_APPS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS = "Arch Async Custom-Poll-Interval Helper-Method Lang Os Package-Version Poll-Helper Retry-Count Runtime"
_OPENAI = ("OpenAI-Organization", "OpenAI-Project")
_ANTHROPIC = ("X-Api-Key", *(f"Anthropic-{name}" for name in ("Version", "Beta", "Dangerous-Direct-Browser-Access")))
_SDKS = (*_OPENAI, *_ANTHROPIC, "X-Stainless-Helper", "Idempotency-Key")  # what their clients send beside Ollama's list
_HEADERS = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta," + ",".join(
    (*(f"X-Stainless-{name}" for name in (*_STAINLESS.split(), "Runtime-Version", "Timeout")), *_SDKS)
)
_ANYTHING = r"[^\s?#@\\,]*"
_NAME = r"(\[[0-9a-f:.]+\]|[^\s/?#@\\,:\[\]]*)"
_NUMBERS = r"[0-9.]*"
_DIGITS = r"[0-9]{1,5}"
_BEGINS_AN_ADDRESS = re.compile(r"://[0-9.]+$")
_MAX_AGE = "43200"  # seconds that a browser may remember a preflight


class InvalidOrigin(ValueError):
    """A malformed entry of OLLAMA_ORIGINS."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer with `status` at once, or go on if it is None. Either answer gets the `headers`."""

    status: int | None = None
    headers: Headers = field(default_factory=list)


_PASS = Verdict()
_FORBIDDEN = Verdict(403)


class Origins:
    """The allowed origins: this machine, desktop apps, and `extra` ones with at most one `*` each.

    Raises InvalidOrigin.
    """

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        for entry in extra:
            if entry.count("*") > 1:
                raise InvalidOrigin(f"bad origin: only one * is allowed in {entry!r}")
            if "*" not in entry and not entry.lower().startswith(_SCHEMES):
                raise InvalidOrigin(f"bad origin: {entry!r} must contain '*' or start with http:// or https://")
        everything = (*extra, *_defaults())
        self._all = "*" in extra
        self._exact = frozenset(entry.lower() for entry in everything if "*" not in entry)
        self._wild = tuple(_pattern(entry.lower()) for entry in everything if "*" in entry)

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        return self._all or origin in self._exact or any(pattern.fullmatch(origin) for pattern in self._wild)

    def check(self, method: str, origin: str, host: str) -> Verdict:
        """The verdict for a request. Without an origin, or with the server's own, it passes."""
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return _PASS
        if not self.allows(origin):
            return _FORBIDDEN
        if method == "OPTIONS":
            return Verdict(204, self._preflight(origin))
        if self._all:
            return Verdict(headers=[(b"access-control-allow-origin", b"*")])
        return Verdict(headers=[(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")])

    def _preflight(self, origin: str) -> Headers:
        common = [
            (b"access-control-allow-methods", _METHODS.encode()),
            (b"access-control-allow-headers", _HEADERS.encode()),
            (b"access-control-max-age", _MAX_AGE.encode()),
        ]
        if self._all:
            return [(b"access-control-allow-origin", b"*"), *common]
        varies = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            *common,
            *((b"vary", name.encode()) for name in varies),
        ]


def _pattern(entry: str) -> re.Pattern[str]:
    """An entry as a pattern: `*` matches a port after `:`, the rest of an address after digits, else a host name."""
    before, _, after = entry.partition("*")
    if "://" not in entry:
        rest = _ANYTHING
    elif "://" in before and before.endswith(":"):
        rest = _DIGITS
    elif after:
        rest = _NAME
    else:
        rest = (_NUMBERS if _BEGINS_AN_ADDRESS.search(before) else _NAME) + f"(:{_DIGITS})?"
    return re.compile(re.escape(before) + rest + re.escape(after))


def _defaults() -> tuple[str, ...]:
    local = (f"{scheme}://{host}{port}" for host in _LOCAL for scheme in ("http", "https") for port in ("", ":*"))
    return (*local, *_APPS)
