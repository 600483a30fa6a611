"""The text of one request on its way from the child to whoever reads it."""

from __future__ import annotations

import asyncio

from engine.errors import EngineError
from engine.messages import Done


class TokenStream:
    """Collects what arrives until it is read. Created by `RunnerProcess.submit`, read by one task of the same loop.

    The child is never held up for a slow reader, who would keep others from its sequence: what piles up here is at
    most the answer, whose length `num_predict` and the context bound.
    """

    __slots__ = ("_end", "_text", "_waiter")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._end: Done | EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> tuple[str, Done | None]:
        """All text that has piled up since the last call, and the closing message when there is no more.

        Waits for something to arrive. Raises RunnerDied, RunnerError, InvalidRequest or ContextExceeded, after the
        text that came before it has been read.
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
        """Whether the child has nothing more to do for this request."""
        return self._end is not None

    def add(self, text: str) -> None:
        """More text has come."""
        self._text.append(text)
        self._wake()

    def finish(self, end: Done | EngineError) -> None:
        """The request has ended, well or badly; the first end counts."""
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
