"""Renders conversations by a Go template, which a Modelfile or a request brings."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api import Message, Think, Tool
from engine.chat.prompt import Prompt, tag_images, tags_first
from modelfile.gotemplate import ChatTemplate, Conversation

PLAIN = "{{ .Prompt }}"
"""The template of models that bring none."""


class GoRenderer:
    """Renders with one parsed Go template."""

    trims_single_message = True

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises gotemplate.TemplateExecError."""
        conversation = Conversation(messages=tag_images(messages, tags_first), tools=tools or None, think=think)
        return Prompt(self._template.render(conversation))

    def fill_in_middle(self, prompt: str, suffix: str, think: Think | None) -> Prompt:
        """The prompt that asks for the text between `prompt` and `suffix`. Raises gotemplate.TemplateExecError."""
        return Prompt(self._template.render(Conversation(prompt=prompt, suffix=suffix, think=think)))
