"""uvicorn's HTTP protocol, with limits and stricter parsing.

- Upgrades are ignored; CONNECT is refused.
- Answers to HTTP/1.0 are not chunked.
- The size of headers, trailers and chunk extensions is limited, and the time until headers are complete.
- Of a body that nobody reads, at most MAX_UNWANTED bytes are received.
- Ambiguous requests are refused, and their connection closed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from registry.logfields import REQUEST_ID, fields
from server.http.errors import ErrorInfo, plain_error
from server.http.guard import REQUEST_ID_HEADER, new_request_id
from server.http.json_output import encode
from server.http.paths import InvalidTarget, Target

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent

MAX_HEADER_BYTES = 64 << 10
MAX_HEADERS = 100
MAX_UNWANTED = 1 << 20
"""Bytes received of a request after it has been answered."""
_PIECE = 4 << 10  # bytes parsed at once; small, so that few pipelined requests are parsed before their turn
_FRAME = 32  # bytes of a chunk's size and line ends; more than that, such as extensions, counts as headers
log = logging.getLogger("pronk.access")
_TOO_LARGE = f"request headers too large: at most {MAX_HEADER_BYTES} bytes in {MAX_HEADERS} fields are accepted"


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Requests are answered in their order."""

    header_timeout = 60.0
    """Seconds within which the headers of a request must be complete."""
    body_timeout = 60.0
    """Seconds within which more of a body must arrive."""
    linger = 1.0
    """Seconds between the last answer and the close, for a client that is still sending."""

    _answering: _Cycle | None = None  # the request that is being answered; later ones are in `pipeline`
    _in_body = False  # the parser has seen the headers of `cycle`, but not its end
    _ended = False  # parse nothing more
    _eof = False  # the client sends nothing more
    _refusal: tuple[int, str] | None = None  # status and text of the answer to a request that cannot be parsed
    _deadline: asyncio.TimerHandle | None = None  # calls `_request_is_late`
    _heard = False  # body bytes have arrived since `_deadline` was set
    _unparsed = b""  # bytes after requests that wait for their turn
    _body_left = 0  # bytes, by Content-Length
    _overhead = 0  # bytes since the last whole header that are not body content
    _size = 0  # bytes of the target, headers and trailers
    _fields = 0
    _unwanted = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.header_timeout, self._request_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all requests that their client has left."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._unset_deadline()
        for cycle in (self._answering, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = not cycle.response_complete
                cycle.message_event.set()
        self.pipeline.clear()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more. Returns whether to stay open.

        It may have left altogether, which cannot be told: answers that are ready are sent, running ones are cancelled.
        """
        if self._ended or (self._all_answered and not self._unparsed):
            return False
        self._eof = True
        if self._answering is not None:
            self._answering.leave()
        return True

    def data_received(self, data: bytes) -> None:
        """Parse, or drop, what has arrived."""
        if self._ended:
            self._drop(len(data))
        else:
            self._parse(self._unparsed + data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._overhead = self._size = self._fields = self._unwanted = 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_timeout, self._request_is_late)

    def on_url(self, url: bytes) -> None:
        """Add a piece of the request target. Refuses one that is too large."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. A trailer counts towards the limits and is dropped."""
        self._fields += 1
        self._count(len(name) + len(value))
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the request, then answer or queue it. Its body, if any, comes next."""
        method = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade():
            if method == "CONNECT":
                self._stop(405, "method not allowed")
            return  # it comes again, see `_parse`
        version = self.parser.get_http_version()
        self._require_one_reading(version)
        try:
            target = Target.parse(self.url)
        except InvalidTarget:
            self._stop(400, "invalid request target")
        if target.host is not None:  # it is the one that counts (RFC 9112, 3.2.2)
            self.headers[:] = [(b"host", target.host), *(pair for pair in self.headers if pair[0] != b"host")]
        scope = self.scope
        scope["method"], scope["http_version"] = method, version
        scope["path"], scope["raw_path"], scope["query_string"] = target.path, target.raw_path, target.query
        self._unset_keepalive_if_required()
        self._in_body, self._heard, self._overhead = True, True, 0
        self._body_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        self._begin(keep_alive=self.parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body, unless the request is already answered."""
        self._heard = True
        self._overhead -= len(body)
        self._body_left -= len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Size and extensions of a chunk have been parsed."""
        self._overhead -= _FRAME

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not self.parser.should_upgrade():
            self._unset_deadline()
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request, or close after the last one."""
        lingers = self._answering is not None and self._answering.lingers
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if lingers:
            self._close_gently()
        elif not self._ended:
            self._parse(self._unparsed)
            if self._eof and self._all_answered:
                self.transport.close()
        elif self._refusal is not None and self._all_answered:
            self._send_refusal(*self._refusal)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, _Cycle)
        self._answering = cycle
        if self._eof:
            cycle.leave()
        super()._start_asgi_task(cycle, app)

    @property
    def _all_answered(self) -> bool:
        return not self.pipeline and (self._answering is None or self._answering.response_complete)

    def _parse(self, data: bytes) -> None:
        """Parse up to the first request that must wait for its turn, and keep the rest unparsed."""
        rest = memoryview(data)
        while rest and not self.pipeline and not self._ended:
            size = max(_PIECE, self._body_left)
            if self._overhead > MAX_HEADER_BYTES:
                self._refuse(431, _TOO_LARGE)
            elif self._unwanted > MAX_UNWANTED:
                self._close_gently()
            else:
                self._parse_piece(rest[:size])
            rest = rest[size:]
        self._unparsed = b"" if self._ended else bytes(rest)
        if self._unparsed:
            self.flow.pause_reading()

    def _parse_piece(self, piece: memoryview) -> None:
        self._overhead += len(piece)
        if self._in_body and self.cycle.response_complete:
            self._unwanted += len(piece)
        try:
            self._feed(piece)
        except httptools.HttpParserError:
            self._refuse(*(self._refusal or (400, "invalid HTTP request")))
        self._overhead = max(self._overhead, 0)

    def _feed(self, piece: memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol, but we speak none: an upgrade is an offer that
                # may be ignored (RFC 9110, 7.8). So the headers are parsed again without it, then the body.
                piece = piece[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = (b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(fields))

    def _require_one_reading(self, version: str) -> None:
        if version not in ("1.0", "1.1"):
            self._stop(505, "HTTP version not supported")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._stop(400, "exactly one Host header is required")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and version == "1.0":
            self._stop(400, "HTTP/1.0 has no Transfer-Encoding")
        if codings not in ([], [b"chunked"]):
            self._stop(501, "unsupported Transfer-Encoding: only chunked is accepted")

    def _begin(self, *, keep_alive: bool) -> None:
        self.cycle = cycle = _Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and self.scope["http_version"] == "1.1",
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if self._all_answered:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEADER_BYTES or self._fields > MAX_HEADERS:
            self._stop(431, _TOO_LARGE)

    def _stop(self, status: int, message: str) -> NoReturn:
        """Refuse, from a callback of the parser, which turns this exception into an HttpParserError."""
        self._refusal = (status, message)
        raise ValueError(message)

    def _request_is_late(self) -> None:
        we_are = self._unparsed or self.flow.read_paused
        if self.scope is None:  # not a byte of a request
            self.transport.close()
        elif we_are or (self._in_body and self._heard):
            self._heard = False
            self._deadline = self.loop.call_later(self.body_timeout, self._request_is_late)
        else:
            self._refuse(408, f"the {'body' if self._in_body else 'headers'} of the request took too long")

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error once earlier requests are answered, and parse nothing more."""
        self._ended = True
        self._unset_deadline()
        if self._in_body:
            if self.pipeline:  # still queued: it gets this answer
                self.pipeline.popleft()
            elif self.cycle.response_started:
                if self.cycle.response_complete:
                    self._close_gently()
                else:
                    self.transport.abort()
                return
            else:  # the application sees a disconnect
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self._send_refusal(status, message)
                return
        self._refusal = (status, message)
        if self._all_answered:
            self._send_refusal(status, message)

    def _send_refusal(self, status: int, message: str) -> None:
        path = self.url.decode("latin-1").partition("?")[0] if self.scope is not None else ""
        error_object_of = self.app_state.get("error_object_of")  # from the lifespan
        scope = {"path": path, "headers": self.headers if self.scope is not None else []}
        error_object = plain_error if error_object_of is None else error_object_of(scope)
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        body = encode(error_object(ErrorInfo(status, message)))
        REQUEST_ID.reset(token)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json; charset=utf-8"),
            (b"connection", b"close"),
            (b"content-length", str(len(body)).encode()),
            (REQUEST_ID_HEADER, request_id.encode()),
        ]
        head = b"".join(b"%b: %b\r\n" % field for field in headers)
        if (count := self.app_state.get("count_refused")) is not None:
            count(status)
        log.info("request refused: %s", message, extra=fields(status=status, path=path, request_id=request_id))
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self._close_gently()

    def _close_gently(self) -> None:
        """Close after `linger`: closing while data arrives resets the connection, and the answer is lost."""
        self._ended = True
        self._unset_keepalive_if_required()
        self._unset_deadline()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._deadline = self.loop.call_later(self.linger, self.transport.close)

    def _drop(self, size: int) -> None:
        self._unwanted += size
        if self._unwanted > MAX_UNWANTED:
            self.flow.pause_reading()

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Cycle(RequestResponseCycle):
    """A request and its answer. An HTTP/1.0 answer of unknown length ends with the connection.

    `lingers`: close the connection after the answer, gently, because the client may still be sending.
    """

    lingers = False
    _left = False
    _body_read = False
    _until_close = False

    def leave(self) -> None:
        """Treat the client as gone: it sends nothing more."""
        self._left = True
        self.message_event.set()

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application. Closes the connection if the client left before the answer was complete."""
        await super().run_asgi(app)
        if self._left and not self.response_complete:
            self.transport.close()

    async def receive(self) -> ASGIReceiveEvent:
        """The next piece of the body; after the last one, waits for the disconnect."""
        if self._left and (self.more_body or self._body_read):
            self.disconnected = True
        message = await super().receive()
        self._body_read = not self.more_body
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send the start or a piece of the answer, adapted to HTTP/1.0."""
        if not self.response_started:
            self._prepare(message)
        elif message["type"] == "http.response.body":
            if self._until_close:
                self.expected_content_length = len(message.get("body", b""))
            if self.more_body and not self.keep_alive and not message.get("more_body", False):
                self.lingers = self.keep_alive = True
        await super().send(message)

    def _prepare(self, message: Any) -> None:
        if self.waiting_for_100_continue:
            self.keep_alive = False  # cannot tell whether the client sends the body or another request next
        if self.scope["http_version"] == "1.0":
            headers = list(message.get("headers", ()))
            if any(name.lower() == b"content-length" for name, _ in headers):
                if self.keep_alive:
                    headers.append((b"connection", b"keep-alive"))
            else:
                self.keep_alive, self.chunked_encoding, self._until_close = False, False, True
            message["headers"] = headers
