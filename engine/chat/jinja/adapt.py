"""Messages as chat templates are given them: dictionaries as those of OpenAI's API, in the dialect of each template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from engine.api import Message, Tool, ToolCall
from engine.chat.definitions import parameters_json
from engine.chat.output.format import BLANK, KEY, KIND, LINE, NUMBER, ArgumentSpec, ToolCallSpec, Values

# Tool calls and their results, tied together: many clients send neither ids nor names with a result.

SHORT = 9  # characters of an id, for the templates that insist on it


def linked_calls(messages: Sequence[Message]) -> list[Message]:
    """The same messages; a result that lacks its call's name or id gets it from the calls before it, in order."""
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
    """The same messages, every id made of nine letters and digits; equal ids stay equal."""
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=_short(call.id)) for call in message.tool_calls),
            tool_call_id=_short(message.tool_call_id) if message.tool_call_id else "",
        )
        for message in messages
    ]


def named_ids(messages: Sequence[Message]) -> list[Message]:
    """The same messages, every id made of the function's name and the call's number: Kimi's `functions.f:0`."""
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


def one_call_each(messages: Sequence[Message]) -> list[Message]:
    """The same conversation as if the model had called one tool, got its result, and called the next.

    The messages are linked. What is not known to be the result of a call stays behind all of them.
    """
    found: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            found.append(message)
            continue
        results = list(takewhile(lambda message: message.role == "tool", rest))
        rest = rest[len(results) :]
        for number, call in enumerate(message.tool_calls):
            found.append(replace(message, content="" if number else message.content, tool_calls=(call,)))
            found += [result for result in results if result.tool_call_id == call.id]
        ids = {call.id for call in message.tool_calls}
        found += [result for result in results if result.tool_call_id not in ids]
    return found


def _answered(result: Message, calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call that a result belongs to: by id, by name, else the first that has none yet."""
    if result.tool_call_id:
        return next((call for call in calls if call.id == result.tool_call_id), None)
    if result.tool_name:
        return next((call for call in calls if call.name == result.tool_name), None)
    return calls[0] if calls else None


def _short(id_: str) -> str:
    if len(id_) == SHORT and id_.isascii() and id_.isalnum():
        return id_
    return hashlib.sha256(id_.encode()).hexdigest()[:SHORT]


@dataclass(frozen=True, slots=True)
class MessageDialect:
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


def definition(tool: Tool) -> dict[str, Any]:
    """A tool as all templates want it."""
    items = {} if tool.items is None else {"items": tool.items}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters_json(tool)}
    return {"type": tool.type, **items, "function": function}


# System messages for templates that have no place for them, or one only.


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


# Calls as the model writes them, for chat templates that leave those of earlier turns out.

_FREE = {BLANK: " ", LINE: "\n", NUMBER: "0", KEY: "0"}
"""What is written where a spec leaves the choice to the model."""

_KINDS = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}


def with_spelled_calls(messages: Sequence[Message], spec: ToolCallSpec) -> list[Message]:
    """The same messages; those with calls say so in their content."""
    return [
        replace(message, content=message.content + spelled(message.tool_calls, spec)) if message.tool_calls else message
        for message in messages
    ]


def spelled(calls: Sequence[ToolCall], spec: ToolCallSpec) -> str:
    """The text of these calls; empty for formats with quotes of their own, whose templates show calls."""
    if spec.arguments is not None and spec.arguments.values is Values.QUOTED:
        return ""
    names = spec.aliases(call.name for call in calls)
    texts = [
        _plain(spec.head(names[call.name])) + _arguments(call.arguments, spec) + _plain(spec.closing) for call in calls
    ]
    return _plain(spec.before) + _plain(spec.between or "").join(texts) + _plain(spec.after)


def _arguments(arguments: dict[str, Any], spec: ToolCallSpec) -> str:
    if spec.arguments is None:
        return _json(arguments)
    each = spec.arguments
    return _plain(each.between).join(_argument(name, value, each) for name, value in arguments.items())


def _argument(name: str, value: Any, spec: ArgumentSpec) -> str:
    opening, closing = spec.ends(name)
    bare = spec.values is Values.BARE and isinstance(value, str)
    kind = spec.kind(_KINDS.get(type(value), "string"))
    return _plain(opening.replace(KIND, kind)) + (value if bare else _json(value)) + _plain(closing)


def _plain(text: str) -> str:
    for free, written in _FREE.items():
        text = text.replace(free, written)
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
