"""uvicorn's HTTP protocol with a cap on headers: its parser would take any amount before the application is asked."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 << 10
MAX_HEADERS = 100
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: 35\r\n\r\n431 Request Header Fields Too Large"
)


class _HeadersTooLarge(Exception):
    """Stops the parser, which turns it into an error of its own."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. A request whose headers are too many or too large gets a 431 and the connection is closed."""

    _in_headers = True
    _unparsed = 0  # bytes received since the headers began; the parser keeps what is not yet a whole header
    _size = 0
    _too_large = False

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what has arrived."""
        if self._in_headers:
            if self._unparsed > MAX_HEADER_BYTES:
                self._refuse()
                return
            self._unparsed += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Called by the parser: a request starts."""
        super().on_message_begin()
        self._in_headers, self._unparsed, self._size = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser with a piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser with a whole header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._stop()

    def on_headers_complete(self) -> None:
        """Called by the parser: the body, if any, comes next."""
        self._in_headers = False
        if not self.url.startswith(b"/"):
            self._take_host()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Called when the parser has given up, on its own account or on ours."""
        if self._too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _take_host(self) -> None:
        """Make the host of an absolute target the header's: it is the one that counts (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if target.host:
            host = target.host + (f":{target.port}".encode() if target.port else b"")
            self.headers[:] = [(b"host", host), *(header for header in self.headers if header[0] != b"host")]

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEADER_BYTES:
            self._stop()

    def _stop(self) -> None:
        self._too_large = True
        raise _HeadersTooLarge

    def _refuse(self) -> None:
        self.transport.write(_TOO_LARGE)
        self.transport.close()
