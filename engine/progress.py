"""What a client that asks is told before its answer: its place in a queue, the load, how much of its prompt is read.

Nothing is pushed. A request's `Watch` says where to look, and who tells its client looks a few times a second. So it
costs nothing where nobody asks, and a client that reads slowly gets the newest state, not all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from engine.api import Event, Progress

INTERVAL = 0.1  # seconds between two looks, at least
LONGEST_INTERVAL = 0.4  # between looks that find nothing new


class Watch:
    """Where a request can be looked at: `look` is replaced as it goes on, and returns None where there is no news."""

    def __init__(self) -> None:
        self.look: Callable[[], Progress | None] = lambda: None


async def told_until(done: asyncio.Future[Any], watch: Watch) -> AsyncGenerator[Progress, None]:
    """What the watch shows until a future is done, each state once; nothing more once that has failed."""
    told: Progress | None = None
    interval = INTERVAL
    while True:
        await asyncio.wait((done,), timeout=interval)
        if done.done() and (done.cancelled() or done.exception() is not None):
            return
        seen = watch.look()
        news = seen is not None and seen != told
        interval = INTERVAL if news else min(2 * interval, LONGEST_INTERVAL)
        if seen is not None and news:
            told = seen
            yield seen
        if done.done():
            return


async def with_progress(answer: AsyncGenerator[Event, None], watch: Watch) -> AsyncGenerator[Event, None]:
    """The events of an answer, and before the first one what the watch shows meanwhile."""
    first = asyncio.ensure_future(anext(answer))
    try:
        async with aclosing(told_until(first, watch)) as told:
            async for progress in told:
                yield progress
        yield await first
        async for event in answer:
            yield event
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await answer.aclose()
