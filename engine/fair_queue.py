"""A bounded queue in which clients take turns, however many requests each has in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from heapq import heapify, heappop, heappush
from itertools import count

from engine.errors import ServerBusy

Place = tuple[int, int, "asyncio.Future[None]"]
"""(size, number in order of arrival, future that is done when the request's turn comes)."""


class FairQueue:
    """Admits `width` requests at a time; up to `limit` wait, of which one client may have half.

    Clients take turns; of one client's requests the smallest comes first. Belongs to one event loop.
    """

    def __init__(self, width: int, limit: int) -> None:
        self._free = width
        self._limit = limit
        self._waiting: dict[str, list[Place]] = {}  # heaps by client, in the order of their turns
        self._numbers = count()

    @property
    def length(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, client: str, size: int = 0) -> AsyncIterator[None]:
        """Wait for a turn, then hold a place while the context lasts. Raises ServerBusy if too many wait."""
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
        if self.length >= self._limit or len(mine) >= max(self._limit // 2, 1):
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
        heap = self._waiting[client]
        heap.remove(place)
        heapify(heap)
        if not heap:
            del self._waiting[client]

    def _leave(self) -> None:
        while self._waiting:
            client, heap = next(iter(self._waiting.items()))
            del self._waiting[client]
            _, _, turn = heappop(heap)
            if heap:
                self._waiting[client] = heap  # behind all other clients
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client of the current request: its address, and its API key if it sent one."""

PROGRAM: ContextVar[str] = ContextVar("program", default="")
"""The program of that client that asks, as it names itself in `User-Agent`."""

CACHE_OWNER: ContextVar[str] = ContextVar("cache_owner", default="")
"""Whose cached prompts the current request may begin with: those of its API key; "" is everybody without one."""


def asking() -> tuple[str, str]:
    """Client and program of the current request."""
    return CLIENT.get(), PROGRAM.get()
