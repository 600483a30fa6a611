"""From messages to the text of a prompt: what every way of rendering promises, and how it is made to fit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.chat.messages import fitting_ends
from engine.requests import Message, Think


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and how its answer is to be read.

    `prefill` is text of the answer that the prompt already contains; `reject_overflow` says that it must not be cut
    in the middle when it is too long for the context.
    """

    text: str
    prefill: str = ""
    reject_overflow: bool = False


class Renderer(Protocol):
    """One model's way of writing a conversation. `render` may be called from any thread; it raises TemplateError."""

    trims_single: bool
    """Whether a conversation of one message is trimmed (that is: counted) at all."""

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages, ending where the answer begins."""


Count = Callable[[str], Awaitable[int]]
"""Tokens of a text, special tokens in it parsed."""


async def render_to_fit(
    renderer: Renderer,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    think: Think | None,
    *,
    limit: int,
    count: Count,
) -> Prompt:
    """The prompt of as many of the newest messages as `limit` tokens hold; at least the last one, however long it is.

    Rendering runs in a thread. Raises TemplateError.
    """
    ends = fitting_ends(messages)
    if len(ends) <= 1 and not renderer.trims_single:
        return await asyncio.to_thread(renderer.render, messages, tools, think)
    prompt = Prompt("")
    for end in ends:
        prompt = await asyncio.to_thread(renderer.render, end, tools, think)
        # A token is at least a byte, so a text that is shorter than that need not be counted.
        if len(prompt.text.encode()) <= limit or await count(prompt.text) <= limit:
            break
    return prompt
