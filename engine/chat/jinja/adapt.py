"""Adapts messages to what a chat template can show: dictionaries in OpenAI's shape, in each template's dialect.

Four concerns: ids and names that tie tool results to calls, the dialect itself, system messages that a template has
no place for, and tool calls written as text for templates that leave them out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from engine.api import Message, Tool, ToolCall
from engine.chat.output.format import BLANK, KEY, KIND, LINE, NUMBER, ArgumentSpec, ToolCallSpec, Values
from engine.chat.tool_definitions import parameters_json

THINKING_PART = "content"
"""The way of templates that take reasoning as a part of the content (Mistral)."""

THINKING_PLACES = ("reasoning_content", "thinking", "reasoning", THINKING_PART)
"""Where templates look for earlier reasoning."""

SHORT_ID = 9  # characters of a tool call id, for templates that insist on it (Mistral)

_PLACEHOLDERS = {BLANK: " ", LINE: "\n", NUMBER: "0", KEY: "0"}
"""What is written where a spec leaves the choice to the model."""

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}


def link_tool_results(messages: Sequence[Message]) -> list[Message]:
    """Give tool results the name and id of the call that they answer, and ids to calls that have none.

    Many clients send neither.
    """
    linked: list[Message] = []
    open_calls: list[ToolCall] = []
    for at, message in enumerate(messages):
        if message.tool_calls:
            calls = tuple(replace(call, id=call.id or f"call_{at}_{n}") for n, call in enumerate(message.tool_calls))
            message = replace(message, tool_calls=calls)
            open_calls = list(calls)
        elif message.role == "tool" and (call := _answered(message, open_calls)) is not None:
            open_calls.remove(call)
            message = replace(
                message, tool_name=message.tool_name or call.name, tool_call_id=message.tool_call_id or call.id
            )
        linked.append(message)
    return linked


def short_ids(messages: Sequence[Message]) -> list[Message]:
    """The same messages with tool call ids of nine letters and digits; equal ids stay equal."""
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=_short(call.id)) for call in message.tool_calls),
            tool_call_id=_short(message.tool_call_id) if message.tool_call_id else "",
        )
        for message in messages
    ]


def function_ids(messages: Sequence[Message]) -> list[Message]:
    """The same messages with ids made of the function's name and the call's number: Kimi's `functions.f:0`."""
    calls = [call for message in messages for call in message.tool_calls]
    ids = {call.id: f"functions.{call.name}:{number}" for number, call in enumerate(calls)}
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=ids[call.id]) for call in message.tool_calls),
            tool_call_id=ids.get(message.tool_call_id, message.tool_call_id),
        )
        for message in messages
    ]


def split_parallel_calls(messages: Sequence[Message]) -> list[Message]:
    """The same conversation as if the model had called one tool, got its result, and called the next.

    The messages must be linked. Results of unknown calls follow behind all of them.
    """
    split: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            split.append(message)
            continue
        results = list(takewhile(lambda message: message.role == "tool", rest))
        rest = rest[len(results) :]
        for number, call in enumerate(message.tool_calls):
            first = message if number == 0 else Message(message.role)
            split.append(replace(first, tool_calls=(call,)))
            split += [result for result in results if result.tool_call_id == call.id]
        ids = {call.id for call in message.tool_calls}
        split += [result for result in results if result.tool_call_id not in ids]
    return split


