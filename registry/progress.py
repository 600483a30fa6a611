"""What long operations say about how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from registry.names import Digest

Step = dict[str, Any]
"""One line: `status`, and where they apply `digest`, `total` and `completed` in bytes; zeros are left out."""
_SHOWN_DIGITS: Final = 12


def blob_step(verb: str, digest: Digest, total: int, completed: int) -> Step:
    """How far a blob is."""
    counts = {"total": total, "completed": completed}
    shown = {name: count for name, count in counts.items() if count}
    return {"status": f"{verb} {digest.hex[:_SHOWN_DIGITS]}", "digest": str(digest), **shown}


# What a creation tells while it is under way.

OnStep = Callable[[Step], None]


async def progress_of(
    work: Callable[[OnStep], Awaitable[None]], stop: Callable[[], None] | None = None
) -> AsyncGenerator[Step, None]:
    """The steps that some work tells of, as it tells them. Raises what the work raises.

    Closed early, it cancels the work and waits for its end; `stop` is called first, for threads that it waits for.
    """
    steps: asyncio.Queue[Step | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(steps.put_nowait))
    task.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            yield step
        await task
    finally:
        if stop is not None:
            stop()
        task.cancel()
        await asyncio.wait([task])


# Tasks that belong together: one that fails ends the others, and none outlives the block that started it.

Tasks = list[asyncio.Task[None]]


@asynccontextmanager
async def task_group() -> AsyncIterator[Tasks]:
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
