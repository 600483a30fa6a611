"""Static analysis of templates: thinking tags, tool call tags."""

from __future__ import annotations

from modelfile.gotemplate.nodes import Action, Body, Branch, Call, Field, If, Node, Pipe, Text, names, pipes
from modelfile.gotemplate.template import Template
from modelfile.text import SPACES


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
