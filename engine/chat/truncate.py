"""Conversations that are longer than the context: the oldest messages are left out of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.api import Message, Think, Tool
from engine.chat.conversation import newest
from engine.chat.prompt import (
    Count,
    Prompt,
    RemoteRenderer,
    Renderer,
    TemplateError,
    TemplateOverBudget,
    images_of,
    rendered,
    without_images,
)

_NEAR = 16  # ends in a row that a template may refuse: results of one question's tools, for example


async def render_to_fit(
    renderer: Renderer | RemoteRenderer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    think: Think | None,
    *,
    limit: int,
    count: Count,
    image_tokens: int = 0,
) -> Prompt:
    """The prompt of as many of the newest messages as `limit` tokens hold; at least the last one, however long it is.

    What the template refuses once something was left out, as an answer without its question, is passed over. An image
    counts as `image_tokens`. Raises TemplateError.
    """
    if len(messages) <= 1 and not renderer.trims_single:
        return await rendered(renderer, messages, tools, think)
    fitting = _Fitting(renderer, tools, think, limit, count, image_tokens)
    prompt, fits = await fitting.try_(messages)
    kept = messages if fits else (await fitting.shorten(messages) or messages)
    return await rendered(renderer, kept, tools, think) if not fits or images_of(kept) else prompt


@dataclass(frozen=True, slots=True)
class _Fitting:
    """One conversation's search for a prompt that fits."""

    renderer: Renderer | RemoteRenderer
    tools: Sequence[Tool]
    think: Think | None
    limit: int
    count: Count
    image_tokens: int

    async def try_(self, messages: Sequence[Message]) -> tuple[Prompt, bool]:
        """The prompt of these messages without their images, and whether there is room for it. Raises TemplateError."""
        prompt = await rendered(self.renderer, without_images(messages), self.tools, self.think)
        room = self.limit - self.image_tokens * len(images_of(messages))
        # A token is at least a byte, so a text that is shorter than that need not be counted.
        return prompt, len(prompt.text.encode()) <= room or await self.count(prompt.text) <= room

    async def shorten(self, messages: Sequence[Message]) -> list[Message] | None:
        """The longest end that fits of messages that do not, else the shortest that the template takes, if any is.

        The fewer messages, the fewer tokens: so their number is found by halving what is unknown.
        """
        too_many, few_enough = 0, len(messages)
        shortest = longest = None
        while few_enough - too_many > 1:
            middle = (too_many + few_enough) // 2
            start, fits = await self._first_taken(messages, middle, few_enough)
            if fits is False:
                too_many, shortest = start, newest(messages, start)
            else:
                few_enough = middle
                longest = newest(messages, start) if fits else longest
        return longest or shortest

    async def _first_taken(self, messages: Sequence[Message], start: int, stop: int) -> tuple[int, bool | None]:
        """Where the next end begins that the template takes, and whether it fits; `stop` and None if none is near."""
        for at in range(start, min(stop, start + _NEAR)):
            try:
                return at, (await self.try_(newest(messages, at)))[1]
            except TemplateOverBudget:
                raise
            except TemplateError:
                continue
        return stop, None
