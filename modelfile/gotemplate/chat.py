"""Conversations through a template: which values it is given, and how old templates are run turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelfile.gotemplate.errors import TemplateSyntaxError
from modelfile.gotemplate.evaluator import MissingKey
from modelfile.gotemplate.inspection import calls_without_argument
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer, Limits
from modelfile.gotemplate.messages import MESSAGES, Message, collate, system_text
from modelfile.gotemplate.nodes import Action, Command, Field, Pipe
from modelfile.gotemplate.prefill import cut_after_response
from modelfile.gotemplate.strings import printable
from modelfile.gotemplate.template import Template
from modelfile.gotemplate.tools import TOOLS, Tool
from modelfile.gotemplate.values import Value

Think = bool | Literal["low", "medium", "high", "max"] | None
"""Whether and how hard to think; None if nobody said."""

_RESPONSE = Action(0, Pipe(0, (Command(0, Field(0, ("Response",))),)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a prompt is made of. With `prompt` and `suffix` it is text with a hole, and the messages do not count.

    `tools` is None where there can be none, and empty where there are none.
    """

    messages: Sequence[Message] = ()
    tools: Sequence[Tool] | None = None
    think: Think = None
    prompt: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template. Immutable: `render` may be called by several threads at once."""

    template: Template
    variables: tuple[str, ...]
    """The names that the template uses, in lower case and sorted: they tell what the model is good for."""

    @classmethod
    def parse(cls, source: str) -> ChatTemplate:
        """Read a template; one that knows neither messages nor a response gets the response at its end.

        Raises TemplateSyntaxError.
        """
        template = Template.parse(source)
        if calls_without_argument(template):
            raise TemplateSyntaxError("undefined template specified")
        if not {"messages", "response"} & set(template.variables()):
            template = template.with_root((*template.root, _RESPONSE))
        return cls(template, template.variables())

    def render(self, conversation: Conversation, limits: Limits = DEFAULT_LIMITS) -> str:
        """The prompt, up to where the model goes on. Raises TemplateExecError."""
        output = Buffer(Budget(limits))
        if conversation.prompt and conversation.suffix:
            self.template.write(_hole(conversation), output)
        elif "messages" in self.variables:
            self.template.write(_messages(conversation), output)
        else:
            _Legacy(self.template, conversation, output).write()
        return printable(output.text())


def _hole(conversation: Conversation) -> dict[str, Any]:
    values = {"Prompt": conversation.prompt, "Suffix": conversation.suffix, "Response": ""}
    return values | _thinking(conversation.think)


def _messages(conversation: Conversation) -> dict[str, Any]:
    values = {
        "System": system_text(conversation.messages),
        "Messages": Value(MESSAGES, collate(conversation.messages) or None),
        "Tools": Value(TOOLS, conversation.tools),
        "Response": "",
    }
    return values | _thinking(conversation.think)


def _thinking(think: Think) -> dict[str, Any]:
    level = "medium" if think is True else think or ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


class _Legacy:
    """Runs a template that knows one system text, one prompt and one response at a time."""

    def __init__(self, template: Template, conversation: Conversation, output: Buffer) -> None:
        self._template = template
        self._messages = collate(conversation.messages)
        self._thinking = _thinking(conversation.think)
        self._output = output
        self._turn = {"System": "", "Prompt": "", "Response": ""}

    def write(self) -> None:
        """Write turn after turn; the last one only up to the response, which the model is to continue."""
        for message in self._messages:
            match message.role:
                case "system":
                    self._set("System", message.content, flush_if=("Prompt", "Response"))
                case "user":
                    self._set("Prompt", message.content, flush_if=("Response",))
                case "assistant":
                    self._set("Response", message.content, flush_if=())
        last = self._template.with_root(cut_after_response(self._template.root))
        last.write(self._turn | self._thinking, self._output, MissingKey.INVALID)

    def _set(self, name: str, text: str, flush_if: tuple[str, ...]) -> None:
        if any(self._turn[value] for value in flush_if):
            self._template.write(self._turn | self._thinking, self._output)
            self._turn = dict.fromkeys(self._turn, "")
        self._turn[name] = text
