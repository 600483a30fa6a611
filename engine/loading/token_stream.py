"""The text of one answer, between the child that writes it and the task that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.api import Progress
from engine.errors import EngineError
from engine.messages import Chunk, Done, ScoredChunk

MOST_UNREAD = 1 << 20  # bytes
_CHUNK, _SCORED, _TOP = 256, 192, 128  # bytes of the objects for a chunk, a token in it, a likely token beside that


class TokenStream:
    """Buffers chunks until they are read. Made by `RunnerProcess.submit`, read by one task of the same event loop.

    A client that reads slowly does not make the child wait before it is MOST_UNREAD bytes behind; then `pause` is
    called with True, and with False once it has read. `needs_room` is called with the tokens of prompt and answer when
    the context will soon be full. `progress` is the latest of an answer that has not begun and asks for it.
    """

    __slots__ = ("_chunks", "_end", "_pause", "_unread", "_waiter", "needs_room", "progress")

    def __init__(
        self,
        needs_room: Callable[[int], None] = lambda tokens: None,
        pause: Callable[[bool], None] = lambda paused: None,
    ) -> None:
        self.needs_room = needs_room
        self.progress: Progress | None = None
        self._pause = pause
        self._unread = 0  # bytes, about
        self._chunks: list[Chunk] = []
        self._end: Done | EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> tuple[list[Chunk], Done | None]:
        """All chunks since the last call, and the closing message once there are no more.

        Waits until something arrives. Raises RunnerDied, RunnerError, InvalidRequest or ContextExceeded, after what
        came before the error has been read.
        """
        if not self._chunks and self._end is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunks, self._chunks = self._chunks, []
        if self._unread > MOST_UNREAD and self._end is None:
            self._pause(False)
        self._unread = 0
        if isinstance(self._end, EngineError):
            if not chunks:
                raise self._end
            return chunks, None
        return chunks, self._end

    @property
    def ended(self) -> bool:
        """Whether the child has finished this request."""
        return self._end is not None

    def add(self, chunk: Chunk) -> None:
        """Append a chunk."""
        self._chunks.append(chunk)
        before, self._unread = self._unread, self._unread + _size(chunk)
        if before <= MOST_UNREAD < self._unread:
            self._pause(True)
        self._wake()

    def finish(self, end: Done | EngineError) -> None:
        """End the stream with the closing message or an error; the first end counts."""
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _size(chunk: Chunk) -> int:
    """Bytes that a chunk takes, about."""
    scores = chunk.scores if isinstance(chunk, ScoredChunk) else ()
    return _CHUNK + 2 * len(chunk.text) + sum(_SCORED + _TOP * len(score.top) for score in scores)
