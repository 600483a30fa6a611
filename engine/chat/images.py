"""The place of images in a prompt: `[img-0]`, `[img-1]`, … counted over the whole conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from engine.requests import Message
from modelfile.gotemplate.strings import SPACES

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
