"""What all renderers share: the prompt, the tags of its images, and the errors of rendering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.api import Delta, Message, Think, Tool
from modelfile.text import SPACES

_PLACEHOLDER = "[img]"  # where a message wants an image
_TAG = "[img-"  # `[img-0]`, `[img-1]`, …: where a prompt has them, counted over the whole conversation

TagPlacement = Callable[[str, Sequence[str]], str]
"""Puts image tags into a message's content: `placement(content, tags)`."""


def tag_images(messages: Iterable[Message], placement: TagPlacement) -> list[Message]:
    """The same messages with a tag for each image in their content."""
    tagged: list[Message] = []
    count = 0
    for message in messages:
        tags = [f"{_TAG}{number}]" for number in range(count, count + len(message.images))]
        tagged.append(replace(message, content=placement(message.content, tags)) if tags else message)
        count += len(tags)
    return tagged


def images_of(messages: Iterable[Message]) -> tuple[bytes, ...]:
    """The images of a conversation, in the order of their tags."""
    return tuple(image for message in messages for image in message.images)


def take_tags_out(text: str, images: Sequence[bytes]) -> tuple[str, list[tuple[int, bytes]]]:
    """The text without the tags of these images, and each image with its place in that text, in the places' order.

    An image's place is the first tag with its number, others are text. Raises ValueError if an image has no tag.
    """
    tags = [(f"{_TAG}{number}]", image) for number, image in enumerate(images)]
    pieces, placed, start, length = [], [], 0, 0
    for at, tag, image in sorted((text.index(tag), tag, image) for tag, image in tags):
        pieces.append(text[start:at])
        length += at - start
        start = at + len(tag)
        placed.append((length, image))
    return "".join([*pieces, text[start:]]), placed


def without_images(messages: Iterable[Message]) -> list[Message]:
    """The same messages without their images."""
    return [replace(message, images=()) if message.images else message for message in messages]


def tags_first(content: str, tags: Sequence[str]) -> str:
    """Tags replace each `[img]` in the content; tags left over stand before it. For Go templates and completions."""
    front, content = _fill_placeholders(content, tags)
    return front + content


def tags_first_spaced(content: str, tags: Sequence[str]) -> str:
    """As `tags_first`, with a space behind the tags; content that has tags stays as it is. As Ollama's renderers do."""
    if _TAG in content:
        return content
    front, content = _fill_placeholders(content, tags)
    gap = " " if front and content and content[0] not in SPACES else ""
    return front + gap + content


def tags_last(content: str, tags: Sequence[str]) -> str:
    """Tags follow the content; content that has tags stays as it is. For chat templates, as in OpenAI's requests."""
    return content if _TAG in content else content + "".join(tags)


def _fill_placeholders(content: str, tags: Sequence[str]) -> tuple[str, str]:
    """The tags that found no `[img]` to replace, and the content with the others in it."""
    front = ""
    for tag in tags:
        if _PLACEHOLDER in content:
            content = content.replace(_PLACEHOLDER, tag, 1)
        else:
            front += tag
    return front, content


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and how its answer begins.

    `answer_start` is the beginning of the answer, with which the prompt ends. `reject_overflow`: a prompt that is too
    long for the context is refused, not cut. `images` belong at their tags, in order. `left_out` counts the oldest
    messages that are not in it because it would have been too long, `left_out_tokens` their tokens.
    """

    text: str
    answer_start: Delta | None = None
    reject_overflow: bool = False
    images: tuple[bytes, ...] = ()
    left_out: int = 0
    left_out_tokens: int = 0

    @property
    def before_answer(self) -> str:
        """The prompt without `answer_start`: its end tells a reader how the answer begins."""
        answer_start = self.answer_start or Delta()
        return self.text.removesuffix(answer_start.content or answer_start.thinking)


def without_tags(prompt: Prompt) -> str:
    """A prompt's text without the tags of its images, as far as it has them."""
    text = prompt.text
    for number in range(len(prompt.images)):
        text = text.replace(f"{_TAG}{number}]", "", 1)
    return text


class RenderError(ValueError):
    """A template or renderer is invalid, refuses these messages, or exceeds its budget. The message is for users."""


class TemplateOverBudget(RenderError):
    """A template exceeds the CPU time or memory that it may use."""


class Renderer(Protocol):
    """Writes conversations for one model. `render` is safe from any thread and raises RenderError."""

    trims_single_message: bool
    """Whether even a conversation of one message has its tokens counted, to see if its prompt fits."""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages, up to where the answer begins."""


@dataclass(frozen=True, slots=True)
class RemoteRenderer:
    """A renderer in another process. `render` raises RenderError and EngineError."""

    render: Callable[[Sequence[Message], Sequence[Tool], Think | None], Awaitable[Prompt]]
    trims_single_message: bool = False


TokenCounter = Callable[[str], Awaitable[int]]
"""Number of tokens of a text; special tokens in it are parsed."""


async def render_prompt(
    renderer: Renderer | RemoteRenderer,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    think: Think | None,
) -> Prompt:
    """The prompt of all messages, with their images. Renders in a thread or another process. Raises RenderError."""
    if isinstance(renderer, RemoteRenderer):
        prompt = await renderer.render(messages, tools, think)
    else:
        prompt = await asyncio.to_thread(renderer.render, messages, tools, think)
    return replace(prompt, images=images_of(messages))
