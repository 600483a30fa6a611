"""Tasks that live no longer than the block that starts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Tasks = list[asyncio.Task[None]]


@asynccontextmanager
async def task_group() -> AsyncIterator[Tasks]:
    """A list to add tasks to. The end of the block awaits them; the first error, of a task or the block, cancels them.

    Unlike asyncio.TaskGroup it raises that error itself, not an ExceptionGroup, and its block may `yield`.
    """
    tasks: Tasks = []
    try:
        yield tasks
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():  # a second cancel would interrupt its clean-up, such as writing what has arrived
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
