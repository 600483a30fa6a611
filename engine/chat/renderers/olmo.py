"""OLMo 3: ChatML, calls in Python's notation."""

from __future__ import annotations

from collections.abc import Iterator

from engine.api import Message, ToolCall
from engine.chat.renderers.family import ANSWER, END, THINK, Chat, NamedRenderer, chatml
from engine.chat.renderers.jsontext import compact, free, sorted_arguments, spaced, tool_json

ASSISTANT = "You are a helpful function-calling AI assistant."
OLMO = (
    "You are Olmo, a helpful AI assistant built by Ai2. Your date cutoff is December 2024, and your model weights are "
    "available at https://huggingface.co/allenai."
)
NO_FUNCTIONS = "You do not currently have access to any functions. <functions></functions>"
_FUNCTIONS = (
    "You are provided with function signatures within <functions></functions> XML tags. You may call one or more "
    "functions to assist with the user query. Output any function calls within <function_calls></function_calls> XML "
    "tags. Do not make assumptions about what values to plug into functions."
)
_ROLES = {"user": "user", "tool": "environment"}


class Olmo3(NamedRenderer):
    """Uses the first system message, `persona` without one. Continues the last answer."""

    def __init__(self, persona: str) -> None:
        self._persona = persona

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        yield chatml("system", self._system(chat))
        messages = [message for message in chat.messages if message.role != "system"]
        for at, message in enumerate(messages):
            if message.role == "assistant":
                yield _answer(message, continued=at == len(messages) - 1)
            elif message.role in _ROLES:
                yield chatml(_ROLES[message.role], message.content)
        if not (messages and _is_continued(messages[-1])):
            yield ANSWER

    def _system(self, chat: Chat) -> str:
        functions = f"<functions>{spaced([tool_json(tool) for tool in chat.tools])}</functions>" if chat.tools else ""
        own = first_system(chat)
        if own is not None:
            return own + functions
        return f"{self._persona} {_FUNCTIONS + functions if functions else NO_FUNCTIONS}"


def first_system(chat: Chat) -> str | None:
    """The text of the first system message, wherever it stands; None without one."""
    return next((message.content for message in chat.messages if message.role == "system"), None)


def _is_continued(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and message.content != ""


def _answer(message: Message, *, continued: bool) -> str:
    if not message.tool_calls:
        return f"{ANSWER}{message.content}{'' if continued else END}"
    calls = "\n".join(map(_call, message.tool_calls))
    return chatml("assistant", f"{message.content}<function_calls>{calls}</function_calls>")


def _call(call: ToolCall) -> str:
    arguments = (f"{name}={compact(free(value))}" for name, value in sorted_arguments(call))
    return f"{call.name}({', '.join(arguments)})"


HELPFUL = "You are a helpful AI assistant."


class Olmo3Think(NamedRenderer):
    """OLMo 3 Think: always reasons, never calls tools. Uses the first system message, `persona` without one."""

    def __init__(self, persona: str) -> None:
        self._persona = persona

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        system = first_system(chat)
        yield chatml("system", self._persona if system is None else f"{system} {NO_FUNCTIONS}")
        for message in chat.messages:
            if message.role in ("user", "assistant"):
                yield chatml(message.role, message.content)
        yield ANSWER + THINK
