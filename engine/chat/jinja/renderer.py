"""Rendering by the chat template in a model's own file, with what llama.cpp does around it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.api import Delta, Message, Think
from engine.chat.jinja.adapt import linked_calls, one_call_each, one_system, with_spelled_calls, without_system
from engine.chat.jinja.caps import TemplateCaps
from engine.chat.jinja.template import ChatTemplate
from engine.chat.output.format import CONTENT_ONLY, FormatSpec
from engine.chat.prompt import Overstayed, Prompt, TemplateError, behind, tagged

_SILENT = {"reasoning": False, "reasoning_strength": "none", "thinking_mode": "disabled", "thinking_budget": 0}
"""What turns reasoning off in templates that do not know `enable_thinking` or `thinking`."""

_EFFORTS: dict[str, Sequence[str]] = {
    "low": ("low",),
    "medium": ("medium", "high"),
    "high": ("high", "xhigh"),
    "max": ("max", "xhigh", "high"),
}
"""Words for how hard to think, the next one for templates that refuse the first."""

_OPENING = 256  # characters in which templates begin an answer


class NativeRenderer:
    """A conversation as the model's chat template writes it, for a model that answers in a format of this spec.

    `with_tools` is the template of requests with tools, if they have their own. The last message, if it is the
    assistant's, is continued: its text ends the prompt and begins the answer.
    """

    trims_single = False

    def __init__(
        self, template: ChatTemplate, spec: FormatSpec = CONTENT_ONLY, with_tools: ChatTemplate | None = None
    ) -> None:
        opening, closing = spec.thinking
        tags = (opening.strip(), closing.strip())
        self._usual = TemplateCaps(template, tags)
        self._with_tools = self._usual if with_tools is None else TemplateCaps(with_tools, tags)
        self._shape = spec

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises TemplateError with the template's own words."""
        caps = self._with_tools if tools else self._usual
        begun = messages[-1] if messages and messages[-1].role == "assistant" else None
        messages = messages if begun is None else messages[:-1]
        text, said = self._asked(caps, messages, tools, think), messages[-1].content if messages else ""
        if begun is not None:
            return self._continued(text, said, begun, caps)
        if think is False and self._opens(text):
            head, before, after = self._around_thoughts(text, said, Message("assistant"), caps)
            text = head + before + after
        return Prompt(text, reject_overflow=True)

    def _asked(
        self, caps: TemplateCaps, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None
    ) -> str:
        """The prompt for an answer from its beginning. How hard to think is said in the first word not refused."""
        refusal: TemplateError | None = None
        for variables in _thinking(think):
            if caps.functions:
                variables["functions"] = json.dumps(tools, ensure_ascii=False, indent=2) if tools else ""
            try:
                return caps.template.render(self._written(messages, caps), list(tools), **variables)
            except Overstayed:
                raise
            except TemplateError as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _written(self, messages: Sequence[Message], caps: TemplateCaps) -> list[dict[str, Any]]:
        """The messages as a template wants them: it has its ways with system messages and calls."""
        messages = [_as_system(message) if message.role == "developer" else message for message in messages]
        messages = tagged(messages, behind)
        if any(message.role == "system" for message in messages) and not caps.systems:
            messages = without_system(messages)
        elif any(message.role == "system" for message in messages[1:]) and not caps.more_systems:
            messages = one_system(messages)
        if not any(message.tool_calls for message in messages):
            return caps.text.write(messages)
        messages = linked_calls(messages)
        if not caps.shows_calls and self._shape.calls is not None:
            messages = with_spelled_calls(messages, self._shape.calls)
        return caps.calls.write(one_call_each(messages) if caps.one_call_each else messages)

    def _opens(self, text: str) -> bool:
        """Whether a prompt ends with the beginning of a block of reasoning."""
        opening = self._shape.thinking[0].strip()
        return bool(opening) and text.rstrip().endswith(opening)

    def _continued(self, text: str, said: str, answer: Message, caps: TemplateCaps) -> Prompt:
        """The prompt for the rest of an answer: of its content, or of its thoughts if there is nothing else yet.

        `text` is the prompt for an answer from its beginning, behind the last message, which says `said`.
        """
        if answer.tool_calls:
            raise TemplateError("cannot continue a message that calls tools")
        content, thinking = answer.content, ""
        if self._shape.thinking[0] and (content or answer.thinking):
            head, before, after = self._around_thoughts(text, said, answer, caps)
            thinking = answer.thinking if before else ""
            text = head + before + thinking + (after if content else "")
        if content and not text.endswith(self._shape.content):
            text += self._shape.content
        begun = Delta(content, thinking) if content or thinking else None
        return Prompt(text + content, begun, reject_overflow=True)

    def _around_thoughts(self, text: str, said: str, answer: Message, caps: TemplateCaps) -> tuple[str, str, str]:
        """The prompt up to the answer's thoughts, and what stands before and behind them.

        Where content has a mark of its own, an answer without thoughts needs no block that is empty.
        """
        opening, closing = self._shape.thinking
        start = text.rfind(opening.rstrip(), _end(text, said))
        if self._shape.content:
            begun = start >= 0 or answer.thinking
            return (text[:start] if start >= 0 else text, *((opening, closing) if begun else ("", "")))
        bare = text.rstrip()
        if start < 0 and bare.endswith(closing.strip()):
            start = len(bare) - len(closing.strip())
        return (text[:start] if start >= 0 else text, *caps.around_thoughts)


def _as_system(message: Message) -> Message:
    return replace(message, role="system")


def _end(prompt: str, said: str) -> int:
    """Where the last message ends in a prompt, or not long before: what follows is the template's."""
    found = prompt.rfind(said.strip()) if said.strip() else -1
    return max(0, len(prompt) - _OPENING) if found < 0 else found + len(said.strip())


def _thinking(think: Think | None) -> Iterator[dict[str, Any]]:
    """Whether and how hard to think, under the names that templates have for it: one way to say it after the other."""
    thinks = think is None or bool(think)
    variables: dict[str, Any] = {"enable_thinking": thinks, "thinking": thinks}
    if isinstance(think, str):
        yield from (variables | {"reasoning_effort": word, "reasoning_strength": word} for word in _EFFORTS[think])
    else:
        yield variables if thinks else variables | _SILENT
