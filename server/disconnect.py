"""The disconnect is part of the response: work for a client ends when the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


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
