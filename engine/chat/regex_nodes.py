"""Regular expressions as trees, and what grammars make of them: terminals that can intersect and negate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from engine.chat.char_class import CharClass

LARGEST = 20_000  # characters of a translated pattern, with its repetitions written out


class Untranslatable(ValueError):
    """The pattern is no regular expression, or one that no automaton follows."""


@dataclass(frozen=True, slots=True)
class Cat:
    """One after the other; without any, the empty text."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """One of them; without any, nothing matches."""

    ways: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """At least `least` times, and at most `most` times unless that is None."""

    body: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class And:
    """All of them at once."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Whatever does not match."""

    body: Node


@dataclass(frozen=True, slots=True)
class Look:
    """Look-ahead, or look-behind if not `ahead`."""

    body: Node
    ahead: bool
    negative: bool


@dataclass(frozen=True, slots=True)
class Boundary:
    """`^`, `$`, `\\b` or `\\B`, by its last character."""

    kind: str


Node = CharClass | Cat | Or | Repeat | And | Not | Look | Boundary
EMPTY, NEVER = Cat(), Or()
START, END = Boundary("^"), Boundary("$")


def terminal(node: Node, *, quoted: bool) -> str:
    """A pattern as an expression of a grammar's terminal; `quoted`: as the text stands between the quotes of JSON."""
    found = _Writer(quoted).expression(node)
    if len(found) > LARGEST:
        raise Untranslatable("it is too large")
    return found


def cat(parts: Iterable[Node]) -> Node:
    """Parts in a row, flattened."""
    flat: list[Node] = []
    for part in parts:
        if part == NEVER:
            return NEVER
        flat += part.parts if isinstance(part, Cat) else [part]
    return flat[0] if len(flat) == 1 else Cat(tuple(flat))


def either(ways: Iterable[Node]) -> Node:
    """One of several, flattened."""
    flat: dict[Node, None] = {}
    for way in ways:
        flat |= dict.fromkeys(way.ways if isinstance(way, Or) else [way])
    return next(iter(flat)) if len(flat) == 1 else Or(tuple(flat))


def example(node: Node) -> str:
    """A short text that a pattern is about: it matches, but for what assertions say."""
    match node:
        case CharClass():
            return node.first()
        case Cat(parts):
            return "".join(map(example, parts))
        case And(parts):
            return max(map(example, parts), key=len)
        case Or(ways):
            return min(map(example, ways), key=len, default="")
        case Repeat(body, least, _):
            return example(body) * least
    return ""


def size(node: Node) -> int:
    """How many characters a pattern has, its repetitions written out."""
    match node:
        case Cat(parts) | And(parts) | Or(parts):
            return sum(map(size, parts))
        case Repeat(body, least, most):
            return size(body) * max(least, most or 0, 1)
        case Not(body) | Look(body):
            return size(body)
    return 1


@dataclass(frozen=True, slots=True)
class _Writer:
    quoted: bool

    def expression(self, node: Node) -> str:
        """A node as part of a terminal's definition."""
        if _is_plain(node):
            text = self.regex(node)
            return f"/{text}/" if text else '""'
        match node:
            case Cat(parts):
                return f"({' '.join(map(self.expression, parts))})"
            case Or(ways):
                return f"({' | '.join(map(self.expression, ways))})"
            case And(parts):
                return f"({' & '.join(map(self.expression, parts))})"
            case Not(body):
                return f"~({self.expression(body)})"
            case Repeat(body, least, most):
                return f"({self.expression(body)}){{{least},{'' if most is None else most}}}"
        raise Untranslatable("it has an assertion where none can be")

    def regex(self, node: Node) -> str:
        """A node as a regular expression, as the grammar library reads them."""
        match node:
            case CharClass():
                return node.quoted() if self.quoted else node.bare()
            case Cat(parts):
                return "".join(
                    f"(?:{self.regex(part)})" if isinstance(part, Or) else self.regex(part) for part in parts
                )
            case Or(ways):
                return "|".join(map(self.regex, ways))
            case Repeat(body, least, most):
                times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get(
                    (least, most), f"{{{least},{'' if most is None else most}}}"
                )
                return f"(?:{self.regex(body)}){times}"
        raise Untranslatable("it has an assertion where none can be")


@cache
def _is_plain(node: Node) -> bool:
    match node:
        case Cat(parts) | Or(parts):
            return all(map(_is_plain, parts))
        case Repeat(body):
            return _is_plain(body)
    return isinstance(node, CharClass)
