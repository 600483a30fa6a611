"""Request targets, the methods of each path, and redirects from other spellings of a path. Pure."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote, unquote

import httptools

_ALLOW_ORDER = ("HEAD", "GET", "POST", "DELETE")
_PARAMETER = re.compile(r"\{[^}]+\}")
_KEPT = "/:@!$&'()*+,;=~-._"  # characters that need no escape in a path


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to `location`. `body` is HTML for GET, else empty."""

    status: int
    location: str
    body: bytes


@dataclass(slots=True)
class PathTable:
    """The methods of every path, fixed or with parameters: of one segment, or of any number (`{name:path}`)."""

    _fixed: dict[str, frozenset[str]] = field(default_factory=dict)
    _patterns: dict[re.Pattern[str], tuple[str, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, routes: Iterable[tuple[str, Iterable[str]]]) -> PathTable:
        """The table for (path, methods) pairs; the methods of equal paths add up."""
        methods: dict[str, frozenset[str]] = {}
        for path, names in routes:
            methods[path] = methods.get(path, frozenset()) | frozenset(names)
        table = cls()
        for path, names in methods.items():
            if "{" in path:
                pattern = _PARAMETER.sub(lambda match: ".+" if match[0].endswith(":path}") else "[^/]+", path)
                table._patterns[re.compile(pattern)] = path.replace(":path}", "}"), names
            else:
                table._fixed[path] = names
        return table

    def methods(self, path: str) -> frozenset[str]:
        """The methods of a path; empty for an unknown path."""
        return self.find(path)[1]

    def find(self, path: str) -> tuple[str, frozenset[str]]:
        """The template of a path, such as `/v1/models/{model}`, and its methods; both empty for an unknown path."""
        if (names := self._fixed.get(path)) is not None:
            return path, names
        return next((found for pattern, found in self._patterns.items() if pattern.fullmatch(path)), ("", frozenset()))

    def redirect(self, method: str, raw: bytes, query: str) -> Redirect | None:
        """The redirect for a path with dot segments, doubled slashes or a final slash; None if there is none.

        `raw` is the path as it came: escaped dots and slashes stay.
        """
        escaped = quote(raw, safe=_KEPT + "%")
        cleaned = clean_path(escaped)
        if cleaned != escaped:
            return _redirect(method, cleaned, query, 307)
        path = unquote(escaped)
        shorter = path[:-1]
        if path.endswith("/") and method != "OPTIONS" and method in self.methods(shorter):
            return _redirect(method, quote(shorter, safe=_KEPT), query, 301 if method == "GET" else 307)
        return None


def clean_path(path: str) -> str:
    """The path without dot segments and doubled slashes; a final slash stays."""
    if ("//" not in path and "/." not in path and path.startswith("/")) or path == "*":
        return path
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def allow_header(methods: Iterable[str]) -> str:
    """The value of the `Allow` header."""
    return ", ".join(name for name in _ALLOW_ORDER if name in methods)


def _redirect(method: str, escaped: str, query: str, status: int) -> Redirect:
    location = escaped + (f"?{query}" if query else "")
    phrase = HTTPStatus(status).phrase
    body = f'<a href="{html.escape(location)}">{phrase}</a>.\n\n' if method == "GET" else ""
    return Redirect(status, location, body.encode())


class InvalidTarget(ValueError):
    """The target of a request line is neither a path nor a URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed request target. `path` is unescaped, `raw_path` is not. `host` is `name[:port]` of a URL, else None."""

    raw_path: bytes
    path: str
    query: bytes
    host: bytes | None

    @classmethod
    def parse(cls, target: bytes) -> Target:
        """Parse the target of a request line. Raises InvalidTarget."""
        if not target.isascii():
            raise InvalidTarget(target)
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            raise InvalidTarget(target) from None
        if url.userinfo is not None or (url.schema is None) != (url.host is None):
            raise InvalidTarget(target)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        return cls(raw_path, unquote(path) if "%" in path else path, url.query or b"", _host(url))


def _host(url: httptools.parser.url_parser.URL) -> bytes | None:
    if url.host is None:
        return None
    name = b"[%b]" % url.host if b":" in url.host else url.host
    return name if url.port is None else b"%b:%d" % (name, url.port)
