"""From messages to the text of a prompt: what every way of rendering promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.api import Delta, Message, Think, Tool
from modelfile.gotemplate.strings import SPACES

# The place of images in a prompt: `[img-0]`, `[img-1]`, … counted over the whole conversation.

_PLACE = "[img]"
_NUMBERED = "[img-"

Placing = Callable[[str, Sequence[str]], str]
"""Puts the tags of a message's images into its content."""


def tagged(messages: Iterable[Message], place: Placing) -> list[Message]:
    """The same messages with a tag for each image in their contents."""
    found: list[Message] = []
    count = 0
    for message in messages:
        tags = [f"{_NUMBERED}{number}]" for number in range(count, count + len(message.images))]
        found.append(replace(message, content=place(message.content, tags)) if tags else message)
        count += len(tags)
    return found


def images_of(messages: Iterable[Message]) -> tuple[bytes, ...]:
    """The images of a conversation, in the order of their numbers."""
    return tuple(image for message in messages for image in message.images)


def without_images(messages: Iterable[Message]) -> list[Message]:
    """The same messages, nothing but text."""
    return [replace(message, images=()) if message.images else message for message in messages]


def in_front(content: str, tags: Sequence[str]) -> str:
    """Images go to the places that the text keeps for them, and what has none in front: Go templates, completions."""
    front, content = _filled(content, tags)
    return front + content


def in_front_apart(content: str, tags: Sequence[str]) -> str:
    """As `in_front`, with a space between tags and text; a tagged text stays. Ollama's renderers do so."""
    if _NUMBERED in content:
        return content
    front, content = _filled(content, tags)
    gap = " " if front and content and content[0] not in SPACES else ""
    return front + gap + content


def behind(content: str, tags: Sequence[str]) -> str:
    """Images follow the text, as in requests of OpenAI's kind: chat templates; a tagged text stays."""
    return content if _NUMBERED in content else content + "".join(tags)


def _filled(content: str, tags: Sequence[str]) -> tuple[str, str]:
    """The tags for which the text keeps no place, and the text."""
    front = ""
    for tag in tags:
        if _PLACE in content:
            content = content.replace(_PLACE, tag, 1)
        else:
            front += tag
    return front, content


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


class TemplateOverBudget(TemplateError):
    """A template takes more time or memory than it may have."""


class Renderer(Protocol):
    """One model's way of writing a conversation. `render` may be called from any thread; it raises TemplateError."""

    trims_single: bool
    """Whether a conversation of one message is trimmed (that is: counted) at all."""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages, ending where the answer begins."""


@dataclass(frozen=True, slots=True)
class RemoteRenderer:
    """A way of writing a conversation in another process. `render` raises TemplateError and EngineError."""

    render: Callable[[Sequence[Message], Sequence[Tool], Think | None], Awaitable[Prompt]]
    trims_single: bool = False


Count = Callable[[str], Awaitable[int]]
"""Tokens of a text, special tokens in it parsed."""


async def rendered(
    renderer: Renderer | RemoteRenderer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    think: Think | None,
) -> Prompt:
    """The prompt of all messages, with their images. Rendering runs in a thread, or elsewhere. Raises TemplateError."""
    if isinstance(renderer, RemoteRenderer):
        prompt = await renderer.render(messages, tools, think)
    else:
        prompt = await asyncio.to_thread(renderer.render, messages, tools, think)
    return replace(prompt, images=images_of(messages))
