"""Decodes a model's stored messages (the layer of MESSAGE commands)."""

from __future__ import annotations

from typing import Any

import msgspec

from modelfile.conversation import Message, ToolCall


class StoredFunction(msgspec.Struct, frozen=True):
    """The function of a tool call."""

    index: int = 0
    name: str = ""
    arguments: dict[str, Any] = {}


class StoredCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of the assistant."""

    id: str = ""
    function: StoredFunction


class StoredMessage(msgspec.Struct, frozen=True):
    """One message."""

    role: str
    content: str
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[StoredCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""

    def message(self) -> Message:
        """The message as a conversation holds it."""
        calls = (ToolCall(c.function.name, c.function.arguments, c.id, c.function.index) for c in self.tool_calls)
        return Message(
            role=self.role,
            content=self.content,
            thinking=self.thinking,
            images=self.images,
            tool_calls=tuple(calls),
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
        )
