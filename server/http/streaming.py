"""Streaming answers: a writer turns events into bytes, one response class sends them.

Nothing is sent before the first event, so an earlier error has its own status; only a writer with pings begins to send
when that takes long. A later error is the last event of the stream. When the client leaves, the task that reads the
events is cancelled, which closes their iterator.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum, auto
from itertools import groupby
from typing import Any, ClassVar, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.api import CallPart, Delta, TokenLogprob, ToolCall
from registry.logfields import fields, tell_request
from server.http.body import JSON, NDJSON
from server.http.errors import (
    KNOWN,
    ErrorInfo,
    NameOf,
    error_response,
    kind_of,
    message_of,
    name_of,
    one_line,
    plain_error,
)
from server.http.json_output import encode

E = TypeVar("E")
log = logging.getLogger("pronk.server")


class Framing(Enum):
    """How the events of an answer are separated."""

    NDJSON = auto()
    """Each event is a line of JSON."""
    SSE = auto()
    """Each event is a server-sent event."""
    WHOLE = auto()
    """Not at all: the events are collected and sent as one body."""

    def frame(self, data: bytes, name: str = "") -> bytes:
        """`data`, which has no line feed, as one event. `name` is for server-sent events."""
        if self is Framing.SSE:
            head = b"event: " + name.encode() + b"\n" if name else b""
            return head + b"data: " + data + b"\n\n"
        return data + b"\n" if self is Framing.NDJSON else data


class Writer(ABC, Generic[E]):
    """Writes one answer in the format of an API. Each answer has its own writer, so writers may keep state."""

    framing: Framing
    media_type: str
    error_media_type: ClassVar[str] = JSON
    """The Content-Type of an error before the first byte."""

    @abstractmethod
    def event(self, event: E) -> bytes:
        """The bytes for an event: none, one frame or several."""

    def end(self) -> bytes:
        """The bytes after the last event."""
        return b""

    def ping(self) -> bytes:
        """The bytes that keep a silent stream alive, which clients skip; none if the API has no such thing."""
        return b""

    @staticmethod
    def error_object(info: ErrorInfo) -> dict[str, Any]:
        """The error object of this API."""
        return plain_error(info)

    def error(self, info: ErrorInfo) -> bytes:
        """The bytes of an error in the stream. Nothing follows them."""
        return self.framing.frame(encode(self.error_object(info)))


class StreamingAnswer(Response, Generic[E]):
    """A response written from `events`, of which it must be the only reader. Cancelled when the client leaves."""

    def __init__(self, events: AsyncIterator[E], writer: Writer[E]) -> None:
        super().__init__()
        self.events = events
        self.writer = writer
        self._started = False
        self._sent_at = 0.0  # in the event loop's time
        self._name_of: NameOf = str
        self._count_error: Callable[[str], None] = lambda kind: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry. Raises exceptions that are not in the table of errors, if nothing was sent yet."""
        interval: float = scope["app"].state.settings.ping_interval
        self._name_of = name_of(Request(scope))
        self._count_error = scope["app"].state.metrics.error
        error = await unless_gone(self._answer(send, interval), receive)
        if error is None:
            return
        if self._started:
            self._note(error)
            log.error("answer broke off", extra=fields(path=scope["path"]), exc_info=error)
        elif isinstance(error, KNOWN):
            response = await error_response(Request(scope), error)
            response.headers["content-type"] = self.writer.error_media_type
            await response(scope, receive, send)
        else:
            raise error

    async def _answer(self, send: Send, ping_interval: float) -> None:
        async with closing(self.events) as events:
            if self.writer.framing is Framing.WHOLE:
                body = b"".join([self.writer.event(event) async for event in events]) + self.writer.end()
                await self._start(send, (b"content-length", str(len(body)).encode()))
                await send({"type": "http.response.body", "body": body})
            else:
                ping = self.writer.ping() if ping_interval else b""
                pings = asyncio.ensure_future(self._ping(ping, ping_interval, send)) if ping else None
                try:
                    await self._stream(events, send)
                finally:
                    if pings is not None:
                        pings.cancel()

    async def _stream(self, events: AsyncIterator[E], send: Send) -> None:
        failure: Exception | None = RuntimeError()
        try:
            while (event := await anext(events, None)) is not None:
                if not self._started:
                    await self._start(send)
                if piece := self.writer.event(event):
                    await self._send(send, piece)
            if not self._started:
                await self._start(send)
            failure = None
        except KNOWN as error:
            if not self._started:
                raise
            log.warning("answer broke off: %s", one_line(message_of(error)))
            self._note(error)
            failure = error
        finally:
            # Also for defects and cancellation: the client must see that the stream has failed.
            if self._started:
                last = self.writer.end() if failure is None else self.writer.error(ErrorInfo.of(failure, self._name_of))
                await send({"type": "http.response.body", "body": last, "more_body": False})

    def _note(self, error: BaseException) -> None:
        """Count an error, and have the request's line in the log name it."""
        kind = kind_of(error)
        self._count_error(kind)
        tell_request(error=kind)

    async def _ping(self, ping: bytes, interval: float, send: Send) -> None:
        """Send pings while nothing else is sent. The server sends in the order of the calls, so two tasks may call."""
        clock = asyncio.get_running_loop().time
        self._sent_at = clock()
        while True:
            await asyncio.sleep(interval - (clock() - self._sent_at))
            if clock() - self._sent_at >= interval:
                if not self._started:
                    await self._start(send)
                await self._send(send, ping)

    async def _send(self, send: Send, piece: bytes) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _start(self, send: Send, *headers: tuple[bytes, bytes]) -> None:
        if self.writer.framing is Framing.SSE:
            headers = ((b"cache-control", b"no-cache"), *headers)
        headers = ((b"content-type", self.writer.media_type.encode()), *headers)
        self._started = True  # before `send`, which may wait
        await send({"type": "http.response.start", "status": 200, "headers": headers})


