"""Cogito: DeepSeek's tokens, with a preamble of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.chat.renderers.declarations import tool_json
from engine.chat.renderers.deepseek import ASSISTANT, BOS, END, USER, calls_text, result_text
from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.jsontext import compact, indented
from engine.chat.renderers.marks import THINK
from engine.chat.renderers.results import fold_results
from engine.chat.renderers.values import arguments_json
from engine.requests import Message, ToolCall

_PREAMBLE = (
    "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in San Francisco."
)
_DEEP = "Enable deep thinking subroutine.\n\n"
_ROLES = ("user", "assistant", "tool")
_FUNCTIONS = "\nYou have the following functions available:\n"


class Cogito(NamedRenderer):
    """An answer is never continued. System messages but the first are left out."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The preamble, then the turns."""
        thinks = chat.thinks(unless_said=False)
        system, rest = chat.split_system("system")
        yield BOS + (_DEEP if thinks else "") + _PREAMBLE
        if system:
            yield f"\n\n{system}" + ("\n\n" if thinks else "")
        if chat.tools:
            yield _FUNCTIONS
            yield from (f"```json\n{indented(tool_json(tool))}\n```\n" for tool in chat.tools)
        spoken = [message for message in fold_results(rest, _results) if message.role in _ROLES]
        yield from map(_turn, spoken)
        if not spoken or spoken[-1].role != "user":
            yield ASSISTANT
        if thinks:
            yield f"{THINK}\n"


def _turn(message: Message) -> str:
    match message.role:
        case "user":
            return f"{USER}{message.content}{ASSISTANT}"
        case "tool":
            return message.content
    calls = calls_text("\n".join(map(_call, message.tool_calls))) if message.tool_calls else ""
    return message.content + calls + END


def _call(call: ToolCall) -> str:
    arguments = compact(arguments_json(call))
    return f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"


def _results(results: Sequence[Message]) -> str:
    texts = "\n".join(map(result_text, results))
    return f"<｜tool▁outputs▁begin｜>{texts}<｜tool▁outputs▁end｜>"
