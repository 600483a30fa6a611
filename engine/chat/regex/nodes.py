"""Regular expressions as trees, and what grammars make of them: terminals that can intersect and negate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from engine.chat.regex.char_class import CharClass

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


Lengths = tuple[int, int | None]
"""The fewest and the most characters of texts; None for any number."""


@cache
def lengths(node: Node) -> Lengths | None:
    """How long texts are that a pattern matches, at least and at most; None where none can be."""
    match node:
        case Cat(parts):
            known = [found for part in parts if (found := lengths(part)) is not None]
            return _added(known) if len(known) == len(parts) else None
        case Or(ways):
            some = [found for way in ways if (found := lengths(way)) is not None]
            ends = [most for _, most in some if most is not None]
            return (min(least for least, _ in some), max(ends) if len(ends) == len(some) else None) if some else None
        case Repeat(body, least, most):
            one = lengths(body)
            if one is None:
                return None if least else (0, 0)
            longest = 0 if one[1] == 0 or most == 0 else None if most is None or one[1] is None else one[1] * most
            return one[0] * least, longest
        case And(parts):
            return common([lengths(part) for part in parts])
    return (1, 1) if isinstance(node, CharClass) else (0, None)


def common(all_: Iterable[Lengths | None]) -> Lengths | None:
    """The lengths that texts of all these lengths have; None where none has."""
    least, most = 0, None
    for each in all_:
        if each is None:
            return None
        least = max(least, each[0])
        most = each[1] if most is None else most if each[1] is None else min(most, each[1])
    return None if most is not None and most < least else (least, most)


def _added(parts: list[Lengths]) -> Lengths:
    ends = [most for _, most in parts if most is not None]
    return sum(least for least, _ in parts), sum(ends) if len(ends) == len(parts) else None


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
