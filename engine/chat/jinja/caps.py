"""What a chat template does with messages, found out by rendering a few: some leave out, silently, what others show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

from engine.api import Message, ToolCall
from engine.chat.jinja.adapt import MessageDialect
from engine.chat.jinja.template import ChatTemplate
from engine.chat.prompt import TemplateError

_SECONDS = 0.1  # of CPU time for each rendering, which takes one hundredth of that
_SHORT_ID_MARKS = ("length 9", "length == 9", "length != 9", "length < 9")
_FIRST_SYSTEM, _SECOND_SYSTEM, _TEXT = "systemalpha", "systembeta", "questionalpha"
_THOUGHT, _ANSWER = "thoughtalpha", "answeralpha"
_FIRST_NAME, _SECOND_NAME = "functionalpha", "functionbeta"
_QUESTION = Message("user", _TEXT)
_CALLS = (ToolCall(_FIRST_NAME, {"keyalpha": "x"}, id="callalpha"), ToolCall(_SECOND_NAME, {}, id="callbetax"))
_PYTHON = "{'keyalpha'"
"""How arguments look where a template prints the object that it was given and not JSON."""


class TemplateCaps:
    """What one template needs. Each question is answered when it is first asked, by a rendering or a few.

    A template that refuses whatever it is asked counts as one that has no special needs. May be asked by any thread.
    `tags` surround the thoughts of the model's answers, ("", "") if it has none.
    """

    def __init__(self, template: ChatTemplate, tags: tuple[str, str] = ("", "")) -> None:
        self.template = template
        self._tags = tags

    @cached_property
    def functions(self) -> bool:
        """Whether it cannot do without `functions`, the tools as a JSON text."""
        dialect = MessageDialect().write([_QUESTION])
        return not self._render(dialect) and bool(self._render(dialect, functions=""))

    @cached_property
    def text(self) -> MessageDialect:
        """How it wants what people say."""
        plain = MessageDialect(short_ids=any(mark in self.template.source for mark in _SHORT_ID_MARKS))
        parts = replace(plain, parts=True)
        return parts if not self._shows(plain, [_QUESTION], _TEXT) and self._shows(parts, [_QUESTION], _TEXT) else plain

    @cached_property
    def calls(self) -> MessageDialect:
        """How it wants conversations in which the model called tools."""
        dialects = [
            replace(self.text, named_ids=named, null_content=null, text_arguments=text)
            for named, null, text in product((False, True), repeat=3)
        ]
        return next((dialect for dialect in dialects if self._shows(dialect, _called(1), _FIRST_NAME)), self.text)

    @cached_property
    def shows_calls(self) -> bool:
        """Whether it shows calls of earlier turns at all."""
        return self._shows(self.calls, _called(1), _FIRST_NAME)

    @cached_property
    def one_call_each(self) -> bool:
        """Whether it shows the first call of a message only."""
        return self.shows_calls and not self._shows(self.calls, _called(2), _FIRST_NAME, _SECOND_NAME)

    @cached_property
    def systems(self) -> bool:
        """Whether it has a place for a system message."""
        first = Message("system", _FIRST_SYSTEM)
        return self._shows(self.text, [first, _QUESTION], _FIRST_SYSTEM) or not self._render(
            self.text.write([_QUESTION])
        )

    @cached_property
    def more_systems(self) -> bool:
        """Whether it has one for each, wherever it stands."""
        first, second = Message("system", _FIRST_SYSTEM), Message("system", _SECOND_SYSTEM)
        late = [first, _QUESTION, Message("assistant", "x"), second, _QUESTION]
        shown = (_FIRST_SYSTEM, _SECOND_SYSTEM)
        return self._shows(self.text, [first, second, _QUESTION], *shown) and self._shows(self.text, late, *shown)

    @cached_property
    def around_thoughts(self) -> tuple[str, str]:
        """What it writes before and behind an answer's thoughts: the tags with their line breaks, and what else.

        ("", "") for a template that does not write such tags at all.
        """
        opening, closing = self._tags
        if not opening or opening not in self.template.source:
            return "", ""
        [answer] = self.text.write([Message("assistant", _ANSWER)])
        text = self._render([*self.text.write([_QUESTION]), answer | {"reasoning_content": _THOUGHT}])
        thought = text.find(_THOUGHT)
        begin, end = text.rfind(opening, 0, max(thought, 0)), text.find(_ANSWER, thought)
        if min(thought, begin, end) >= 0:
            return text[begin:thought], text[thought + len(_THOUGHT) : end]
        return self._empty_block(opening, closing) or (f"{opening}\n", f"\n{closing}\n\n")

    def _empty_block(self, opening: str, closing: str) -> tuple[str, str] | None:
        """The two halves of the block that it begins an answer with which is to have no thoughts."""
        text = self._render(self.text.write([_QUESTION]), enable_thinking=False)
        _, begun, block = text[text.rfind(_TEXT) :].partition(opening)
        space, ended, behind = block.partition(closing)
        if not begun or not ended or space.strip():
            return None
        half = (len(space) + 1) // 2
        return opening + space[:half], space[half:] + closing + behind

    def _shows(self, dialect: MessageDialect, messages: Sequence[Message], *texts: str) -> bool:
        """Whether a prompt of these messages has all of the texts in it."""
        prompt = self._render(dialect.write(messages), **({"functions": ""} if self.functions else {}))
        return all(text in prompt for text in texts) and _PYTHON not in prompt

    def _render(self, messages: Sequence[dict[str, Any]], **variables: Any) -> str:
        try:
            return self.template.render(messages, seconds=_SECONDS, **{"enable_thinking": True} | variables)
        except TemplateError:
            return ""


def _called(count: int) -> list[Message]:
    """A question, so many calls in one message, and their results."""
    calls = _CALLS[:count]
    results = [Message("tool", "x", tool_name=call.name, tool_call_id=call.id) for call in calls]
    return [_QUESTION, Message("assistant", tool_calls=calls), *results]
