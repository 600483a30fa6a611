"""Qwen3-Coder: ChatML without reasoning, tools and calls as XML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.api import Message
from engine.chat.renderers.family import ANSWER, END, START, Chat, NamedRenderer, chatml, fold_results
from engine.chat.renderers.jsontext import (
    compact,
    free,
    is_composite,
    parameters_json,
    property_json,
    scalar_text,
    types_text,
)
from engine.chat.renderers.qwen import XMLTools, results_text, value_text, xml_call
from modelfile.conversation import Property, Tool

_DEFAULT_SYSTEM = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."


class Qwen3Coder(NamedRenderer):
    """Uses the first system text that is not empty. Continues the last answer unless it calls tools."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        yield _system(chat)
        messages = fold_results((message for message in chat.messages if message.role != "system"), results_text)
        for at, message in enumerate(messages):
            yield _message_text(message, continued=at == len(messages) - 1)
        if messages and messages[-1].role != "assistant":
            yield ANSWER


def _system(chat: Chat) -> str:
    texts = (message.content for message in chat.messages if message.role == "system" and message.content)
    text = next(texts, _DEFAULT_SYSTEM if chat.tools else "")
    tools = f"\n\n{_TOOLS.text(chat.tools)}" if chat.tools else ""
    return chatml("system", text + tools) if text else ""


def _message_text(message: Message, *, continued: bool) -> str:
    if message.role == "tool":
        return f"{START}user{message.content}{END}"
    if message.role != "assistant":
        return chatml(message.role, message.content)
    if not message.tool_calls:
        return f"{ANSWER}{message.content}{'' if continued else END}"
    content = f"{message.content}\n" if message.content else ""
    return chatml("assistant", content + "".join(f"\n{xml_call(call, value_text)}" for call in message.tool_calls))


def _argument(schema: Property) -> Iterator[tuple[str, str]]:
    if schema.type:
        yield "type", types_text(schema.type)
    if schema.description:
        yield "description", schema.description
    yield from _others(property_json(schema), "type", "description")


def _parameters(tool: Tool) -> Iterator[tuple[str, str]]:
    return _others(parameters_json(tool), "type", "properties")


def _others(schema: dict[str, Any], *shown: str) -> Iterator[tuple[str, str]]:
    """The other keys of a schema; keys of objects in their values are sorted."""
    for key, value in schema.items():
        if key not in shown:
            yield key, compact(free(value)) if is_composite(value) else scalar_text(value)


_TOOLS = XMLTools(_argument, _parameters, describe=str)
