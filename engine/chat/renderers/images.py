"""The place of images in a prompt: `[img-0]`, `[img-1]`, … counted over the whole conversation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.requests import Message
from modelfile.gotemplate.strings import SPACES

_PLACE = "[img]"
_NUMBERED = "[img-"


def tagged(messages: Iterable[Message]) -> list[Message]:
    """The same messages with a tag for each image in their contents."""
    found: list[Message] = []
    count = 0
    for message in messages:
        found.append(replace(message, content=_tagged(message, count)) if message.images else message)
        count += len(message.images)
    return found


def _tagged(message: Message, first: int) -> str:
    """Images go to the places that the text keeps for them, and what has none in front; a tagged text stays."""
    content, front = message.content, ""
    if _NUMBERED in content:
        return content
    for number in range(first, first + len(message.images)):
        tag = f"[img-{number}]"
        if _PLACE in content:
            content = content.replace(_PLACE, tag, 1)
        else:
            front += tag
    gap = " " if front and content and content[0] not in SPACES else ""
    return front + gap + content
