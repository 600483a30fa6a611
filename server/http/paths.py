"""Which methods a path answers to, and where a path that is spelt differently should go. Pure."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote, unquote

_ALLOW_ORDER = ("HEAD", "GET", "POST", "DELETE")
_PARAMETER = re.compile(r"\{[^}]+\}")
_KEPT = "/:@!$&'()*+,;=~-._"  # what a path may hold unescaped


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client to `location`. `body` is HTML, given to GET only."""

    status: int
    location: str
    body: bytes


@dataclass(slots=True)
class PathTable:
    """The methods of every path. A path is fixed, or a pattern with one-segment parameters."""

    _fixed: dict[str, frozenset[str]] = field(default_factory=dict)
    _patterns: dict[re.Pattern[str], frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, routes: Iterable[tuple[str, Iterable[str]]]) -> PathTable:
        """The table of (path, methods) pairs; a path may come more than once."""
        methods: dict[str, frozenset[str]] = {}
        for path, names in routes:
            methods[path] = methods.get(path, frozenset()) | frozenset(names)
        table = cls()
        for path, names in methods.items():
            if "{" in path:
                table._patterns[re.compile(_PARAMETER.sub("[^/]+", path))] = names
            else:
                table._fixed[path] = names
        return table

    def methods(self, path: str) -> frozenset[str]:
        """The methods of a path, none if there is no such path."""
        if (found := self._fixed.get(path)) is not None:
            return found
        return next((names for pattern, names in self._patterns.items() if pattern.fullmatch(path)), frozenset())

    def redirect(self, method: str, raw: bytes, query: str) -> Redirect | None:
        """Where a path with dots, doubled slashes or a slash at its end leads, if anywhere.

        `raw` is the path as it came: dots and slashes that are escaped are nothing to be cleaned.
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
    """The shortest spelling of a path; a slash at its end stays."""
    if ("//" not in path and "/." not in path and path.startswith("/")) or path == "*":
        return path
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def allow_header(methods: Iterable[str]) -> str:
    """The value of `Allow`."""
    return ", ".join(name for name in _ALLOW_ORDER if name in methods)


def _redirect(method: str, escaped: str, query: str, status: int) -> Redirect:
    location = escaped + (f"?{query}" if query else "")
    phrase = HTTPStatus(status).phrase
    body = f'<a href="{html.escape(location)}">{phrase}</a>.\n\n' if method == "GET" else ""
    return Redirect(status, location, body.encode())
