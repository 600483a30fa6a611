"""Answers that come in one piece but take long to make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.disconnect import unless_gone


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
