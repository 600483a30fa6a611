"""A parsed template, and what static analysis tells about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.gotemplate.evaluator import Evaluator, MissingKey
from modelfile.gotemplate.executor import Executor
from modelfile.gotemplate.functions import FUNCTIONS
from modelfile.gotemplate.limits import Buffer
from modelfile.gotemplate.nodes import Action, Body, Branch, Call, Field, If, Node, Pipe, Text, names, pipes
from modelfile.gotemplate.parser import parse
from modelfile.gotemplate.values import value_of
from modelfile.text import SPACES


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. Immutable and thread-safe."""

    source: str
    bodies: Mapping[str, Body]
    """By name; the template itself has the empty name."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Parse a template. Raises TemplateSyntaxError."""
        return cls(source, parse(source, FUNCTIONS))

    @property
    def root(self) -> Body:
        """The body of the template itself."""
        return self.bodies[""]

    def variables(self) -> tuple[str, ...]:
        """The names of all fields and variables, also of nested definitions, lower case and sorted."""
        places = (place for body in self.bodies.values() for place in pipes(body))
        return tuple(sorted({name.lower() for pipe, _, _ in places for node in names(pipe) for name in node.path}))

    def with_root(self, body: Body) -> Template:
        """The template with another root body."""
        return Template(self.source, {**self.bodies, "": body})

    def write(self, data: Any, output: Buffer, missing_key: MissingKey = MissingKey.ZERO) -> None:
        """Execute on `data` (decoded JSON, a `Value`, or a mapping of these) and append to `output`.

        Several executions may share an output. Raises TemplateExecError, or TemplateLimitError at its limits.
        """
        dot = value_of(data)
        evaluator = Evaluator("", self.source, dot, output.budget, missing_key)
        Executor(self.bodies, evaluator, output).run(self.root, dot)


def calls_without_argument(template: Template) -> bool:
    """Whether any `{{template "x"}}` has no argument."""
    return any(_has_bare_call(body) for body in template.bodies.values())


def infer_think_tags(template: Template) -> tuple[str, str]:
    """The opening and closing text around `.Thinking` inside the range over `.Messages`.

    Each is empty if unknown. Of several places the last one wins.
    """
    opening = closing = ""
    for pipe, body, loop in pipes(template.root):
        if loop is not None and _mentions(loop.pipe, "Messages") and _mentions(pipe, "Thinking"):
            opening = _tag(body[0], opening)
            closing = _tag(body[-1], closing)
    return opening, closing


def tool_tag(template: Template) -> str:
    """The text with which the template starts tool calls; `{` for bare JSON or if unknown."""
    branch = _find_tool_calls(template.root)
    text = None if branch is None else _first_text(branch.body)
    if text is None:
        return "{"
    return text.text.replace("\r\n", "\n").partition("{")[0].strip(SPACES) or "{"


def _has_bare_call(body: Body) -> bool:
    return any(
        (isinstance(node, Call) and node.pipe is None)
        or (isinstance(node, Branch) and (_has_bare_call(node.body) or _has_bare_call(node.otherwise or ())))
        for node in body
    )


def _mentions(pipe: Pipe, field: str) -> bool:
    return any(isinstance(node, Field) and node.path[0] == field for node in names(pipe))


def _tag(node: Node, otherwise: str) -> str:
    return node.text.strip(SPACES) if isinstance(node, Text) else otherwise


def _find_tool_calls(body: Body) -> If | None:
    """The first `if` on `.ToolCalls`."""
    for node in body:
        if isinstance(node, If) and _asks_for_tool_calls(node.pipe):
            return node
        if isinstance(node, Branch):
            branch = _find_tool_calls(node.body) or _find_tool_calls(node.otherwise or ())
            if branch is not None:
                return branch
    return None


def _asks_for_tool_calls(pipe: Pipe) -> bool:
    words = (word for command in pipe.commands for word in command.words)
    return any(isinstance(word, Field) and "ToolCalls" in word.path for word in words)


def _first_text(body: Body) -> Text | None:
    """The first text that is not blank, unless an action comes before it."""
    for node in body:
        match node:
            case Text() if node.text.strip(SPACES):
                return node
            case Branch():
                return _first_text(node.body) or _first_text(node.otherwise or ())
            case Action():
                return None
    return None
