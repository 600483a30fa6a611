"""What the Qwen family and Nemotron share: calls as XML, results in a user message, the last question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api import Message, ToolCall
from engine.chat.renderers.jsontext import compact, free, is_composite, scalar_text
from modelfile.conversation import Property, Tool

FUNCTIONS = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
CALL_FORMAT = (
    "\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n"
    "<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\n"
    "that can span\nmultiple lines\n</parameter>\n"
    "</function>\n</tool_call>\n\n"
    "<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested "
    "within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, "
    "but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge and do "
    "not tell the user about function calls\n"
    "</IMPORTANT>"
)


@dataclass(frozen=True, slots=True)
class XMLTools:
    """Writes tool definitions as XML.

    `argument` gives the elements of one argument's schema, `parameters` those of the schema around them, each as tag
    and text; `describe` writes the description.
    """

    argument: Callable[[Property], Iterable[tuple[str, str]]]
    parameters: Callable[[Tool], Iterable[tuple[str, str]]]
    describe: Callable[[str], str]

    def text(self, tools: Iterable[Tool]) -> str:
        """All definitions, and how to call them."""
        lines = [line for tool in tools for line in self._lines(tool)]
        return "\n".join([FUNCTIONS, *lines]) + CALL_FORMAT

    def _lines(self, tool: Tool) -> Iterator[str]:
        yield "<function>"
        yield f"<name>{tool.name}</name>"
        if tool.description:
            yield f"<description>{self.describe(tool.description)}</description>"
        yield "<parameters>"
        for name, schema in (tool.properties or {}).items():
            yield f"<parameter>\n<name>{name}</name>"
            yield from map(_element, self.argument(schema))
            yield "</parameter>"
        yield from map(_element, self.parameters(tool))
        yield "</parameters>\n</function>"


def xml_call(call: ToolCall, text: Callable[[Any], str]) -> str:
    """A call as XML; `text` prints a value."""
    arguments = "".join(f"<parameter={name}>\n{text(value)}\n</parameter>\n" for name, value in call.arguments.items())
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>"


def value_text(value: Any) -> str:
    """The value of an argument: `null`, JSON for objects and lists, a scalar as it is."""
    if value is None:
        return "null"
    return compact(free(value)) if is_composite(value) else scalar_text(value)


def results_text(results: Sequence[Message]) -> str:
    """Tool results as the content of a user message."""
    return "".join(f"\n<tool_response>\n{result.content}\n</tool_response>" for result in results)


def last_question(messages: Sequence[Message]) -> int:
    """Index of the last question; without any that of the last message, so that no reasoning is shown."""
    return max((at for at, message in enumerate(messages) if is_question(message)), default=len(messages) - 1)


def is_question(message: Message) -> bool:
    """Whether a message is of the user; tool results that a client sends as user messages do not count."""
    is_result = message.content.startswith("<tool_response>") and message.content.endswith("</tool_response>")
    return message.role == "user" and not is_result


def _element(pair: tuple[str, str]) -> str:
    tag, text = pair
    return f"<{tag}>{text}</{tag}>"
