"""Cohere's Command A of 2026 and North: special tokens around each message, numbered tool calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.renderers.family import Chat, NamedRenderer, fold_results
from engine.chat.renderers.jsontext import arguments_json, compact, parameters_json, spaced
from modelfile.conversation import Tool

_START, _END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
_SYSTEM, _USER, _CHATBOT = f"{_START}<|SYSTEM_TOKEN|>", f"{_START}<|USER_TOKEN|>", f"{_START}<|CHATBOT_TOKEN|>"
_TEXT, _END_TEXT = "<|START_TEXT|>", f"<|END_TEXT|>{_END}"
_THINKING, _END_THINKING = "<|START_THINKING|>", "<|END_THINKING|>"
# The whitespace that the family's template leaves.
_BEFORE_CALLS = "\n            \n                "


class Cohere(NamedRenderer):
    """Continues the last answer unless it calls tools. Shows all earlier reasoning, and an empty list without tools."""

    bos = "<BOS_TOKEN>"

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system text and the tools, then the messages."""
        system, rest = chat.split_system("system")
        yield _SYSTEM + _TEXT + (f"{system}\n\n\n\n" if system else "") + _tools(chat.tools) + _END_TEXT
        numbers = _numbers(rest)
        messages = fold_results(rest, lambda run: _results(run, numbers))
        called = 0
        for at, message in enumerate(messages):
            yield _message_text(message, called, continued=at == len(messages) - 1)
            called += len(message.tool_calls)
        if not (messages and _is_continued(messages[-1])):
            yield _CHATBOT + _THINKING + ("" if chat.thinks(default=True) else _END_THINKING)


def _tools(tools: Sequence[Tool]) -> str:
    definitions = ",\n\n".join(f"\n    {_definition(tool)}" for tool in tools)
    return f"# Available Tools\n```json\n[\n{definitions}\n\n\n]\n```"


def _definition(tool: Tool) -> str:
    return (
        f'{{"name": {compact(tool.name)}, "description": {compact(tool.description)}, '
        f'"parameters": {spaced(parameters_json(tool))}, "responses": null}}'
    )


def _numbers(messages: Sequence[Message]) -> dict[str, int]:
    """The number of each call in the whole conversation, by the id that the client gave it."""
    numbers: dict[str, int] = {}
    for number, call in enumerate(call for message in messages for call in message.tool_calls):
        numbers.setdefault(call.id, number)
    return {id_: number for id_, number in numbers.items() if id_}


def _message_text(message: Message, called: int, *, continued: bool) -> str:
    """One message; `called` calls were made before it. Messages of other roles are left out."""
    match message.role:
        case "system":
            return _SYSTEM + _TEXT + message.content + _END_TEXT
        case "user":
            return _USER + _TEXT + message.content + _END_TEXT
        case "tool":
            return f"{_SYSTEM}<|START_TOOL_RESULT|>[{message.content}\n\n]<|END_TOOL_RESULT|>{_END}"
        case "assistant":
            return _CHATBOT + (_action(message, called) if message.tool_calls else _text(message, continued))
    return ""


def _is_continued(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls


def _text(message: Message, continued: bool) -> str:
    return _reasoning(message) + _TEXT + message.content + ("" if continued else _END_TEXT)


def _action(message: Message, called: int) -> str:
    calls = ",".join(_call(call, number) for number, call in enumerate(message.tool_calls, called))
    return f"{_BEFORE_CALLS}{_reasoning(message)}<|START_ACTION|>[{calls}\n\n]<|END_ACTION|>{_END}"


def _reasoning(message: Message) -> str:
    return f"{_THINKING}{message.thinking}{_END_THINKING}" if message.thinking else ""


def _call(call: ToolCall, number: int) -> str:
    arguments = spaced(arguments_json(call))
    return f'\n\n    {{"tool_call_id": "{number}", "tool_name": "{call.name}", "parameters": {arguments}}}'


def _results(results: Sequence[Message], numbers: dict[str, int]) -> str:
    return ",".join(_result(result, numbers.get(result.tool_call_id, result.tool_call_id)) for result in results)


def _result(result: Message, number: int | str) -> str:
    content = spaced({"content": result.content})
    return (
        f'\n    {{\n        "tool_call_id": "{number}",\n        "results": {{\n\n            \n'
        f'            "0": {content}\n\n        }},\n        "is_error": null\n    }}'
    )
