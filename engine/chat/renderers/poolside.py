"""Poolside v1: Laguna's tags without line breaks in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.laguna import BOS, DEFAULT_SYSTEM, TAGS, call_text, tools_text
from engine.chat.renderers.marks import END_THINK, THINK
from engine.requests import Message
from modelfile.gotemplate import Tool
from modelfile.gotemplate.strings import SPACES


class Poolside(NamedRenderer):
    """An answer is never continued. All thoughts are shown again, but only with reasoning on."""

    bos = BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system text and the tools, then the turns."""
        thinks = chat.thinks(unless_said=False)
        system, rest = chat.split_system("system")
        yield BOS + _system(DEFAULT_SYSTEM if system is None else system, chat.tools, thinks)
        for message in rest:
            if message.role == "assistant":
                yield _answer(message, thinks)
            elif tag := TAGS.get(message.role):
                yield f"<{tag}>{message.content}</{tag}>\n"
        yield "<assistant>" + (THINK if thinks else END_THINK)


def _system(text: str, tools: Sequence[Tool], thinks: bool) -> str:
    said = "\n\n".join(filter(None, (text.rstrip(SPACES), tools_text(tools) if tools else "")))
    return f"<system>{said}</system>\n" if said or thinks else ""


def _answer(message: Message, thinks: bool) -> str:
    thoughts = f"{THINK}{message.thinking}{END_THINK}" if thinks else END_THINK
    calls = "".join(call_text(call, "") for call in message.tool_calls)
    return f"<assistant>{thoughts}{message.content}{calls}</assistant>\n"
