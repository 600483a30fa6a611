"""Long operations that report how far they are: pull, push, create."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry.steps import Step
from server.disconnect import unless_gone
from server.errors import KNOWN, error_line, error_response
from server.gojson import encode
from server.wire import NDJSON

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
