"""What a model gets to read: its own messages and the request's, in order, as the API promises it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from engine.api import Message
from engine.chat.output.reasoning import ThinkingSplitter

FORGETFUL_FAMILIES = ("qwen3",)
FORGETFUL_NAMES = ("deepseek-r1",)


def conversation(system: str, stored: Sequence[Message], asked: Sequence[Message]) -> list[Message]:
    """The model's messages, then the request's; the model's system prompt first unless the request begins with one."""
    messages = [*stored, *asked]
    if system and not (asked and asked[0].role == "system"):
        messages.insert(0, Message("system", system))
    return messages


def forgets_thinking(family: str, model: str) -> bool:
    """Whether a model was trained not to see the thoughts of earlier turns."""
    return family in FORGETFUL_FAMILIES or model in FORGETFUL_NAMES


def without_old_thoughts(messages: Sequence[Message]) -> list[Message]:
    """Answers before the last user message lose the thinking block that some clients send back in their content."""
    last_user = max((at for at, message in enumerate(messages) if message.role == "user"), default=0)
    return [
        _without_thoughts(message) if at < last_user and message.role == "assistant" else message
        for at, message in enumerate(messages)
    ]


def newest(messages: Sequence[Message], start: int) -> list[Message]:
    """A conversation without its oldest messages: those from `start` on, and all system messages before them."""
    return [message for message in messages[:start] if message.role == "system"] + list(messages[start:])


def _without_thoughts(message: Message) -> Message:
    if not message.content.lstrip().startswith("<think>"):
        return message
    pieces = ThinkingSplitter().feed(message.content, final=True)
    return dataclasses.replace(message, content="".join(piece.content for piece in pieces))
