"""Progress of long operations as a stream of steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from registry.names import Digest

Step = dict[str, Any]
"""One progress line: `status`, and if they apply `digest`, `total` and `completed` in bytes, without zeros."""
_SHOWN_DIGITS: Final = 12


def blob_step(verb: str, digest: Digest, total: int, completed: int) -> Step:
    """The progress of one blob; `total` and `completed` are bytes."""
    counts = {"total": total, "completed": completed}
    shown = {name: count for name, count in counts.items() if count}
    return {"status": f"{verb} {digest.hex[:_SHOWN_DIGITS]}", "digest": str(digest), **shown}


@dataclass(slots=True)
class Traffic:
    """Bytes of blobs that have been received from registries and sent to them."""

    received: int = 0
    sent: int = 0


OnStep = Callable[[Step], None]
"""Receives the steps of an operation as they happen."""


async def progress_of(
    work: Callable[[OnStep], Awaitable[None]], stop: Callable[[], None] | None = None
) -> AsyncGenerator[Step, None]:
    """Run `work` and yield each step that it reports. Raises what the work raises.

    Closed early, it calls `stop` (for threads that the work waits for), cancels the work and waits for its end.
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
