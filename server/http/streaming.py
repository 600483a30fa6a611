"""An engine's answer on its way to the client, as one ASGI response.

Nothing is sent before the first event is there, so that a failure until then still has a status of its own. A client
that leaves ends the answer at once: the task that reads the engine's events is cancelled, which closes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.api import Delta, Event, Final, Rendered, ToolCall
from registry.progress import Step
from server.gojson import encode
from server.http.body import JSON, NDJSON
from server.http.errors import KNOWN, error_line, error_response

# The disconnect is part of the response: work for a client ends when the client goes.


class NoAnswer(Response):
    """The response to a client that went before it had sent its request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def no_answer(_: Request, __: Exception) -> Response:
    """What becomes of a ClientDisconnect."""
    return NoAnswer()


async def unless_gone(work: Coroutine[None, None, None], receive: Receive) -> BaseException | None:
    """Do some work, and stop if the client goes; the body of its request has been read. Returns what it raised."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    return None if task.cancelled() else task.exception()


async def _disconnect(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


log = logging.getLogger("pronk.server")


class Format(Protocol):
    """How one API writes the events of an answer. Lines include their line feed, whole objects do not."""

    def line(self, delta: Delta) -> bytes:
        """The line or lines of a piece of the answer."""

    def last_line(self, final: Final) -> bytes:
        """The line that ends the stream."""

    def whole(self, delta: Delta, final: Final) -> bytes:
        """The answer as one object; `delta` is all of its pieces together."""

    def notice(self, event: Final | Rendered) -> bytes:
        """The object for a load, an unload or a rendered prompt, which ignore `stream`."""


class Answer(Response):
    """The response to generate and chat. Consumes `events`, which no one else may read."""

    def __init__(self, events: AsyncIterator[Event], format_: Format, *, stream: bool) -> None:
        super().__init__()
        self.events = events
        self.format = format_
        self.stream = stream
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or stop early when the client goes. Raises what the engine raises before the first byte."""
        error = await unless_gone(self._answer(send), receive)
        if error is None:
            return
        if not self._started:
            raise error
        log.error("the answer to %s broke off", scope["path"], exc_info=error)

    async def _answer(self, send: Send) -> None:
        async with _closing(self.events) as events:
            first = await anext(events)
            if isinstance(first, Rendered) or (isinstance(first, Final) and first.done_reason in ("load", "unload")):
                await _send_whole(send, self.format.notice(first))
            elif self.stream:
                await self._stream(first, events, send)
            else:
                await _send_whole(send, await self._collect(first, events))

    async def _stream(self, event: Event, events: AsyncIterator[Event], send: Send) -> None:
        headers = [(b"content-type", NDJSON.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._started = True
        last = error_line(RuntimeError())
        try:
            while isinstance(event, Delta):
                await send({"type": "http.response.body", "body": self.format.line(event), "more_body": True})
                event = await anext(events)
            last = self.format.last_line(event) if isinstance(event, Final) else last
        except KNOWN as error:
            last = error_line(error)
        finally:
            # Also when something unforeseen is on its way: the client must see that the stream has failed.
            await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _collect(self, event: Event, events: AsyncIterator[Event]) -> bytes:
        content, thinking = [], []
        calls: list[ToolCall] = []
        while isinstance(event, Delta):
            content.append(event.content)
            thinking.append(event.thinking)
            calls += event.tool_calls
            event = await anext(events)
        assert isinstance(event, Final)
        return self.format.whole(Delta("".join(content), "".join(thinking), tuple(calls)), event)


@asynccontextmanager
async def _closing(events: AsyncIterator[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    try:
        yield events
    finally:
        if (close := getattr(events, "aclose", None)) is not None:
            await close()


async def _send_whole(send: Send, body: bytes) -> None:
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# Long operations that report how far they are: pull, push, create.

_JSON = b"application/json"


class Progress(Response):
    """The response of a long operation: its steps as lines, or only the last one.

    An operation that fails before its first step, or that is not streamed, answers with the error's own status.
    """

    def __init__(self, steps: AsyncGenerator[Step, None], *, stream: bool) -> None:
        super().__init__()
        self.steps = steps
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the operation to its end, or until the client goes. Raises what nobody foresaw before the first byte."""
        error = await unless_gone(self._answer(send), receive)
        if isinstance(error, KNOWN):
            response = await error_response(Request(scope), error)
            response.headers["content-type"] = _JSON.decode()
            await response(scope, receive, send)
        elif error is not None:
            raise error

    async def _answer(self, send: Send) -> None:
        async with aclosing(self.steps) as steps:
            if self.stream:
                await self._stream(steps, send)
            else:
                last = [step async for step in steps][-1]
                await _start(send, _JSON)
                await send({"type": "http.response.body", "body": encode(last)})

    async def _stream(self, steps: AsyncGenerator[Step, None], send: Send) -> None:
        step = await anext(steps)
        await _start(send, NDJSON.encode())
        last = error_line(RuntimeError())
        try:
            while True:
                await send({"type": "http.response.body", "body": encode(step) + b"\n", "more_body": True})
                step = await anext(steps)
        except StopAsyncIteration:
            last = b""
        except KNOWN as error:
            last = error_line(error)
        finally:
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def _start(send: Send, content_type: bytes) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


# Answers that come in one piece but take long to make.


class Whole(Response):
    """The response that `work` makes while the client waits; the work is cancelled when the client goes."""

    def __init__(self, work: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work, then answer. Raises what the work raises, with nothing sent."""

        async def answer() -> None:
            response = await self.work()
            await response(scope, receive, send)

        if (error := await unless_gone(answer(), receive)) is not None:
            raise error
