"""What a chat template can do, found by test renderings: some silently leave out what others show.

As llama.cpp's jinja/caps.h: roles, contents and tool calls with telltale words go in, and the prompt is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

from engine.api import Message, ToolCall
from engine.chat.jinja.adapt import THINKING_PART, THINKING_PLACES, MessageDialect
from engine.chat.jinja.template import JinjaTemplate
from engine.chat.prompt import RenderError

_SECONDS = 0.1  # of CPU time for one test rendering, which takes a hundredth of that
_SHORT_ID_MARKS = ("length 9", "length == 9", "length != 9", "length < 9")
_FIRST_SYSTEM, _SECOND_SYSTEM, _TEXT = "systemalpha", "systembeta", "questionalpha"
_THOUGHT, _ANSWER = "thoughtalpha", "answeralpha"
_FIRST_NAME, _SECOND_NAME = "functionalpha", "functionbeta"
_QUESTION = Message("user", _TEXT)
_CALLS = (ToolCall(_FIRST_NAME, {"keyalpha": "x"}, id="callalpha"), ToolCall(_SECOND_NAME, {}, id="callbetax"))
_PYTHON_DICT = "{'keyalpha'"
"""How arguments look where a template prints the dict that it was given, not JSON."""
_PARTS = "'thinking'", '"thinking"'
"""What of a part of the content is seen where a template prints it whole."""


class TemplateCaps:
    """Capabilities and needs of one template. Each is found when first asked for. Safe from any thread.

    A template that refuses every test counts as one without special needs. `tags` surround the model's reasoning,
    ("", "") if it has none.
    """

    def __init__(self, template: JinjaTemplate, tags: tuple[str, str] = ("", "")) -> None:
        self.template = template
        self._tags = tags

    @cached_property
    def requires_functions(self) -> bool:
        """Whether it fails without the variable `functions`, the tools as JSON text."""
        messages = MessageDialect().write([_QUESTION])
        return not self._render(messages) and bool(self._render(messages, functions=""))

    @cached_property
    def text_dialect(self) -> MessageDialect:
        """The dialect for conversations without tool calls."""
        plain = MessageDialect(short_ids=any(mark in self.template.source for mark in _SHORT_ID_MARKS))
        typed = replace(plain, typed_content=True)
        return typed if not self._shows(plain, [_QUESTION], _TEXT) and self._shows(typed, [_QUESTION], _TEXT) else plain

    @cached_property
    def call_dialect(self) -> MessageDialect:
        """The dialect for conversations with tool calls."""
        dialects = [
            replace(self.text_dialect, function_ids=named, null_content=null, json_arguments=as_json)
            for named, null, as_json in product((False, True), repeat=3)
        ]
        messages = _with_calls(1)
        return next((dialect for dialect in dialects if self._shows(dialect, messages, _FIRST_NAME)), self.text_dialect)

    @cached_property
    def thinking_text_dialect(self) -> MessageDialect:
        """The dialect for conversations with earlier reasoning and no tool calls."""
        return self._with_thinking(self.text_dialect, [_QUESTION, Message("assistant", _ANSWER, _THOUGHT)])

    @cached_property
    def thinking_call_dialect(self) -> MessageDialect:
        """The dialect for conversations with earlier reasoning and tool calls."""
        question, call, *results = _with_calls(1)
        dialect = self._with_thinking(self.call_dialect, [question, replace(call, thinking=_THOUGHT), *results])
        both = [question, replace(call, thinking=_THOUGHT, content=_ANSWER), *results]
        return replace(dialect, one_text=bool(dialect.thinking) and not self._shows(dialect, both, _THOUGHT))

    def _with_thinking(self, dialect: MessageDialect, messages: Sequence[Message]) -> MessageDialect:
        """The dialect with the first place for reasoning whose reasoning is in the prompt of these messages."""
        for place in THINKING_PLACES:
            candidate = replace(dialect, thinking=place)
            prompt = self._prompt(candidate, messages)
            _, shown, behind = prompt.partition(_THOUGHT)
            if shown and not (place == THINKING_PART and any(mark in prompt for mark in _PARTS)):
                return replace(candidate, trims_thinking=behind[:1].isspace())
        return dialect

    @cached_property
    def supports_tool_calls(self) -> bool:
        """Whether it shows the tool calls of earlier turns."""
        return self._shows(self.call_dialect, _with_calls(1), _FIRST_NAME)

    @cached_property
    def drops_parallel_calls(self) -> bool:
        """Whether it shows only the first of a message's tool calls."""
        messages = _with_calls(2)
        return self.supports_tool_calls and not self._shows(self.call_dialect, messages, _FIRST_NAME, _SECOND_NAME)

    @cached_property
    def supports_system_role(self) -> bool:
        """Whether it shows a system message at the beginning."""
        dialect, first = self.text_dialect, Message("system", _FIRST_SYSTEM)
        return self._shows(dialect, [first, _QUESTION], _FIRST_SYSTEM) or not self._render(dialect.write([_QUESTION]))

    @cached_property
    def supports_many_system_messages(self) -> bool:
        """Whether it shows every system message, wherever it stands."""
        first, second = Message("system", _FIRST_SYSTEM), Message("system", _SECOND_SYSTEM)
        late = [first, _QUESTION, Message("assistant", "x"), second, _QUESTION]
        shown = (_FIRST_SYSTEM, _SECOND_SYSTEM)
        return all(self._shows(self.text_dialect, messages, *shown) for messages in ([first, second, _QUESTION], late))

    @cached_property
    def reasoning_affixes(self) -> tuple[str, str]:
        """What it writes before and behind an answer's reasoning: the tags, their line breaks, and whatever else.

        ("", "") for a template that does not write the tags at all.
        """
        opening, closing = self._tags
        if not opening or opening not in self.template.source:
            return "", ""
        messages = [_QUESTION, Message("assistant", _ANSWER, _THOUGHT)]
        text = self._render(self.thinking_text_dialect.write(messages))
        thought = text.find(_THOUGHT)
        begin, end = text.rfind(opening, 0, max(thought, 0)), text.find(_ANSWER, thought)
        if min(thought, begin, end) >= 0:
            return text[begin:thought], text[thought + len(_THOUGHT) : end]
        return self._empty_block(opening, closing) or (f"{opening}\n", f"\n{closing}\n\n")

    def _empty_block(self, opening: str, closing: str) -> tuple[str, str] | None:
        """The two halves of the empty block that it writes where reasoning is turned off; None if it writes none."""
        text = self._render(self.text_dialect.write([_QUESTION]), enable_thinking=False)
        _, begun, block = text[text.rfind(_TEXT) :].partition(opening)
        space, ended, behind = block.partition(closing)
        if not begun or not ended or space.strip():
            return None
        half = (len(space) + 1) // 2
        return opening + space[:half], space[half:] + closing + behind

    def _shows(self, dialect: MessageDialect, messages: Sequence[Message], *texts: str) -> bool:
        """Whether the prompt of these messages has all of the texts in it, and no Python dict."""
        prompt = self._prompt(dialect, messages)
        return all(text in prompt for text in texts) and _PYTHON_DICT not in prompt

    def _prompt(self, dialect: MessageDialect, messages: Sequence[Message]) -> str:
        return self._render(dialect.write(messages), **({"functions": ""} if self.requires_functions else {}))

    def _render(self, messages: Sequence[dict[str, Any]], **variables: Any) -> str:
        """The prompt, "" if the template refuses."""
        try:
            return self.template.render(messages, seconds=_SECONDS, **{"enable_thinking": True} | variables)
        except RenderError:
            return ""


def _with_calls(count: int) -> list[Message]:
    """A question, one message with `count` calls, and their results."""
    calls = _CALLS[:count]
    results = [Message("tool", "x", tool_name=call.name, tool_call_id=call.id) for call in calls]
    return [_QUESTION, Message("assistant", tool_calls=calls), *results]
