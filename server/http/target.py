"""The target of a request: path, query, and the host if it names one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import httptools


class InvalidTarget(ValueError):
    """The target is no path and no URL of ours."""


@dataclass(frozen=True, slots=True)
class Target:
    """`path` has its escapes resolved, `raw_path` has not. `host` is `name[:port]` as in a Host header, or None."""

    raw_path: bytes
    path: str
    query: bytes
    host: bytes | None

    @classmethod
    def parse(cls, target: bytes) -> Target:
        """Parse what a request line holds. Raises InvalidTarget."""
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
