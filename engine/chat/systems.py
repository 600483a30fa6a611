"""System messages for templates that have no place for them, or one only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from engine.requests import Message


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The text of each system message in front of the message that follows, or as the user's where none does."""
    merged: list[Message] = []
    pending = ""
    for message in messages:
        if message.role == "system":
            pending += message.content + "\n"
        else:
            merged.append(replace(message, content=pending + message.content))
            pending = ""
    return [*merged, Message("user", pending.rstrip("\n"))] if pending else merged


def one_system(messages: Sequence[Message]) -> list[Message]:
    """Those at the beginning as one message, each later one in front of the message that follows."""
    first = list(takewhile(lambda message: message.role == "system", messages))
    rest = without_system(messages[len(first) :])
    return [Message("system", "\n\n".join(message.content for message in first)), *rest] if first else rest
