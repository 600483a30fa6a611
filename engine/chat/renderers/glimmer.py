"""Muse Glimmer: messages with a recipient in their header, calls as ATEM markup, the date in the system message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from engine.api import Message, Think, ToolCall
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.jsontext import free, is_composite, parameters_markup, scalar_text, spaced_markup
from modelfile.conversation import Tool

_BOS, _START, _MESSAGE, _END_MESSAGE, _END = "<|begin_of_text|>", "<|start|>", "<|message|>", "<|eom|>", "<|eot|>"
_DEFAULT_SYSTEM = "You are a helpful AI assistant.\nKnowledge cutoff: 2026-01-04.\nCurrent date: {today}."
_EFFORTS = {
    "Reasoning effort": "Reasoning strength",
    "Reasoning Effort": "Reasoning Strength",
    "reasoning effort": "reasoning strength",
    "REASONING EFFORT": "REASONING STRENGTH",
}
_TOOLS = """\
In this environment you have access to a set of tools you can use to answer the user's question.

You can invoke a function by writing a "<atem:function_calls>" block like the following:
<atem:function_calls>
<atem:invoke name="$FUNCTION_NAME">
<atem:parameter name="$PARAMETER_NAME">$PARAMETER_VALUE</atem:parameter>
...
</atem:invoke>
</atem:function_calls>

String and scalar parameters should be specified as is, while lists and objects should use JSON format. Note that \
spaces for string values are not stripped. The output is not expected to be valid XML and is parsed with regular \
expressions.
Here are the functions available in JSONSchema format:
// Tool metadata
"""
_EXAMPLE = """

Here's an example of how to call a function in the tool set:
(If the tool namespace is not specified, invoke the function directly as `example_function_name` rather than \
`example_tool_name.example_function_name`)

to=example_tool_name.example_function_name

<atem:function_calls>
<atem:invoke name="example_tool_name.example_function_name">
<atem:parameter name="example_parameter_1">value_1</atem:parameter>
<atem:parameter name="example_parameter_2">This is the value for the second parameter
that can span
"multiple" lines
</atem:parameter>
</atem:invoke>
</atem:function_calls>"""


class Glimmer(NamedRenderer):
    """Never continues an answer. Shows all earlier reasoning, but not content beside a call.

    `today` gives the date for the default system message.
    """

    bos = _BOS

    def __init__(self, today: Callable[[], date] = date.today) -> None:
        self._today = today

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages, after a default system message if there is none."""
        yield _BOS
        strength = _strength(chat.think)
        if all(message.role != "system" for message in chat.messages):
            text = _DEFAULT_SYSTEM.format(today=self._today().isoformat())
            yield _system(f"{text}\n\nReasoning strength: {strength}.", chat.tools)
        names = {call.id: call.name for message in chat.messages for call in message.tool_calls}
        messages = tag_images(chat.messages, tags_first_spaced)
        roles = [*(message.role for message in messages), ""]
        for at, message in enumerate(messages):
            match message.role:
                case "system":
                    yield _system(_with_strength(message.content, strength), chat.tools)
                case "user":
                    yield _message("user", message.content, _END)
                case "tool":
                    yield _result(message, names)
                case "assistant":
                    yield from _answer(message, _END_MESSAGE if roles[at + 1] == "assistant" else _END)
        yield f"{_START}assistant"


def _strength(think: Think | None) -> str:
    if think is None or think is True:
        return "high"
    return think or "none"


def _with_strength(text: str, strength: str) -> str:
    """A system text with the family's word for reasoning effort; an effort in the text itself wins."""
    for effort, word in _EFFORTS.items():
        text = text.replace(effort, word)
    return text if "reasoning strength" in text.lower() else f"{text}\n\nReasoning strength: {strength}."


def _message(header: str, content: str, end: str) -> str:
    return f"{_START}{header}{_MESSAGE}{content}{end}"


def _system(text: str, tools: Sequence[Tool]) -> str:
    definitions = f"\n\n{_definitions(tools)}" if tools else ""
    recipients = ", ".join(['"self"', *(f'"{namespace}.*"' for namespace in _namespaces(tools)), '"user"'])
    return _message("system", f"{text}{definitions}\n\n# Valid recipients: {recipients}.", _END)


def _namespaces(tools: Sequence[Tool]) -> list[str]:
    """The parts of the names before the first dot, each once."""
    return list(dict.fromkeys(tool.name.partition(".")[0] for tool in tools))


def _definitions(tools: Sequence[Tool]) -> str:
    spaces = "".join(f'{{"name": {spaced_markup(name)}, "description": ""}}\n' for name in _namespaces(tools))
    return f"{_TOOLS}{spaces}// Function schemas{''.join(map(_definition, tools))}{_EXAMPLE}"


def _definition(tool: Tool) -> str:
    head = spaced_markup({"name": tool.name, "description": tool.description})
    return f'\n{head[:-1]}, "parameters": {parameters_markup(tool)}}}'


def _result(result: Message, names: dict[str, str]) -> str:
    """A tool's result; `names` are those of the calls by their ids."""
    name = result.tool_name or (names.get(result.tool_call_id, result.tool_call_id) if result.tool_call_id else "")
    return _message(f"tool {name}", f'<tool_output name="{name}">\n{result.content}\n</tool_output>', _END)


def _answer(message: Message, end: str) -> Iterator[str]:
    """Reasoning, then calls or content; calls end with `end`."""
    if message.thinking:
        yield _message("assistant to=self", message.thinking, _END_MESSAGE)
    if message.tool_calls:
        *others, last = message.tool_calls
        yield from (_call(call, _END_MESSAGE) for call in others)
        yield _call(last, end)
    elif message.content or not message.thinking:
        yield _message("assistant to=user", message.content, _END)


def _call(call: ToolCall, end: str) -> str:
    arguments = "".join(
        f'<atem:parameter name="{name}">{_value(value)}</atem:parameter>\n' for name, value in call.arguments.items()
    )
    block = f'<atem:invoke name="{call.name}">\n{arguments}</atem:invoke>'
    return _message(f"assistant to={call.name}", f"<atem:function_calls>\n{block}\n</atem:function_calls>", end)


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return spaced_markup(free(value)) if is_composite(value) else scalar_text(value)