@asynccontextmanager
async def closing(events: AsyncIterator[E]) -> AsyncIterator[AsyncIterator[E]]:
    """Close the events at the end, if they can be."""
    try:
        yield events
    finally:
        if (close := getattr(events, "aclose", None)) is not None:
            await close()


class _Body(Writer[bytes]):
    """Writes a body that is one event."""

    framing = Framing.WHOLE

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def event(self, event: bytes) -> bytes:
        """The body."""
        return event


def whole_answer(work: Callable[[], Awaitable[bytes]], media_type: str = JSON) -> StreamingAnswer[bytes]:
    """A response whose body is the result of `work`, which is cancelled when the client leaves."""

    async def bodies() -> AsyncIterator[bytes]:
        yield await work()

    return StreamingAnswer(bodies(), _Body(media_type))


class _Lines(Writer[bytes]):
    """Writes lines as they are."""

    framing = Framing.NDJSON
    media_type = NDJSON

    def event(self, event: bytes) -> bytes:
        """The line."""
        return event


def line_answer(lines: AsyncIterator[bytes]) -> StreamingAnswer[bytes]:
    """A response that streams lines of JSON; reading them is cancelled when the client leaves."""
    return StreamingAnswer(lines, _Lines())


def joined(deltas: Iterable[Delta]) -> Delta:
    """All deltas of an answer as one. Its `call_parts` are the calls that are incomplete, in one part each."""
    content, thinking = [], []
    calls: list[ToolCall] = []
    parts: list[CallPart] = []
    logprobs: list[TokenLogprob] = []
    for delta in deltas:
        content.append(delta.content)
        thinking.append(delta.thinking)
        calls += delta.tool_calls
        parts += delta.call_parts
        logprobs += delta.logprobs
    complete = {call.index for call in calls}
    cut = joined_parts(part for part in parts if part.index not in complete)
    return Delta("".join(content), "".join(thinking), tuple(calls), cut, tuple(logprobs))


def joined_parts(parts: Iterable[CallPart]) -> tuple[CallPart, ...]:
    """The parts of each call as one. Those of a call follow each other."""
    calls = [[*call] for _, call in groupby(parts, lambda part: part.index)]
    return tuple(replace(call[0], arguments="".join([part.arguments for part in call])) for call in calls)


async def unless_gone(work: Coroutine[None, None, None], receive: Receive) -> BaseException | None:
    """Run `work`, cancelled when the client leaves. Returns what it raised. The request body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    if task.cancelled():
        log.debug("client left")
        return None
    return task.exception()


async def _disconnect(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class NoAnswer(Response):
    """The response to a client that left while sending its request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def no_answer(_: Request, __: Exception) -> Response:
    """The handler of ClientDisconnect."""
    return NoAnswer()
