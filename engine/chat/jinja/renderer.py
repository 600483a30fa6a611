"""Renders conversations by the chat template in a model's own file, with what llama.cpp does around it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.api import Delta, Message, Think
from engine.chat.jinja.adapt import (
    link_tool_results,
    merge_system_messages,
    split_parallel_calls,
    system_as_user,
    with_inline_calls,
)
from engine.chat.jinja.caps import TemplateCaps
from engine.chat.jinja.template import JinjaTemplate
from engine.chat.output.format import CONTENT_ONLY, FormatSpec
from engine.chat.prompt import Prompt, RenderError, TemplateOverBudget, tag_images, tags_last

_REASONING_OFF = {"reasoning": False, "reasoning_strength": "none", "thinking_mode": "disabled", "thinking_budget": 0}
"""Variables that turn reasoning off in templates without `enable_thinking` and `thinking`."""

_EFFORTS: dict[str, Sequence[str]] = {
    "low": ("low",),
    "medium": ("medium", "high"),
    "high": ("high", "xhigh"),
    "max": ("max", "xhigh", "high"),
}
"""Words for the reasoning effort; the next is tried if a template refuses one."""

_OPENING = 256  # characters, at most, that a template writes behind the last message to open the answer


class JinjaRenderer:
    """Renders with a model's chat template, for a model that answers in the format of `spec`.

    `with_tools` is a separate template for requests with tools. If the last message is the assistant's, it is
    continued: its text ends the prompt and begins the answer.
    """

    trims_single_message = False

    def __init__(
        self, template: JinjaTemplate, spec: FormatSpec = CONTENT_ONLY, with_tools: JinjaTemplate | None = None
    ) -> None:
        opening, closing = spec.thinking
        tags = (opening.strip(), closing.strip())
        self._usual = TemplateCaps(template, tags)
        self._with_tools = self._usual if with_tools is None else TemplateCaps(with_tools, tags)
        self._spec = spec

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises RenderError with the template's own words."""
        caps = self._with_tools if tools else self._usual
        begun_answer = messages[-1] if messages and messages[-1].role == "assistant" else None
        messages = messages if begun_answer is None else messages[:-1]
        text, last_content = self._fresh(caps, messages, tools, think), messages[-1].content if messages else ""
        if think is True and self._closes_reasoning(text):
            text = self._fresh(caps, messages, tools, "medium")  # it does not think unless it is told how much
        if begun_answer is not None:
            return self._continuation(text, last_content, begun_answer, caps)
        if think is False and self._opens_reasoning(text):
            head, before, after = self._reasoning_affixes(text, last_content, Message("assistant"), caps)
            text = head + before + after
        return Prompt(text, reject_overflow=True)

    def _fresh(
        self, caps: TemplateCaps, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None
    ) -> str:
        """The prompt for a new answer, with the first spelling of the reasoning effort that the template accepts."""
        refusal: RenderError | None = None
        for variables in _thinking(think):
            if caps.requires_functions:
                variables["functions"] = json.dumps(tools, ensure_ascii=False, indent=2) if tools else ""
            try:
                return caps.template.render(self._adapted(messages, caps), list(tools), **variables)
            except TemplateOverBudget:
                raise
            except RenderError as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _adapted(self, messages: Sequence[Message], caps: TemplateCaps) -> list[dict[str, Any]]:
        """The messages in the template's dialect, with system messages and tool calls as it can show them."""
        messages = [_as_system(message) if message.role == "developer" else message for message in messages]
        messages = tag_images(messages, tags_last)
        if any(message.role == "system" for message in messages) and not caps.supports_system_role:
            messages = system_as_user(messages)
        elif any(message.role == "system" for message in messages[1:]) and not caps.supports_many_system_messages:
            messages = merge_system_messages(messages)
        thinks = any(message.thinking for message in messages)
        if not any(message.tool_calls for message in messages):
            return (caps.thinking_text_dialect if thinks else caps.text_dialect).write(messages)
        messages = link_tool_results(messages)
        if not caps.supports_tool_calls and self._spec.calls is not None:
            messages = with_inline_calls(messages, self._spec.calls)
        if caps.drops_parallel_calls:
            messages = split_parallel_calls(messages)
        return (caps.thinking_call_dialect if thinks else caps.call_dialect).write(messages)

    def _opens_reasoning(self, text: str) -> bool:
        """Whether a prompt ends with the tag that opens a reasoning block."""
        opening = self._spec.thinking[0].strip()
        return bool(opening) and text.rstrip().endswith(opening)

    def _closes_reasoning(self, text: str) -> bool:
        """Whether a prompt ends with an empty reasoning block."""
        opening, closing = (tag.strip() for tag in self._spec.thinking)
        bare = text.rstrip()
        return bool(opening) and bare.endswith(closing) and bare.removesuffix(closing).rstrip().endswith(opening)

    def _continuation(self, text: str, last_content: str, answer: Message, caps: TemplateCaps) -> Prompt:
        """The prompt that continues an answer: its content or, if that is empty, its reasoning.

        `text` is the prompt for a new answer, behind the last message, whose content is `last_content`.
        """
        if answer.tool_calls:
            raise RenderError("cannot continue a message that calls tools")
        content, thinking = answer.content, ""
        if self._spec.thinking[0] and (content or answer.thinking):
            head, before, after = self._reasoning_affixes(text, last_content, answer, caps)
            thinking = answer.thinking if before else ""
            text = head + before + thinking + (after if content else "")
        if content and not text.endswith(self._spec.content):
            text += self._spec.content
        answer_start = Delta(content, thinking) if content or thinking else None
        return Prompt(text + content, answer_start, reject_overflow=True)

    def _reasoning_affixes(
        self, text: str, last_content: str, answer: Message, caps: TemplateCaps
    ) -> tuple[str, str, str]:
        """The prompt up to the answer's reasoning, and what stands before and behind that.

        Where content has an opening of its own, an answer without reasoning needs no empty block.
        """
        opening, closing = self._spec.thinking
        start = text.rfind(opening.rstrip(), _end(text, last_content))
        if self._spec.content:
            has_block = start >= 0 or answer.thinking
            return (text[:start] if start >= 0 else text, *((opening, closing) if has_block else ("", "")))
        bare = text.rstrip()
        if start < 0 and bare.endswith(closing.strip()):
            start = len(bare) - len(closing.strip())
        return (text[:start] if start >= 0 else text, *caps.reasoning_affixes)


def _as_system(message: Message) -> Message:
    return replace(message, role="system")


def _end(prompt: str, last_content: str) -> int:
    """Index in a prompt where the last message ends, or a little before: what follows is the template's."""
    start = prompt.rfind(last_content.strip()) if last_content.strip() else -1
    return max(0, len(prompt) - _OPENING) if start < 0 else start + len(last_content.strip())


def _thinking(think: Think | None) -> Iterator[dict[str, Any]]:
    """Template variables for whether and how hard to think, one set for each word to try."""
    thinks = think is None or bool(think)
    variables: dict[str, Any] = {"enable_thinking": thinks, "thinking": thinks}
    if isinstance(think, str):
        yield from (variables | {"reasoning_effort": word, "reasoning_strength": word} for word in _EFFORTS[think])
    else:
        yield variables if thinks else variables | _REASONING_OFF
