"""Rendering by the chat template in a model's own file, with what llama.cpp does around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.chat.habits import Habits
from engine.chat.images import behind, tagged
from engine.chat.jinja import ChatTemplate, TemplateError
from engine.chat.links import linked_calls, one_call_each
from engine.chat.render import Prompt
from engine.chat.systems import one_system, without_system
from engine.chat.tools.shape import NO_SHAPE, Shape
from engine.requests import Message, Think

_SILENT = {"reasoning": False, "reasoning_strength": "none", "thinking_mode": "disabled", "thinking_budget": 0}
"""What turns reasoning off in templates that do not know `enable_thinking` or `thinking`."""


class NativeRenderer:
    """A conversation as the model's chat template writes it, for a model that answers in a format of this shape.

    `with_tools` is the template of requests with tools, if they have their own. The last message, if it is the
    assistant's, is continued: its text ends the prompt and begins the answer.
    """

    trims_single = False

    def __init__(self, template: ChatTemplate, shape: Shape = NO_SHAPE, with_tools: ChatTemplate | None = None) -> None:
        self._usual = Habits(template)
        self._with_tools = self._usual if with_tools is None else Habits(with_tools)
        self._shape = shape

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises TemplateError with the template's own words."""
        prefill = ""
        if messages and messages[-1].role == "assistant":
            if messages[-1].tool_calls:
                raise TemplateError("cannot continue a message that calls tools")
            prefill, messages = messages[-1].content, messages[:-1]
            think = False
        habits = self._with_tools if tools else self._usual
        variables = _thinking(think)
        if habits.functions:
            variables["functions"] = json.dumps(tools, ensure_ascii=False, indent=2) if tools else ""
        text = habits.template.render(_written(tagged(messages, behind), habits), list(tools), **variables)
        return Prompt(self._begun(text, prefill), prefill=prefill, reject_overflow=True)

    def _begun(self, text: str, prefill: str) -> str:
        """A prompt with the beginning of the answer's content, which is no reasoning."""
        opening, closing = map(str.strip, self._shape.thinking)
        if prefill and opening and text.rstrip().endswith(opening):
            text = f"{text.rstrip()}\n{closing}\n\n"
        if prefill and not text.endswith(self._shape.content):
            text += self._shape.content
        return text + prefill


def _written(messages: Sequence[Message], habits: Habits) -> list[dict[str, Any]]:
    """The messages as a template wants them: it has its ways with system messages and calls."""
    messages = [replace(message, role="system") if message.role == "developer" else message for message in messages]
    if any(message.role == "system" for message in messages) and not habits.systems:
        messages = without_system(messages)
    elif any(message.role == "system" for message in messages[1:]) and not habits.more_systems:
        messages = one_system(messages)
    if not any(message.tool_calls for message in messages):
        return habits.text.write(messages)
    messages = linked_calls(messages)
    return habits.calls.write(one_call_each(messages) if habits.one_call_each else messages)


def _thinking(think: Think | None) -> dict[str, Any]:
    """Whether and how hard to think, under the names that templates have for it."""
    thinks = think is None or bool(think)
    variables: dict[str, Any] = {"enable_thinking": thinks, "thinking": thinks}
    if not thinks:
        variables |= _SILENT
    elif isinstance(think, str):
        variables |= {"reasoning_effort": think, "reasoning_strength": think}
    return variables
