"""Rendering by the chat template in a model's own file, with what llama.cpp does around it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.chat.jinja import ChatTemplate, TemplateError
from engine.chat.links import linked_calls, short_ids
from engine.chat.render import Prompt
from engine.requests import Message, Think, ToolCall

_SHORT_ID_MARKS = ("length 9", "length == 9", "length != 9")
Arguments = Callable[[dict[str, Any]], Any]


class NativeRenderer:
    """A conversation as the model's chat template writes it.

    The last message, if it is the assistant's, is continued: its text ends the prompt and begins the answer.
    """

    trims_single = False

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._short_ids = any(mark in template.source for mark in _SHORT_ID_MARKS)

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises TemplateError with the template's own words."""
        prefill = ""
        if messages and messages[-1].role == "assistant":
            if messages[-1].tool_calls:
                raise TemplateError("cannot continue a message that calls tools")
            prefill, messages = messages[-1].content, messages[:-1]
            think = False
        text = self._render(messages, tools, _variables(think))
        return Prompt(text + prefill, prefill=prefill, reject_overflow=True)

    def _render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], variables: dict[str, Any]) -> str:
        """Try the usual shape of messages first, then what some templates want instead. Raises the first refusal."""
        refusal: TemplateError | None = None
        for shape in self._shapes(messages):
            try:
                return self._template.render(shape, list(tools), **variables)
            except TemplateError as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _shapes(self, messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
        messages = linked_calls(messages)
        if self._short_ids:
            messages = short_ids(messages)
        yield _as_dicts(messages)
        if any(message.role == "system" for message in messages):
            yield _as_dicts(_without_system(messages))
        if any(message.tool_calls for message in messages):
            yield _as_dicts(messages, arguments=_as_json)


def _variables(think: Think | None) -> dict[str, Any]:
    level = {"reasoning_effort": think} if isinstance(think, str) else {}
    return {"enable_thinking": think is None or bool(think), **level}


def _as_dicts(messages: Sequence[Message], arguments: Arguments = dict) -> list[dict[str, Any]]:
    """Messages as templates expect them. Earlier thoughts are not shown to the model again."""
    return [_as_dict(message, arguments) for message in messages]


def _as_dict(message: Message, arguments: Arguments) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    found: dict[str, Any] = {"role": role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [_call(call, arguments) for call in message.tool_calls]
    if message.tool_name:
        found["name"] = message.tool_name
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    return found


def _call(call: ToolCall, arguments: Arguments) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments(call.arguments)}
    return {"type": "function", "id": call.id, "function": function}


def _as_json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role: its text goes in front of the message that follows."""
    merged: list[Message] = []
    pending = ""
    for message in messages:
        if message.role == "system":
            pending += message.content + "\n"
        else:
            merged.append(dataclasses.replace(message, content=pending + message.content))
            pending = ""
    return merged