def _answered(result: Message, calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call that a result answers: by id, by name, else the first one without a result."""
    if result.tool_call_id:
        return next((call for call in calls if call.id == result.tool_call_id), None)
    if result.tool_name:
        return next((call for call in calls if call.name == result.tool_name), None)
    return calls[0] if calls else None


def _short(id_: str) -> str:
    if len(id_) == SHORT_ID and id_.isascii() and id_.isalnum():
        return id_
    return hashlib.sha256(id_.encode()).hexdigest()[:SHORT_ID]


@dataclass(frozen=True, slots=True)
class MessageDialect:
    """How one template wants its messages.

    `typed_content`: contents are lists of typed parts. `null_content`: a message with calls alone has content None.
    `json_arguments`: arguments of calls are JSON text. `short_ids`, `function_ids`: the form of tool call ids.
    `thinking`: the key of earlier reasoning, THINKING_PART for a part of the content, "" to leave it out.
    `trims_thinking`: the template itself writes line breaks around it. `one_text`: a message with calls has content or
    reasoning, not both.
    """

    typed_content: bool = False
    null_content: bool = False
    json_arguments: bool = False
    short_ids: bool = False
    function_ids: bool = False
    thinking: str = ""
    trims_thinking: bool = False
    one_text: bool = False

    def write(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in this dialect, as new objects. Which of the earlier reasoning counts the template decides."""
        if self.short_ids:
            messages = short_ids(messages)
        if self.function_ids:
            messages = function_ids(messages)
        return [self._message(message) for message in messages]

    def _message(self, message: Message) -> dict[str, Any]:
        if self.one_text and message.tool_calls and message.thinking and message.content:
            message = replace(message, thinking=f"{message.thinking}\n\n{message.content}", content="")
        entry: dict[str, Any] = {"role": message.role, "content": self._content(message)}
        if message.thinking and self.thinking not in ("", THINKING_PART):
            entry[self.thinking] = self._reasoning(message)
        if message.tool_calls:
            entry["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if message.tool_name:
            entry["name"] = message.tool_name
        if message.tool_call_id:
            entry["tool_call_id"] = message.tool_call_id
        return entry

    def _content(self, message: Message) -> Any:
        if self.null_content and message.tool_calls and not message.content:
            return None
        has_part = bool(message.thinking) and self.thinking == THINKING_PART
        if not self.typed_content and not has_part:
            return message.content
        parts = [{"type": "thinking", "thinking": self._reasoning(message)}] if has_part else []
        if message.content or not has_part:
            parts.append({"type": "text", "text": message.content})
        return parts

    def _reasoning(self, message: Message) -> str:
        return message.thinking.strip("\n") if self.trims_thinking else message.thinking

    def _call(self, call: ToolCall) -> dict[str, Any]:
        as_json = self.json_arguments
        arguments = json.dumps(call.arguments, ensure_ascii=False) if as_json else dict(call.arguments)
        return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def definition(tool: Tool) -> dict[str, Any]:
    """A tool as all templates want it: the dictionary of OpenAI's API."""
    items = {} if tool.items is None else {"items": tool.items}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters_json(tool)}
    return {"type": tool.type, **items, "function": function}


def system_as_user(messages: Sequence[Message]) -> list[Message]:
    """Put the text of each system message before the message that follows it, or into a user message if none does."""
    merged: list[Message] = []
    pending = ""
    for message in messages:
        if message.role == "system":
            pending += message.content + "\n"
        else:
            merged.append(replace(message, content=pending + message.content))
            pending = ""
    return [*merged, Message("user", pending.rstrip("\n"))] if pending else merged


def merge_system_messages(messages: Sequence[Message]) -> list[Message]:
    """Merge leading system messages into one; put each later one before the message that follows it."""
    first = list(takewhile(lambda message: message.role == "system", messages))
    rest = system_as_user(messages[len(first) :])
    return [Message("system", "\n\n".join(message.content for message in first)), *rest] if first else rest


def with_inline_calls(messages: Sequence[Message], spec: ToolCallSpec) -> list[Message]:
    """The same messages with their tool calls written into the content, as the model writes them."""
    return [
        replace(message, content=message.content + inline_calls(message.tool_calls, spec))
        if message.tool_calls
        else message
        for message in messages
    ]


def inline_calls(calls: Sequence[ToolCall], spec: ToolCallSpec) -> str:
    """Tool calls as text in a format; "" for formats with quotes of their own, whose templates show calls."""
    if spec.arguments is not None and spec.arguments.values is Values.QUOTED:
        return ""
    names = spec.aliases(call.name for call in calls)
    texts = [
        _plain(spec.prefix(names[call.name])) + _arguments(call.arguments, spec) + _plain(spec.closing)
        for call in calls
    ]
    return _plain(spec.before) + _plain(spec.separator or "").join(texts) + _plain(spec.after)


def _arguments(arguments: dict[str, Any], spec: ToolCallSpec) -> str:
    if spec.arguments is None:
        return _json(arguments)
    texts = [_argument(name, value, spec.arguments) for name, value in arguments.items()]
    return _plain(spec.arguments.separator).join(texts)


def _argument(name: str, value: Any, spec: ArgumentSpec) -> str:
    opening, closing = spec.affixes(name)
    bare = spec.values is Values.BARE and isinstance(value, str)
    kind = spec.kind(_JSON_TYPES.get(type(value), "string"))
    return _plain(opening.replace(KIND, kind)) + (value if bare else _json(value)) + _plain(closing)


def _plain(text: str) -> str:
    for free, written in _PLACEHOLDERS.items():
        text = text.replace(free, written)
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
