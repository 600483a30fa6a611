"""The syntax tree. Nodes are immutable; `str()` of one is its source, in the one form that Go's errors show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelfile.gotemplate.quoting import quote
from modelfile.gotemplate.values import Value


@dataclass(frozen=True, slots=True)
class Node:
    """Anything in the tree. `at` is the place in the source that errors name, in characters."""

    at: int


Body = tuple[Node, ...]
"""What stands between two control actions."""


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
    """A value that is written out, with its text. `constant` is None for an integer that fits no int."""

    text: str
    constant: Value | None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Bool(Literal):
    """`true` or `false`"""


@dataclass(frozen=True, slots=True)
class Number(Literal):
    """A number or character."""


@dataclass(frozen=True, slots=True)
class String(Literal):
    """A string in double quotes or backquotes."""


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
    """`$x.A`: a variable (its name with the dollar sign comes first) and perhaps fields of it."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`(pipeline).A` or `function.A`: fields of something that is evaluated first."""

    operand: Node
    path: tuple[str, ...]

    def __str__(self) -> str:
        return _argument(self.operand) + "".join(f".{name}" for name in self.path)


@dataclass(frozen=True, slots=True)
class Command(Node):
    """A function, field or value (the head) with its arguments."""

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
    """Commands that hand on their results, and the variables that take the last one."""

    commands: tuple[Command, ...]
    variables: tuple[Variable, ...] = ()
    assigns: bool = False
    """The variables exist already."""

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(map(str, self.variables))} {'=' if self.assigns else ':='} {commands}"


@dataclass(frozen=True, slots=True)
class Text(Node):
    """What is copied as it stands."""

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
    """What `if`, `with` and `range` have in common. `otherwise` is None without an `else`."""

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
    """`{{template "name" pipeline}}`, also what is left of a `{{block}}`."""

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
    """The source of several nodes."""
    return "".join(map(str, body))


def _argument(node: Node) -> str:
    return f"({node})" if isinstance(node, Pipe) else str(node)


# Walks over trees that several readers of templates share.

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
