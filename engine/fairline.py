"""A line in which clients take turns, however many places each of them has in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.errors import ServerBusy


class FairLine:
    """Lets `width` in at once and up to `most` wait; no client has more than half of the waiting places.

    Lives on one event loop.
    """

    def __init__(self, width: int, most: int) -> None:
        self._free = width
        self._most = most
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by client, in the order of their turns

    @property
    def length(self) -> int:
        """How many are waiting."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises ServerBusy where too many are waiting."""
        await self._enter(client)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, client: str) -> None:
        if self._free:
            self._free -= 1
            return
        mine = self._waiting.get(client, ())
        if self.length >= self._most or len(mine) >= max(self._most // 2, 1):
            raise ServerBusy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._forget(client, turn)
            raise

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting[client]
        line.remove(turn)
        if not line:
            del self._waiting[client]

    def _leave(self) -> None:
        while self._waiting:
            client, line = next(iter(self._waiting.items()))
            del self._waiting[client]
            turn = line.popleft()
            if line:
                self._waiting[client] = line  # at the end: the others come first
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
