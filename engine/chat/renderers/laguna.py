"""Laguna and Poolside v1: XML-like tags for messages, GLM's markup for calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.api import Message, ToolCall
from engine.chat.renderers.family import END_THINK, THINK, Chat, NamedRenderer
from engine.chat.renderers.jsontext import free, spaced, tool_json
from modelfile.conversation import Tool
from modelfile.text import SPACES

BOS = "〈|EOS|〉"
DEFAULT_SYSTEM = (
    "You are a helpful, conversationally-fluent assistant made by Poolside. You are here to be helpful to users "
    "through natural language conversations."
)
_CALLS = (
    "For each function call, return an unescaped XML-like object with function name and arguments within "
    "'<tool_call>' and '</tool_call>' tags, like here:\n"
)
_REASONING_CALLS = (
    "Wrap your thinking in '<think>', '</think>' tags, followed by a function call. "
    f"{_CALLS}<think> your thoughts here </think>\n"
)
_EXAMPLE = (
    "<tool_call>function-name\n<arg_key>argument-key</arg_key>\n<arg_value>value-of-argument-key</arg_value>\n"
    "</tool_call>"
)
TAGS = {"user": "user", "tool": "tool_response", "system": "system"}


class Laguna(NamedRenderer):
    """Continues the last answer. Shows all earlier reasoning. Each tag is on a line of its own."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system text and the tools, then the messages."""
        thinks = chat.thinks(default=False)
        system, rest = chat.split_system("system")
        yield BOS + _system(DEFAULT_SYSTEM if system is None else system, chat.tools, thinks)
        for at, message in enumerate(rest):
            if message.role == "assistant":
                yield _answer(message, is_last=at == len(rest) - 1)
            elif tag := TAGS.get(message.role):
                yield f"<{tag}>\n{message.content}\n</{tag}>\n"
        if not rest or rest[-1].role != "assistant":
            yield "<assistant>\n" + (THINK if thinks else END_THINK)


def tools_text(tools: Sequence[Tool]) -> str:
    """The definitions."""
    definitions = "".join(f"{spaced(tool_json(tool))}\n" for tool in tools)
    return (
        "### Tools\n\nYou may call functions to assist with the user query.\n"
        f"All available function signatures are listed below:\n<available_tools>\n{definitions}</available_tools>"
    )


def call_text(call: ToolCall, gap: str) -> str:
    """An earlier call, with `gap` behind the name and each tag."""
    arguments = (
        f"<arg_key>{name}</arg_key>{gap}<arg_value>{_value(value)}</arg_value>{gap}"
        for name, value in call.arguments.items()
    )
    return f"<tool_call>{call.name}{gap}{''.join(arguments)}</tool_call>{gap}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else spaced(free(value))


def _system(text: str, tools: Sequence[Tool], thinks: bool) -> str:
    shown = text.rstrip(SPACES)
    if not shown and not tools:
        return ""
    calls = _REASONING_CALLS if thinks else _CALLS
    rest = f"\n\n{tools_text(tools)}\n\n{calls}{_EXAMPLE}" if tools else ""
    return "<system>\n" + (f"\n{shown}" if shown else "") + f"{rest}\n</system>\n"


def _answer(message: Message, *, is_last: bool) -> str:
    content, reasoning = (text.strip(SPACES) for text in _split(message))
    opening = f"{THINK}\n{reasoning}\n{END_THINK}\n" if reasoning else f"{END_THINK}\n"
    text = (f"{content}\n" if content else "") + "".join(call_text(call, "\n") for call in message.tool_calls)
    is_open = is_last and (text or reasoning)
    return f"<assistant>\n{opening}{text}" + ("" if is_open else "</assistant>\n")


def _split(message: Message) -> tuple[str, str]:
    """Content and reasoning of an answer; a client may have left both in the content."""
    if END_THINK not in message.content:
        return message.content, message.thinking
    before = message.content.partition(END_THINK)[0].rpartition(THINK)[2]
    return message.content.rpartition(END_THINK)[2], message.thinking or before


class Poolside(NamedRenderer):
    """Laguna's tags without line breaks. Never continues an answer. Shows earlier reasoning only with reasoning on."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system text and the tools, then the messages."""
        thinks = chat.thinks(default=False)
        system, rest = chat.split_system("system")
        yield BOS + _poolside_system(DEFAULT_SYSTEM if system is None else system, chat.tools, thinks)
        for message in rest:
            if message.role == "assistant":
                yield _poolside_answer(message, thinks)
            elif tag := TAGS.get(message.role):
                yield f"<{tag}>{message.content}</{tag}>\n"
        yield "<assistant>" + (THINK if thinks else END_THINK)


def _poolside_system(text: str, tools: Sequence[Tool], thinks: bool) -> str:
    content = "\n\n".join(filter(None, (text.rstrip(SPACES), tools_text(tools) if tools else "")))
    return f"<system>{content}</system>\n" if content or thinks else ""


def _poolside_answer(message: Message, thinks: bool) -> str:
    reasoning = f"{THINK}{message.thinking}{END_THINK}" if thinks else END_THINK
    calls = "".join(call_text(call, "") for call in message.tool_calls)
    return f"<assistant>{reasoning}{message.content}{calls}</assistant>\n"
