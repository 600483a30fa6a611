"""An HTTP response, read from a socket as it comes, by the parser that the server reads requests with."""

from __future__ import annotations

import socket
from typing import Protocol

import httptools

_PIECE = 1 << 16
_FINAL = 200  # the first status that is not followed by another one
_NO_CONTENT = (204, 304)


class BadResponse(Exception):
    """What came is no HTTP, or it ended too early."""


class Body(Protocol):
    """What `Response` needs of a socket."""

    def recv(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class Response:
    """The response to one request. Reading raises BadResponse, or OSError of the socket."""

    def __init__(self, source: Body, method: str) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self._source = source
        self._headless = method in ("HEAD", "CONNECT")
        self._reader = _Reader()
        self._parser = httptools.HttpResponseParser(self._reader)
        self._read_head()

    def read(self) -> bytes:
        """The rest of the body."""
        pieces = []
        while piece := self._piece():
            pieces.append(piece)
        return b"".join(pieces)

    def readline(self) -> bytes:
        """The next line with its end; the last one may have none; empty when all is read."""
        line = bytearray()
        while piece := self._piece():
            head, end, rest = piece.partition(b"\n")
            line += head + end
            if end:
                if rest:
                    self._reader.pieces.insert(0, rest)
                break
        return bytes(line)

    def _read_head(self) -> None:
        while not self._reader.head_is_there:
            self._feed()
        self.status = self._parser.get_status_code()
        self.reason = self._reader.reason.decode("latin-1")
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._reader.headers}
        if self.status < _FINAL:  # such as 103 Early Hints, or 101 that nobody asked for
            raise BadResponse(f"it answers {self.status} {self.reason}")

    def _piece(self) -> bytes:
        """The next bytes of the body; empty at the end."""
        if self._headless or self.status in _NO_CONTENT:
            return b""
        while not self._reader.pieces:
            if self._reader.complete or not self._feed():
                return b""
        return self._reader.pieces.pop(0)

    def _feed(self) -> bool:
        """Parse what the socket has next; false at the end of a body that has no length."""
        data = self._source.recv(_PIECE)
        if not data:
            if self._reader.head_is_there and not {"content-length", "transfer-encoding"} & self.headers.keys():
                return False
            raise BadResponse("it was closed in the middle of an answer" if self._reader.begun else "it was closed")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # after CONNECT
            return True
        except httptools.HttpParserError:
            raise BadResponse("what came is no HTTP") from None
        return True


class _Reader:
    """Takes the parser's events."""

    def __init__(self) -> None:
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.begun = self.head_is_there = self.complete = False

    def on_message_begin(self) -> None:
        self.begun = True

    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_is_there = True

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


def connected(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to the first address that answers. Raises OSError or UnicodeError."""
    # As bytes: Python reads its tables of international names for text, whatever the text.
    name = host.encode() if host.isascii() else host.encode("idna")
    failed = OSError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(timeout)
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            opened.close()
            failed = error
        else:
            return opened
    raise failed
