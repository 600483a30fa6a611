"""Tasks that belong together: one that fails ends the others, and none outlives the block that started it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Tasks = list[asyncio.Task[None]]


@asynccontextmanager
async def together() -> AsyncIterator[Tasks]:
    """A list to add tasks to. At the end all are awaited; the first error of one, or of the block, cancels the rest."""
    tasks: Tasks = []
    try:
        yield tasks
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():  # a second time would interrupt what it does at its end, such as writing the rest
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
