"""From messages to the text of a prompt: what every way of rendering promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engine.chat.images import images_of
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


class TemplateError(ValueError):
    """A template cannot be read, gave up on these messages, or wants more than it may have; the text is for users."""


class Overstayed(TemplateError):
    """A template takes more time or memory than it may have."""


class Renderer(Protocol):
    """One model's way of writing a conversation. `render` may be called from any thread; it raises TemplateError."""

    trims_single: bool
    """Whether a conversation of one message is trimmed (that is: counted) at all."""

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages, ending where the answer begins."""


@dataclass(frozen=True, slots=True)
class RemoteRenderer:
    """A way of writing a conversation in another process. `render` raises TemplateError and EngineError."""

    render: Callable[[Sequence[Message], Sequence[dict[str, Any]], Think | None], Awaitable[Prompt]]
    trims_single: bool = False


Count = Callable[[str], Awaitable[int]]
"""Tokens of a text, special tokens in it parsed."""


async def rendered(
    renderer: Renderer | RemoteRenderer,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    think: Think | None,
) -> Prompt:
    """The prompt of all messages, with their images. Rendering runs in a thread, or elsewhere. Raises TemplateError."""
    if isinstance(renderer, RemoteRenderer):
        prompt = await renderer.render(messages, tools, think)
    else:
        prompt = await asyncio.to_thread(renderer.render, messages, tools, think)
    return replace(prompt, images=images_of(messages))
