"""FunctionGemma: Gemma's turns, tools in a developer's turn, values between `<escape>` marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.gemma_values import GemmaValues
from engine.requests import Message, ToolCall
from modelfile.gotemplate import Property, Tool
from modelfile.gotemplate.strings import SPACES

_BOS, _START, _END = "<bos>", "<start_of_turn>", "<end_of_turn>\n"
_RESPONSE = "<start_function_response>"
_FUNCTIONS = "You can do function calling with the following functions:"
_VALUES = GemmaValues("<escape>", null="<nil>")


class FunctionGemma(NamedRenderer):
    """An answer is never continued; results are part of the model's turn, which goes on behind them."""

    bos = _BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The developer's turn, if there is anything in it, then the others."""
        system, rest = chat.split_system("system", "developer")
        yield _BOS
        if system or chat.tools:
            yield _opening("developer") + _instructions(system or "", chat.tools) + _END
        turns = _Turns()
        for at, message in enumerate(rest):
            yield turns.next(message, has_result=at + 1 < len(rest) and rest[at + 1].role == "tool")
        if not turns.answered:
            yield _opening("model")


class _Turns:
    """Where the model's turn stands: `called`, a result is to follow at once; `answered`, one was written."""

    def __init__(self) -> None:
        self.answered = False
        self._called = False
        self._unanswered: list[ToolCall] = []

    def next(self, message: Message, *, has_result: bool) -> str:
        """A message; `has_result`: the next one is a result."""
        text = message.content.strip(SPACES)
        if message.role not in ("user", "assistant", "tool"):
            return _opening(message.role) + text + _END
        if message.role == "tool":
            return self._result(message.content)
        opening = "" if self.answered else _opening("user" if message.role == "user" else "model")
        self.answered = self._called = False
        if message.role == "assistant" and message.tool_calls:
            text += "".join(map(_call, message.tool_calls))
            self._unanswered = list(message.tool_calls)
            self._called = has_result
        return opening + text + (_RESPONSE if self._called else _END)

    def _result(self, content: str) -> str:
        name = self._unanswered.pop(0).name if self._unanswered else ""
        opening = "" if self._called else _RESPONSE
        self._called, self.answered = False, True
        return f"{opening}response:{name}{{{_VALUES.value(content)}}}<end_function_response>"


def _opening(role: str) -> str:
    return f"{_START}{role}\n"


def _instructions(system: str, tools: Sequence[Tool]) -> str:
    text = system.strip(SPACES)
    if not tools:
        return text
    gap = "\n" if system else ""
    return text + gap + (_FUNCTIONS if text != _FUNCTIONS else "") + "".join(map(_declaration, tools))


def _declaration(tool: Tool) -> str:
    properties = ",".join(_property(name, schema) for name, schema in sorted((tool.properties or {}).items()))
    members = _VALUES.tool(tool, f"{{{properties}}}")
    return f"<start_function_declaration>declaration:{tool.name}{members}<end_function_declaration>"


def _property(name: str, schema: Property) -> str:
    type_ = f",type:{_VALUES.text(schema.type[0].upper())}" if schema.type else ""
    return f"{name}:{{description:{_VALUES.text(schema.description)}{type_}}}"


def _call(call: ToolCall) -> str:
    return f"<start_function_call>call:{call.name}{{{_VALUES.members(call.arguments)}}}<end_function_call>"
