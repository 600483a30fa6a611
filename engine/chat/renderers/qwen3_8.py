"""Qwen3.8: as Qwen3.5, with one system turn for all instructions and a word on how hard to think."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.chat.images import in_front_apart, tagged
from engine.chat.render import TemplateError
from engine.chat.renderers.chatml import turn
from engine.chat.renderers.family import Chat
from engine.chat.renderers.qwen import is_question
from engine.chat.renderers.qwen3_5 import Qwen35, stripped, tools_text
from engine.requests import Message, Think

_INSTRUCTING = ("system", "developer")
_THOROUGH = (
    "Reasoning effort is set to xhigh. Please think carefully through the task, validate key assumptions, consider "
    "plausible alternatives, and prioritize correctness, consistency, and clarity in the final answer."
)
_BRIEF = (
    "Reasoning effort is set to low. Keep your thinking brief and focused, moving directly to the conclusion without "
    "unnecessary elaboration."
)


class Qwen38(Qwen35):
    """Every answer has its thinking block; thoughts that a client left in the content stay there."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The turns. Raises TemplateError for what the family refuses."""
        instructions = [message for message in chat.messages if message.role in _INSTRUCTING]
        if illustrated := next((message for message in instructions if message.images), None):
            raise TemplateError(f"{illustrated.role} message cannot contain images")
        if not chat.messages:
            raise TemplateError("no messages provided")
        if not any(map(is_question, tagged(map(stripped, chat.messages), in_front_apart))):
            raise TemplateError("no user query found in messages")
        texts = filter(None, (stripped(message).content for message in instructions))
        spoken = [message for message in chat.messages if message.role not in _INSTRUCTING]
        return super().parts(replace(chat, messages=[Message("system", "\n\n".join(texts)), *spoken]))

    def system(self, text: str | None, chat: Chat) -> str:
        """The first turn: how hard to think, tools, then the system text; none if there is nothing to say."""
        tools = tools_text(chat.tools) if chat.tools else ""
        said = "\n\n".join(filter(None, (_effort(chat.think), tools, text)))
        return turn("system", said) if said else ""

    def hears(self, role: str) -> bool:
        """All roles are heard."""
        return True

    def shows_thoughts(self, is_new: bool) -> bool:
        """Always."""
        return True

    def split(self, content: str) -> tuple[str, str]:
        """All is content."""
        return "", content


def _effort(think: Think | None) -> str:
    if think in (None, "high", "max"):
        return _THOROUGH
    return _BRIEF if think == "low" else ""
