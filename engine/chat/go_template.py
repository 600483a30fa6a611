"""Rendering by a Go template: one that a Modelfile or a request brings."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api import Message, Think, Tool
from engine.chat.prompt import Prompt, in_front, tagged
from modelfile.gotemplate import ChatTemplate, Conversation

PLAIN = "{{ .Prompt }}"
"""For models that bring no template of any kind."""


class GoRenderer:
    """A conversation as a Go template writes it."""

    trims_single = True

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises gotemplate.TemplateExecError."""
        conversation = Conversation(messages=tagged(messages, in_front), tools=tools or None, think=think)
        return Prompt(self._template.render(conversation))

    def around(self, prompt: str, suffix: str, think: Think | None) -> Prompt:
        """The prompt that asks for what stands between two texts. Raises gotemplate.TemplateExecError."""
        return Prompt(self._template.render(Conversation(prompt=prompt, suffix=suffix, think=think)))
