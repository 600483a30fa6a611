"""OLMo 3 Think: ChatML, always with reasoning, never with tools."""

from __future__ import annotations

from collections.abc import Iterator

from engine.chat.renderers.chatml import ANSWER, turn
from engine.chat.renderers.family import Chat, NamedRenderer
from engine.chat.renderers.marks import THINK
from engine.chat.renderers.olmo import NO_FUNCTIONS, first_system

HELPFUL = "You are a helpful AI assistant."


class Olmo3Think(NamedRenderer):
    """The first system message counts, and `persona` without any. Results of tools are left out."""

    def __init__(self, persona: str) -> None:
        self._persona = persona

    def parts(self, chat: Chat) -> Iterator[str]:
        """The turns, each as ChatML."""
        system = first_system(chat)
        yield turn("system", self._persona if system is None else f"{system} {NO_FUNCTIONS}")
        for message in chat.messages:
            if message.role in ("user", "assistant"):
                yield turn(message.role, message.content)
        yield ANSWER + THINK
