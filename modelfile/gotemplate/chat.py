"""Renders a conversation with a model's Go template, also with legacy ones that run turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from modelfile.conversation import Message, Tool
from modelfile.gotemplate.errors import TemplateSyntaxError
from modelfile.gotemplate.evaluator import MissingKey
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer, Limits
from modelfile.gotemplate.messages import MESSAGES, TOOLS, collate, system_text
from modelfile.gotemplate.nodes import Action, Body, Branch, Command, Field, Node, Pipe
from modelfile.gotemplate.strings import printable
from modelfile.gotemplate.template import Template, calls_without_argument
from modelfile.gotemplate.values import Value

Think = bool | Literal["low", "medium", "high", "max"] | None
"""Whether and how hard to think; None if not stated."""

_RESPONSE = Action(0, Pipe(0, (Command(0, Field(0, ("Response",))),)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The input of a prompt. With `prompt` and `suffix` it is fill-in-the-middle, and messages are ignored.

    `tools` is None where tools are impossible, and empty where there are none.
    """

    messages: Sequence[Message] = ()
    tools: Sequence[Tool] | None = None
    think: Think = None
    prompt: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template. Immutable; `render` is thread-safe."""

    template: Template
    variables: tuple[str, ...]
    """The names that the template uses, lower case and sorted; capabilities are derived from them."""

    @classmethod
    def parse(cls, source: str) -> ChatTemplate:
        """Parse a template; one without messages and response gets `.Response` at its end.

        Raises TemplateSyntaxError.
        """
        template = Template.parse(source)
        if calls_without_argument(template):
            raise TemplateSyntaxError("undefined template specified")
        if not {"messages", "response"} & set(template.variables()):
            template = template.with_root((*template.root, _RESPONSE))
        return cls(template, template.variables())

    def render(self, conversation: Conversation, limits: Limits = DEFAULT_LIMITS) -> str:
        """The prompt, up to where the model continues. Raises TemplateExecError."""
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
    """Runs a template with one system text, one prompt and one response per execution."""

    def __init__(self, template: Template, conversation: Conversation, output: Buffer) -> None:
        self._template = template
        self._messages = collate(conversation.messages)
        self._thinking = _thinking(conversation.think)
        self._output = output
        self._turn = {"System": "", "Prompt": "", "Response": ""}

    def write(self) -> None:
        """Write turn by turn; the last one up to the response, where the model continues."""
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


def cut_after_response(body: Body) -> Body:
    """The body up to and including the first written `.Response`.

    Conditions are ignored; an action that pipes the response into another command is kept whole.
    """
    return _Cut().body(body)


class _Cut:
    def __init__(self) -> None:
        self._done = False

    def body(self, body: Body) -> Body:
        kept = (self._node(node) for node in body)
        return tuple(node for node in kept if node is not None)

    def _node(self, node: Node) -> Node | None:
        if self._done:
            return None
        if isinstance(node, Branch):
            body = self.body(node.body)
            otherwise = None if node.otherwise is None else self.body(node.otherwise)
            return replace(node, body=body, otherwise=otherwise)
        if isinstance(node, Action):
            pipe = self._pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        return node

    def _pipe(self, pipe: Pipe) -> Pipe | None:
        """The pipeline without the words after the response; None if that empties a command."""
        commands: list[Command] = []
        for command in pipe.commands:
            words = [word for word in map(self._word, command.words) if word is not None]
            if not words:
                return None
            commands.append(Command(command.at, words[0], tuple(words[1:])))
        return replace(pipe, commands=tuple(commands))

    def _word(self, word: Node) -> Node | None:
        if isinstance(word, Field) and "Response" in word.path:
            self._done = True
            return word
        if self._done:
            return None
        return self._pipe(word) if isinstance(word, Pipe) else word
