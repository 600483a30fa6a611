"""Walks over trees that several readers of templates share."""

from __future__ import annotations

from collections.abc import Iterator

from modelfile.gotemplate.nodes import Action, Body, Branch, Call, Field, Pipe, Range, Variable

Place = tuple[Pipe, Body, Range | None]
"""A pipeline, the body in which it stands, and the innermost loop around it (which may be its own)."""


def pipes(body: Body, loop: Range | None = None) -> Iterator[Place]:
    """All pipelines of actions, branches and calls, in the order of the source."""
    for node in body:
        match node:
            case Action(pipe=pipe) | Call(pipe=Pipe() as pipe):
                yield pipe, body, loop
            case Branch():
                inner = node if isinstance(node, Range) else loop
                yield node.pipe, body, inner
                yield from pipes(node.body, inner)
                yield from pipes(node.otherwise or (), inner)


def names(pipe: Pipe) -> Iterator[Field | Variable]:
    """The fields and variables that a pipeline uses, also in parentheses, but not what is asked of those."""
    for command in pipe.commands:
        for word in command.words:
            if isinstance(word, Field | Variable):
                yield word
            elif isinstance(word, Pipe):
                yield from names(word)
