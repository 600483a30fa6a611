"""Calls as the model writes them, for chat templates that leave those of earlier turns out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.chat.tools.shape import BLANK, KEY, KIND, LINE, NUMBER, ArgumentShape, CallShape, Values
from engine.requests import Message, ToolCall

_FREE = {BLANK: " ", LINE: "\n", NUMBER: "0", KEY: "0"}
"""What is written where a shape leaves the choice to the model."""

_KINDS = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}


def with_spelled_calls(messages: Sequence[Message], shape: CallShape) -> list[Message]:
    """The same messages; those with calls say so in their content."""
    return [
        replace(message, content=message.content + spelled(message.tool_calls, shape))
        if message.tool_calls
        else message
        for message in messages
    ]


def spelled(calls: Sequence[ToolCall], shape: CallShape) -> str:
    """The text of these calls; empty for formats with quotes of their own, whose templates show calls."""
    if shape.arguments is not None and shape.arguments.values is Values.QUOTED:
        return ""
    names = shape.known_as(call.name for call in calls)
    texts = [
        _plain(shape.head(names[call.name])) + _arguments(call.arguments, shape) + _plain(shape.closing)
        for call in calls
    ]
    return _plain(shape.before) + _plain(shape.between or "").join(texts) + _plain(shape.after)


def _arguments(arguments: dict[str, Any], shape: CallShape) -> str:
    if shape.arguments is None:
        return _json(arguments)
    each = shape.arguments
    return _plain(each.between).join(_argument(name, value, each) for name, value in arguments.items())


def _argument(name: str, value: Any, shape: ArgumentShape) -> str:
    opening, closing = shape.ends(name)
    bare = shape.values is Values.BARE and isinstance(value, str)
    kind = shape.kind(_KINDS.get(type(value), "string"))
    return _plain(opening.replace(KIND, kind)) + (value if bare else _json(value)) + _plain(closing)


def _plain(text: str) -> str:
    for free, written in _FREE.items():
        text = text.replace(free, written)
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
