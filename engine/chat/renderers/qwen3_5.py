"""Qwen3.5, Ornith and Qwen3.8: ChatML with images, tools as JSON, calls as XML, reasoning in every new answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.api import Message, Think
from engine.chat.prompt import RenderError, tag_images, tags_first_spaced
from engine.chat.renderers.family import ANSWER, END, END_THINK, START, THINK, Chat, NamedRenderer, chatml, fold_results
from engine.chat.renderers.jsontext import spaced, tool_json
from engine.chat.renderers.qwen import (
    CALL_FORMAT,
    FUNCTIONS,
    is_question,
    last_question,
    results_text,
    value_text,
    xml_call,
)
from modelfile.conversation import Tool
from modelfile.text import SPACES

_NO_REASONING = f"{THINK}\n\n{END_THINK}\n\n"


class Qwen35(NamedRenderer):
    """Continues the last answer. Shows reasoning only after the last question."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML, contents without whitespace around them."""
        system, rest = chat.split_system("system")
        yield self.system(None if system is None else system.strip(SPACES), chat)
        thinks = chat.thinks(default=True)
        messages = fold_results(map(stripped, tag_images(rest, tags_first_spaced)), results_text)
        question = last_question(messages)
        for at, message in enumerate(messages):
            if message.role == "assistant":
                block = self.shows_reasoning(thinks and at > question)
                yield self._answer(message, block) + ("" if at == len(messages) - 1 else END)
            elif message.role == "tool":
                yield f"{START}user{message.content}{END}"
            elif self.renders_role(message.role):
                yield chatml(message.role, message.content)
        if chat.messages and chat.messages[-1].role != "assistant":
            yield ANSWER + (f"{THINK}\n" if thinks else _NO_REASONING)

    def system(self, text: str | None, chat: Chat) -> str:
        """The system message: tools, then the system text; "" without both."""
        if not chat.tools:
            return "" if text is None else chatml("system", text)
        return chatml("system", tools_text(chat.tools) + (f"\n\n{text}" if text else ""))

    def renders_role(self, role: str) -> bool:
        """Whether messages of a role are rendered; not asked for `assistant` and `tool`."""
        return role in ("user", "system")

    def shows_reasoning(self, is_new: bool) -> bool:
        """Whether an earlier answer has a thinking block; `is_new`: it follows the last question, reasoning is on."""
        return is_new

    def split(self, content: str) -> tuple[str, str]:
        """Reasoning and content of an answer whose client left both in the content."""
        before, tag, after = content.partition(END_THINK)
        if not tag:
            return "", content
        return before.rpartition(THINK)[2].strip(SPACES), after.lstrip("\n")

    def _answer(self, message: Message, block: bool) -> str:
        if block and message.thinking:
            reasoning, content = message.thinking.strip(SPACES), message.content
        else:
            reasoning, content = self.split(message.content)
        calls = "\n".join(xml_call(call, value_text) for call in message.tool_calls)
        gap = "\n\n" if calls and content.strip(SPACES) else ""
        opening = f"{THINK}\n{reasoning}\n{END_THINK}\n\n" if block else ""
        return ANSWER + opening + content + gap + calls


class Ornith(Qwen35):
    """Qwen3.5, but every earlier answer has a thinking block, which may be empty."""

    def shows_reasoning(self, is_new: bool) -> bool:
        """Every earlier answer has a thinking block."""
        return True


def tools_text(tools: Sequence[Tool]) -> str:
    """The definitions, and how to call them."""
    return FUNCTIONS + "".join(f"\n{spaced(tool_json(tool))}" for tool in tools) + CALL_FORMAT


def stripped(message: Message) -> Message:
    """The message without whitespace around its content."""
    return replace(message, content=message.content.strip(SPACES))


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
    """Qwen3.8: one system message with all instructions and a note on reasoning effort.

    Every earlier answer has a thinking block; reasoning that a client left in the content stays there.
    """

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML. Raises RenderError for what the family refuses."""
        instructions = [message for message in chat.messages if message.role in _INSTRUCTING]
        if illustrated := next((message for message in instructions if message.images), None):
            raise RenderError(f"{illustrated.role} message cannot contain images")
        if not chat.messages:
            raise RenderError("no messages provided")
        if not any(map(is_question, tag_images(map(stripped, chat.messages), tags_first_spaced))):
            raise RenderError("no user query found in messages")
        texts = filter(None, (stripped(message).content for message in instructions))
        messages = [message for message in chat.messages if message.role not in _INSTRUCTING]
        return super().parts(replace(chat, messages=[Message("system", "\n\n".join(texts)), *messages]))

    def system(self, text: str | None, chat: Chat) -> str:
        """The system message: reasoning effort, tools, then the system text; "" without any."""
        tools = tools_text(chat.tools) if chat.tools else ""
        content = "\n\n".join(filter(None, (_effort(chat.think), tools, text)))
        return chatml("system", content) if content else ""

    def renders_role(self, role: str) -> bool:
        """Renders all roles."""
        return True

    def shows_reasoning(self, is_new: bool) -> bool:
        """Every earlier answer has a thinking block."""
        return True

    def split(self, content: str) -> tuple[str, str]:
        """Leaves reasoning in the content."""
        return "", content


def _effort(think: Think | None) -> str:
    if think in (None, "high", "max"):
        return _THOROUGH
    return _BRIEF if think == "low" else ""
