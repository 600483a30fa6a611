"""The syntax tree. Nodes are immutable; `str()` is the source as Go's errors show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelfile.gotemplate.values import Value
from modelfile.text import quote


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `at` is its position in the source in characters, for errors."""

    at: int


Body = tuple[Node, ...]
"""The nodes of a block."""


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """`.`"""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil(Node):
    """`nil`"""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A literal with its source text. `constant` is None for an integer that overflows int."""

    text: str
    constant: Value | None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Bool(Literal):
    """`true` or `false`"""


@dataclass(frozen=True, slots=True)
class Number(Literal):
    """A number or character literal."""


@dataclass(frozen=True, slots=True)
class String(Literal):
    """A string literal in double quotes or backquotes."""


@dataclass(frozen=True, slots=True)
class Identifier(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`.A.B`: fields of dot."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.path)


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """`$x.A`: a variable, with its dollar sign first in `path`, and fields of it."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`(pipeline).A` or `function.A`: fields of an operand."""

    operand: Node
    path: tuple[str, ...]

    def __str__(self) -> str:
        return _argument(self.operand) + "".join(f".{name}" for name in self.path)


@dataclass(frozen=True, slots=True)
class Command(Node):
    """A head (function, field or value) with arguments."""

    head: Node
    arguments: tuple[Node, ...] = ()

    @property
    def words(self) -> tuple[Node, ...]:
        """The head and the arguments."""
        return (self.head, *self.arguments)

    def __str__(self) -> str:
        return " ".join(map(_argument, self.words))


@dataclass(frozen=True, slots=True)
class Pipe(Node):
    """Piped commands, and the variables that get the result."""

    commands: tuple[Command, ...]
    variables: tuple[Variable, ...] = ()
    assigns: bool = False
    """Whether the variables are assigned (`=`), not declared (`:=`)."""

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(map(str, self.variables))} {'=' if self.assigns else ':='} {commands}"


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Literal text."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Action(Node):
    """`{{pipeline}}`"""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """Base of `if`, `with` and `range`. `otherwise` is None without an `else`."""

    pipe: Pipe
    body: Body
    otherwise: Body | None = None

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else "{{else}}" + source(self.otherwise)
        return f"{{{{{type(self).__name__.lower()} {self.pipe}}}}}{source(self.body)}{otherwise}{{{{end}}}}"


@dataclass(frozen=True, slots=True)
class If(Branch):
    """`{{if}}`"""


@dataclass(frozen=True, slots=True)
class With(Branch):
    """`{{with}}`"""


@dataclass(frozen=True, slots=True)
class Range(Branch):
    """`{{range}}`"""


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`{{template "name" pipeline}}`, also from a `{{block}}`."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        argument = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{argument}}}}}"


@dataclass(frozen=True, slots=True)
class Break(Node):
    """`{{break}}`"""

    def __str__(self) -> str:
        return "{{break}}"


@dataclass(frozen=True, slots=True)
class Continue(Node):
    """`{{continue}}`"""

    def __str__(self) -> str:
        return "{{continue}}"


def source(body: Body) -> str:
    """The source of a body."""
    return "".join(map(str, body))


def _argument(node: Node) -> str:
    return f"({node})" if isinstance(node, Pipe) else str(node)


Place = tuple[Pipe, Body, Range | None]
"""A pipeline, its body, and the innermost loop around it (which may be its own)."""


def pipes(body: Body, loop: Range | None = None) -> Iterator[Place]:
    """All pipelines of actions, branches and calls, in source order."""
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
    """The fields and variables in a pipeline, also inside parentheses, but not fields of parentheses."""
    for command in pipe.commands:
        for word in command.words:
            if isinstance(word, Field | Variable):
                yield word
            elif isinstance(word, Pipe):
                yield from names(word)
