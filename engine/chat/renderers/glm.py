"""GLM 4.7, and what GLM OCR shares with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.chat.renderers.declarations import tool_json
from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.jsontext import spaced
from engine.chat.renderers.marks import END_THINK, THINK
from engine.chat.renderers.values import text_or_json
from engine.requests import Message, ToolCall
from modelfile.gotemplate import Tool

START = "[gMASK]<sop>"
SYSTEM, USER, ASSISTANT, OBSERVATION = "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"
_TOOLS = (
    f"{SYSTEM}\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_CALL_FORMAT = (
    "</tools>\n\n"
    "For each function call, output the function name and arguments within the following XML format:\n"
    "<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>"
    "<arg_key>{arg-key-2}</arg_key><arg_value>{arg-value-2}</arg_value>...</tool_call>"
)


class GLM47(NamedRenderer):
    """An answer is never continued. All thoughts are shown again."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The tools, then the turns."""
        yield START + tools_text(chat.tools)
        before = ""
        for message in chat.messages:
            yield _turn(message, before)
            before = message.role
        yield ASSISTANT + (THINK if chat.thinks(unless_said=True) else END_THINK)


def tools_text(tools: Sequence[Tool]) -> str:
    """A system turn with the definitions and how to call them, if there are any."""
    definitions = "".join(f"{spaced(tool_json(tool))}\n" for tool in tools)
    return _TOOLS + definitions + _CALL_FORMAT if tools else ""


def call_text(call: ToolCall) -> str:
    """An earlier call."""
    arguments = (
        f"<arg_key>{name}</arg_key><arg_value>{text_or_json(value)}</arg_value>"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>{call.name}{''.join(arguments)}</tool_call>"


def _turn(message: Message, before: str) -> str:
    """A message behind one of the role `before`."""
    match message.role:
        case "system":
            return SYSTEM + message.content
        case "user":
            return USER + message.content
        case "assistant":
            thoughts = f"{THINK}{message.thinking}{END_THINK}" if message.thinking else END_THINK
            return ASSISTANT + thoughts + message.content + "".join(map(call_text, message.tool_calls))
        case "tool":
            opening = "" if before == "tool" else OBSERVATION
            return f"{opening}<tool_response>{message.content}</tool_response>"
    return ""
