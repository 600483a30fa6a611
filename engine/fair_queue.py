"""A line in which clients take turns, however many places each of them has in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from heapq import heapify, heappop, heappush
from itertools import count

from engine.errors import ServerBusy

Place = tuple[int, int, "asyncio.Future[None]"]
"""A size, a number that tells who came first, and what is done when it is his turn."""


class FairQueue:
    """Lets `width` in at once and up to `most` wait; no client has more than half of the waiting places.

    Of one client's, the smallest comes first: one that sends large work holds up its own small one least.
    Lives on one event loop.
    """

    def __init__(self, width: int, most: int) -> None:
        self._free = width
        self._most = most
        self._waiting: dict[str, list[Place]] = {}  # heaps by client, in the order of their turns
        self._numbers = count()

    @property
    def length(self) -> int:
        """How many are waiting."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, client: str, size: int = 0) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises ServerBusy where too many are waiting."""
        await self._enter(client, size)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, client: str, size: int) -> None:
        if self._free:
            self._free -= 1
            return
        mine = self._waiting.get(client, ())
        if self.length >= self._most or len(mine) >= max(self._most // 2, 1):
            raise ServerBusy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, next(self._numbers), turn)
        heappush(self._waiting.setdefault(client, []), place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._forget(client, place)
            raise

    def _forget(self, client: str, place: Place) -> None:
        line = self._waiting[client]
        line.remove(place)
        heapify(line)
        if not line:
            del self._waiting[client]

    def _leave(self) -> None:
        while self._waiting:
            client, line = next(iter(self._waiting.items()))
            del self._waiting[client]
            _, _, turn = heappop(line)
            if line:
                self._waiting[client] = line  # at the end: the others come first
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


# Who a request comes from, as far as fairness between clients needs to know.

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client of the request that is being answered: by its address, and by its key where it shows one."""
