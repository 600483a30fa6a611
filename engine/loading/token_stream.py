"""The text of one answer, between the child that writes it and the task that reads it."""

from __future__ import annotations

import asyncio

from engine.errors import EngineError
from engine.messages import Done


class TokenStream:
    """Buffers text until it is read. Made by `RunnerProcess.submit`, read by one task of the same event loop.

    It never makes the child wait for a slow client: other requests may need the place. The buffer holds one answer at
    most, whose length `num_predict` and the context bound.
    """

    __slots__ = ("_end", "_text", "_waiter")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._end: Done | EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> tuple[str, Done | None]:
        """All text since the last call, and the closing message once there is no more.

        Waits until something arrives. Raises RunnerDied, RunnerError, InvalidRequest or ContextExceeded, after the text
        that came before the error has been read.
        """
        if not self._text and self._end is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        text = "".join(self._text)
        self._text.clear()
        if isinstance(self._end, EngineError):
            if not text:
                raise self._end
            return text, None
        return text, self._end

    @property
    def ended(self) -> bool:
        """Whether the child has finished this request."""
        return self._end is not None

    def add(self, text: str) -> None:
        """Append text."""
        self._text.append(text)
        self._wake()

    def finish(self, end: Done | EngineError) -> None:
        """End the stream with the closing message or an error; the first end counts."""
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
