"""Messages as chat templates are given them: dictionaries as those of OpenAI's API, in the dialect of each template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.links import named_ids, short_ids
from engine.requests import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Wording:
    """One template's dialect.

    `parts`: contents are lists of typed parts. `null_content`: a message that only calls has none at all.
    `text_arguments`: the arguments of calls are a JSON text. `short_ids`: ids of calls have nine characters.
    `named_ids`: they tell the function.
    """

    parts: bool = False
    null_content: bool = False
    text_arguments: bool = False
    short_ids: bool = False
    named_ids: bool = False

    def write(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in this dialect, made anew. Earlier thoughts are not shown to the model again."""
        if self.short_ids:
            messages = short_ids(messages)
        if self.named_ids:
            messages = named_ids(messages)
        return [self._message(message) for message in messages]

    def _message(self, message: Message) -> dict[str, Any]:
        found: dict[str, Any] = {"role": message.role, "content": self._content(message)}
        if message.tool_calls:
            found["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if message.tool_name:
            found["name"] = message.tool_name
        if message.tool_call_id:
            found["tool_call_id"] = message.tool_call_id
        return found

    def _content(self, message: Message) -> Any:
        if self.null_content and message.tool_calls and not message.content:
            return None
        return [{"type": "text", "text": message.content}] if self.parts else message.content

    def _call(self, call: ToolCall) -> dict[str, Any]:
        text = self.text_arguments
        arguments = json.dumps(call.arguments, ensure_ascii=False) if text else dict(call.arguments)
        return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}
