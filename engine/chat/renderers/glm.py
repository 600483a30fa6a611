"""GLM 4.7, and what GLM OCR shares with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import END_THINK, THINK, Chat, NamedRenderer
from engine.chat.renderers.jsontext import spaced, text_or_json, tool_json
from modelfile.conversation import Tool
from modelfile.text import SPACES

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
    """Never continues an answer. Shows all earlier reasoning."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The tools, then the messages."""
        yield START + tools_text(chat.tools)
        before = ""
        for message in chat.messages:
            yield _message_text(message, before)
            before = message.role
        yield ASSISTANT + (THINK if chat.thinks(default=True) else END_THINK)


def tools_text(tools: Sequence[Tool]) -> str:
    """A system message with the definitions and how to call them; "" without tools."""
    definitions = "".join(f"{spaced(tool_json(tool))}\n" for tool in tools)
    return _TOOLS + definitions + _CALL_FORMAT if tools else ""


def call_text(call: ToolCall) -> str:
    """An earlier call."""
    arguments = (
        f"<arg_key>{name}</arg_key><arg_value>{text_or_json(value)}</arg_value>"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>{call.name}{''.join(arguments)}</tool_call>"


def _message_text(message: Message, before: str) -> str:
    """One message; the message before it has the role `before`."""
    match message.role:
        case "system":
            return SYSTEM + message.content
        case "user":
            return USER + message.content
        case "assistant":
            reasoning = f"{THINK}{message.thinking}{END_THINK}" if message.thinking else END_THINK
            return ASSISTANT + reasoning + message.content + "".join(map(call_text, message.tool_calls))
        case "tool":
            opening = "" if before == "tool" else OBSERVATION
            return f"{opening}<tool_response>{message.content}</tool_response>"
    return ""


# GLM OCR: GLM's tokens with line breaks, and images.

_NO_THINK = "/nothink"


class GLMOcr(NamedRenderer):
    """Never continues an answer. Shows all earlier reasoning; without reasoning each question ends with `/nothink`."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The tools, then the messages."""
        yield START + tools_text(chat.tools)
        is_off = not chat.thinks(default=True)
        before = ""
        for message in tag_images(chat.messages, tags_first_spaced):
            suffix = _NO_THINK if is_off and not message.content.endswith(_NO_THINK) else ""
            yield f"{USER}\n{message.content}{suffix}" if message.role == "user" else _ocr_message_text(message, before)
            before = message.role
        yield f"{ASSISTANT}\n" + (f"{THINK}{END_THINK}\n" if is_off else "")


def _ocr_message_text(message: Message, before: str) -> str:
    """One message that is not the user's; the message before it has the role `before`."""
    match message.role:
        case "system":
            return f"{SYSTEM}\n{message.content}\n"
        case "assistant":
            return f"{ASSISTANT}\n{THINK}{message.thinking.strip(SPACES)}{END_THINK}{_answer(message)}\n"
        case "tool":
            opening = "" if before == "tool" else OBSERVATION
            return f"{opening}\n<tool_response>\n{message.content}\n</tool_response>\n"
    return ""


def _answer(message: Message) -> str:
    content = f"\n{message.content.strip(SPACES)}" if message.content else ""
    return content + "".join(f"\n{call_text(call)}" for call in message.tool_calls)
