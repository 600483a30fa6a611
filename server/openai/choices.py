"""Several answers at once: their events as one stream, each with the index of its choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from engine.api import Event
from server.http.errors import HTTPError
from server.http.streaming import closing

MAX_CHOICES = 128

Numbered = tuple[int, Event]
"""The index of a choice, and an event of its answer."""


def check_choices(count: int, param: str = "n") -> None:
    """Raise HTTPError for a number of choices out of range."""
    if not 1 <= count <= MAX_CHOICES:
        raise HTTPError(f"{param} must be between 1 and {MAX_CHOICES}", param)


def seeded(options: dict[str, object], index: int) -> dict[str, object]:
    """The options of choice `index`: the same seed would give the same text in each."""
    seed = options.get("seed")
    known = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    return {**options, "seed": seed + index} if known and index else options  # type: ignore[operator]


async def numbered(answers: Sequence[AsyncIterator[Event]]) -> AsyncGenerator[Numbered, None]:
    """The events of all answers as they come. An error of one ends all; closing this closes them."""
    if len(answers) == 1:
        async with closing(answers[0]) as only:
            async for piece in only:
                yield 0, piece
        return
    waiting = {asyncio.ensure_future(anext(answer, None)): index for index, answer in enumerate(answers)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index, event = waiting.pop(task), task.result()
                if event is not None:
                    waiting[asyncio.ensure_future(anext(answers[index], None))] = index
                    yield index, event
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for answer in answers:
            async with closing(answer):
                pass
