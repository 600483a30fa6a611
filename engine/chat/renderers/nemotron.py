"""Nemotron 3 Nano: ChatML that always begins with a system message, Qwen's XML for tools, reasoning in the content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from engine.api import Message
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import (
    ANSWER,
    END,
    END_THINK,
    START,
    THINK,
    Chat,
    NamedRenderer,
    chatml,
    fold_results,
    last_user,
)
from engine.chat.renderers.jsontext import compact, free, is_composite, property_json, scalar_text
from engine.chat.renderers.qwen import XMLTools, xml_call
from modelfile.conversation import Property, Tool
from modelfile.text import SPACES, quote

# Tools and arguments, printed as the Python in the family's template would.

_CONSTANTS: dict[Any, str] = {None: "None", True: "True", False: "False"}


def argument_text(value: Any) -> str:
    """A value as Python prints it; objects and lists as JSON with spaces."""
    if is_composite(value):
        return _json(free(value))
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return scalar_text(value)


def _json(value: Any) -> str:
    """JSON with spaces, strings quoted as in Go."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_json, value)) + "]"
    return quote(value) if isinstance(value, str) else compact(value)


def _argument(schema: Property) -> Iterator[tuple[str, str]]:
    if schema.type:
        quoted = ", ".join(f"'{name}'" for name in schema.type)
        yield "type", schema.type[0] if len(schema.type) == 1 else f"[{quoted}]"
    if schema.description:
        yield "description", schema.description.strip(SPACES)
    yield from _elements(property_json(schema), "enum", "anyOf", "items", "properties", "required")


def _parameters(tool: Tool) -> Iterator[tuple[str, str]]:
    for name, value in (("$defs", tool.defs), ("items", tool.parameters_items)):
        if value is not None:
            yield name, argument_text(value)
    if tool.required:
        yield "required", _json(tool.required)


def _elements(schema: dict[str, Any], *keys: str) -> Iterable[tuple[str, str]]:
    return ((key, _json(schema[key])) for key in keys if key in schema)


TOOLS = XMLTools(_argument, _parameters, describe=lambda text: text.strip(SPACES))


_NO_REASONING = THINK + END_THINK
_ON, _OFF = "/think", "/no_think"
_EFFICIENT = "\n\n{reasoning effort: efficient}"


class Nemotron35(NamedRenderer):
    """Never continues an answer. Shows reasoning only after the last question."""

    def parts(self, chat: Chat) -> Iterator[str]:
        """The messages as ChatML."""
        system, rest = chat.split_system("system")
        yield chatml("system", "\n\n".join(filter(None, (self.without_switches(system or ""), _tools(chat)))))
        messages = fold_results(tag_images(rest, tags_first_spaced), _results)
        question = last_user(messages)
        for at, message in enumerate(messages):
            match message.role:
                case "assistant":
                    yield self._answer(message, is_old=at < question)
                case "tool":
                    yield (f"{START}user\n" if at else "") + message.content + END
                case "user" | "system":
                    yield chatml(
                        message.role, self.user_text(message.content) + self.effort(chat, is_last=at == question)
                    )
                case _:
                    yield chatml(message.role, message.content)
        yield f"{ANSWER}{THINK}\n" if self.thinks(chat) else ANSWER + _NO_REASONING

    def thinks(self, chat: Chat) -> bool:
        """Whether the model is to reason."""
        return chat.thinks(default=True)

    def without_switches(self, text: str) -> str:
        """The system text without switches; this model knows none."""
        return text

    def user_text(self, text: str) -> str:
        """The text of a user's or a later system message."""
        return text

    def effort(self, chat: Chat, *, is_last: bool) -> str:
        """The note on reasoning effort behind a message; `is_last`: it is the last question."""
        return _EFFICIENT if is_last and chat.think == "medium" else ""

    def with_reasoning(self, reasoning: str, content: str) -> str:
        """Reasoning and content of an answer as one text."""
        return f"{THINK}\n{reasoning}{END_THINK}{content}"

    def _answer(self, message: Message, *, is_old: bool) -> str:
        content = message.content
        if message.thinking:
            content = self.with_reasoning(message.thinking, content)
        elif THINK not in content and END_THINK not in content:
            content = _NO_REASONING + content
        if not message.tool_calls:
            return chatml("assistant", (_without_reasoning(content) if is_old else content).strip(SPACES))
        calls = "".join(f"{xml_call(call, argument_text)}\n" for call in message.tool_calls)
        return chatml("assistant", _before_calls(content, is_old=is_old) + calls)


class Nemotron3(Nemotron35):
    """Nemotron 3.5, but `/think` and `/no_think` in user and system messages are switches, which are removed."""

    def thinks(self, chat: Chat) -> bool:
        """The last switch wins over the request."""
        state = super().thinks(chat)
        for message in chat.messages:
            if message.role in ("user", "system"):
                if _ON in message.content.replace(END_THINK, ""):
                    state = True
                elif _OFF in message.content:
                    state = False
        return state

    def without_switches(self, text: str) -> str:
        """Removes the switches; `</think>` stays."""
        pieces = text.split(END_THINK)
        return END_THINK.join(piece.replace(_ON, "").replace(_OFF, "") for piece in pieces)

    def user_text(self, text: str) -> str:
        """Removes the switches and the whitespace around the text."""
        return self.without_switches(text).strip(SPACES)

    def effort(self, chat: Chat, *, is_last: bool) -> str:
        """Nemotron 3 has no note on reasoning effort."""
        return ""

    def with_reasoning(self, reasoning: str, content: str) -> str:
        """Puts the tags on lines of their own."""
        return f"{THINK}\n{reasoning}\n{END_THINK}\n{content}"


def _tools(chat: Chat) -> str:
    return TOOLS.text(chat.tools) if chat.tools else ""


def _results(results: Sequence[Message]) -> str:
    return "".join(f"<tool_response>\n{result.content}\n</tool_response>\n" for result in results)


def _without_reasoning(content: str) -> str:
    """An old answer with an empty block in place of its reasoning."""
    if THINK in content and END_THINK in content:
        return _NO_REASONING + content.rpartition(END_THINK)[2]
    return content


def _before_calls(content: str, *, is_old: bool) -> str:
    """The text of an answer before its calls."""
    if not content.strip(SPACES):
        return _NO_REASONING
    if is_old:
        rest = content.rpartition(END_THINK)[2] if END_THINK in content else content.partition(THINK)[0]
        content = _NO_REASONING + rest.strip(SPACES)
    return content.strip(SPACES) + "\n"
