"""Conversations longer than the context: the oldest messages are left out of the prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from engine.api import Message, Think, Tool
from engine.chat.conversation import drop_oldest
from engine.chat.prompt import (
    Prompt,
    RemoteRenderer,
    Renderer,
    RenderError,
    TemplateOverBudget,
    TokenCounter,
    render_prompt,
    without_tags,
)

_MAX_REFUSED = 16  # refusals in a row that are passed over, such as of the tool results of one question


async def render_to_fit(
    renderer: Renderer | RemoteRenderer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    think: Think | None,
    *,
    limit: int,
    count: TokenCounter,
    image_tokens: int = 0,
    grow: Callable[[int], Awaitable[int]] | None = None,
) -> Prompt:
    """The prompt of as many of the newest messages as `limit` tokens hold, but at least of the last one.

    Ends of the conversation that the template refuses, such as an answer without its question, are passed over. An
    image counts as `image_tokens`. Where not all messages fit, `grow` is asked for so many tokens and gives another
    limit. Raises RenderError.
    """
    if len(messages) <= 1 and not renderer.trims_single_message:
        return await render_prompt(renderer, messages, tools, think)
    fitting = _Fitting(renderer, tools, think, limit, count, image_tokens)
    prompt, tokens = await fitting.measure(messages)
    if tokens > limit and grow is not None:
        fitting = replace(fitting, limit=await grow(tokens))
    if tokens <= fitting.limit:
        return prompt
    kept = await fitting.shorten(messages) or messages
    prompt = await render_prompt(renderer, kept, tools, think)
    if len(kept) == len(messages):
        return prompt
    kept_tokens = await count(without_tags(prompt)) + image_tokens * len(prompt.images)
    return replace(prompt, left_out=len(messages) - len(kept), left_out_tokens=max(tokens - kept_tokens, 0))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The search for the longest end of one conversation that fits."""

    renderer: Renderer | RemoteRenderer
    tools: Sequence[Tool]
    think: Think | None
    limit: int
    count: TokenCounter
    image_tokens: int

    async def measure(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """The prompt of these messages, and its tokens. Raises RenderError.

        A text that fits in any case is not counted: it has at most as many tokens as bytes.
        """
        prompt = await render_prompt(self.renderer, messages, self.tools, self.think)
        text, images = without_tags(prompt), self.image_tokens * len(prompt.images)
        size = len(text.encode())
        tokens = size if size + images <= self.limit else await self.count(text)
        return prompt, tokens + images

    async def shorten(self, messages: Sequence[Message]) -> list[Message] | None:
        """The longest end that fits; else the shortest that the template takes; None if it takes none.

        Binary search: the fewer messages, the fewer tokens.
        """
        too_many, few_enough = 0, len(messages)
        shortest = longest = None
        while few_enough - too_many > 1:
            middle = (too_many + few_enough) // 2
            start, fits = await self._first_taken(messages, middle, few_enough)
            if fits is False:
                too_many, shortest = start, drop_oldest(messages, start)
            else:
                few_enough = middle
                longest = drop_oldest(messages, start) if fits else longest
        return longest or shortest

    async def _first_taken(self, messages: Sequence[Message], start: int, stop: int) -> tuple[int, bool | None]:
        """Index of the next end that the template takes, and whether it fits; (`stop`, None) if none is near."""
        for at in range(start, min(stop, start + _MAX_REFUSED)):
            try:
                return at, (await self.measure(drop_oldest(messages, at)))[1] <= self.limit
            except TemplateOverBudget:
                raise
            except RenderError:
                continue
        return stop, None
