"""From messages to the text of a prompt: what every way of rendering promises, and how it is made to fit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engine.chat.images import images_of, without_images
from engine.chat.messages import fitting_ends
from engine.chat.sandbox import TemplateError
from engine.requests import Delta, Message, Think


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and how its answer is to be read.

    `begun` is what the prompt already contains of the answer; `reject_overflow` says that it must not be cut in the
    middle when it is too long for the context. `images` belong in the places of their tags, in order.
    """

    text: str
    begun: Delta | None = None
    reject_overflow: bool = False
    images: tuple[bytes, ...] = ()

    @property
    def lead(self) -> str:
        """The text before the answer, or before that which goes on: its end tells how the answer is to be read."""
        begun = self.begun or Delta()
        return self.text.removesuffix(begun.content or begun.thinking)


class Renderer(Protocol):
    """One model's way of writing a conversation. `render` may be called from any thread; it raises TemplateError."""

    trims_single: bool
    """Whether a conversation of one message is trimmed (that is: counted) at all."""

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages, ending where the answer begins."""


Count = Callable[[str], Awaitable[int]]
"""Tokens of a text, special tokens in it parsed."""


async def rendered(
    renderer: Renderer, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None
) -> Prompt:
    """The prompt of all messages, with their images. Rendering runs in a thread. Raises TemplateError."""
    prompt = await asyncio.to_thread(renderer.render, messages, tools, think)
    return replace(prompt, images=images_of(messages))


async def render_to_fit(
    renderer: Renderer,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    think: Think | None,
    *,
    limit: int,
    count: Count,
    image_tokens: int = 0,
) -> Prompt:
    """The prompt of as many of the newest messages as `limit` tokens hold; at least the last one, however long it is.

    What the template refuses once something was left out, as an answer without its question, is passed over. An image
    counts as `image_tokens`. Rendering runs in a thread. Raises TemplateError.
    """
    ends = fitting_ends(messages)
    if len(ends) <= 1 and not renderer.trims_single:
        return await rendered(renderer, messages, tools, think)
    prompt, kept = Prompt(""), list(messages)
    for end in ends:
        try:
            prompt = await rendered(renderer, without_images(end), tools, think)
        except TemplateError:
            if end is ends[0]:
                raise
            continue
        kept = end
        room = limit - image_tokens * len(images_of(end))
        # A token is at least a byte, so a text that is shorter than that need not be counted.
        if len(prompt.text.encode()) <= room or await count(prompt.text) <= room:
            break
    return await rendered(renderer, kept, tools, think) if images_of(kept) else prompt
