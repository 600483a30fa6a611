"""The messages that a model gets: its own and the request's, without old reasoning, shortened from the front."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from engine.api import Message
from engine.chat.output.reasoning import ThinkingSplitter

NO_OLD_THINKING_FAMILIES = ("qwen3",)
NO_OLD_THINKING_NAMES = ("deepseek-r1",)


def conversation(system: str, model_messages: Sequence[Message], request_messages: Sequence[Message]) -> list[Message]:
    """The model's messages, then the request's. The model's system prompt comes first unless the request brings one."""
    messages = [*model_messages, *request_messages]
    if system and not (request_messages and request_messages[0].role == "system"):
        messages.insert(0, Message("system", system))
    return messages


def drops_old_thinking(family: str, model: str) -> bool:
    """Whether a model was trained without the reasoning of earlier turns."""
    return family in NO_OLD_THINKING_FAMILIES or model in NO_OLD_THINKING_NAMES


def strip_old_thinking(messages: Sequence[Message]) -> list[Message]:
    """Remove `<think>` blocks, which some clients send back, from answers before the last user message."""
    last_user = max((at for at, message in enumerate(messages) if message.role == "user"), default=0)
    return [
        _strip_thinking(message) if at < last_user and message.role == "assistant" else message
        for at, message in enumerate(messages)
    ]


def drop_oldest(messages: Sequence[Message], start: int) -> list[Message]:
    """The messages from index `start` on, and all system messages before it."""
    return [message for message in messages[:start] if message.role == "system"] + list(messages[start:])


def _strip_thinking(message: Message) -> Message:
    if not message.content.lstrip().startswith("<think>"):
        return message
    pieces = ThinkingSplitter().feed(message.content, final=True)
    return dataclasses.replace(message, content="".join(piece.content for piece in pieces))
