"""Regular expressions as trees, and what they become: terminals of a grammar, which can intersect and negate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from engine.chat.regex.char_class import CharClass

REMEMBERED = 4096  # answers of each question about trees, which are patterns of users
LARGEST = 20_000  # characters of a translated pattern, with repetitions written out


class Untranslatable(ValueError):
    """Not a regular expression, or one that no automaton can follow. The message completes "the pattern …"."""


@dataclass(frozen=True, slots=True)
class Cat:
    """A sequence; without parts, the empty text."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """Alternatives; without any, nothing matches."""

    options: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; None for no upper limit."""

    body: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class And:
    """The intersection of all parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The complement."""

    body: Node


@dataclass(frozen=True, slots=True)
class Lookaround:
    """A look-ahead, or a look-behind if not `ahead`."""

    body: Node
    ahead: bool
    negative: bool


@dataclass(frozen=True, slots=True)
class Boundary:
    """`^`, `$`, `\\b` or `\\B`; `kind` is the last character."""

    kind: str


@dataclass(frozen=True, slots=True)
class Ref:
    """A rule of a grammar, by its name. Regular expressions have none."""

    name: str


Node = CharClass | Cat | Or | Repeat | And | Not | Lookaround | Boundary | Ref
EMPTY, NEVER = Cat(), Or()
START, END = Boundary("^"), Boundary("$")


def terminal(node: Node, *, quoted: bool) -> str:
    """A tree as an expression for a grammar's terminal; `quoted`: as the text stands in a JSON string."""
    text = _TerminalWriter(quoted).expression(node)
    if len(text) > LARGEST:
        raise Untranslatable("it is too large")
    return text


def cat(parts: Iterable[Node]) -> Node:
    """A sequence, flattened."""
    flat: list[Node] = []
    for part in parts:
        if part == NEVER:
            return NEVER
        flat += part.parts if isinstance(part, Cat) else [part]
    return flat[0] if len(flat) == 1 else Cat(tuple(flat))


def either(options: Iterable[Node]) -> Node:
    """Alternatives, flattened, without duplicates."""
    flat: dict[Node, None] = {}
    for option in options:
        flat |= dict.fromkeys(option.options if isinstance(option, Or) else [option])
    return next(iter(flat)) if len(flat) == 1 else Or(tuple(flat))


def example(node: Node) -> str:
    """A short text that a tree matches, if its assertions and complements are ignored."""
    match node:
        case CharClass():
            return node.first()
        case Cat(parts):
            return "".join(map(example, parts))
        case And(parts):
            return max(map(example, parts), key=len)
        case Or(options):
            return min(map(example, options), key=len, default="")
        case Repeat(body, least, _):
            return example(body) * least
    return ""


def literals(node: Node) -> list[str]:
    """The texts of more than one character that a tree has word for word."""
    match node:
        case Cat(parts):
            texts, run = [], ""
            for part in (*parts, EMPTY):
                code = part.single() if isinstance(part, CharClass) else None
                if code is None:
                    texts += [run] if len(run) > 1 else []
                    texts += literals(part) if part != EMPTY else []
                run = "" if code is None else run + chr(code)
            return texts
        case Or(parts) | And(parts):
            return [text for part in parts for text in literals(part)]
        case Repeat(body):
            return literals(body)
    return []


def size(node: Node) -> int:
    """Number of characters in a pattern, with repetitions written out."""
    match node:
        case Cat(parts) | And(parts) | Or(parts):
            return sum(map(size, parts))
        case Repeat(body, least, most):
            return size(body) * max(least, most or 0, 1)
        case Not(body) | Lookaround(body):
            return size(body)
    return 1


Lengths = tuple[int, int | None]
"""The least and the most characters of a text; None for no limit."""


@lru_cache(REMEMBERED)
def lengths(node: Node) -> Lengths | None:
    """The lengths of the texts that a tree matches; None if it matches none."""
    match node:
        case Cat(parts):
            known = [length for part in parts if (length := lengths(part)) is not None]
            return _added(known) if len(known) == len(parts) else None
        case Or(options):
            some = [length for option in options if (length := lengths(option)) is not None]
            ends = [most for _, most in some if most is not None]
            return (min(least for least, _ in some), max(ends) if len(ends) == len(some) else None) if some else None
        case Repeat(body, least, most):
            one = lengths(body)
            if one is None:
                return None if least else (0, 0)
            longest = 0 if one[1] == 0 or most == 0 else None if most is None or one[1] is None else one[1] * most
            return one[0] * least, longest
        case And(parts):
            return intersect_lengths([lengths(part) for part in parts])
        case CharClass():
            return None if node.is_empty else (1, 1)
    return (0, None)


def intersect_lengths(ranges: Iterable[Lengths | None]) -> Lengths | None:
    """The lengths that are in all of these ranges; None if there are none."""
    least, most = 0, None
    for limits in ranges:
        if limits is None:
            return None
        low, high = limits
        least = max(least, low)
        most = high if most is None else most if high is None else min(most, high)
    return None if most is not None and most < least else (least, most)


def _added(parts: list[Lengths]) -> Lengths:
    ends = [most for _, most in parts if most is not None]
    return sum(least for least, _ in parts), sum(ends) if len(ends) == len(parts) else None


@dataclass(frozen=True, slots=True)
class _TerminalWriter:
    """Writes trees in llguidance's dialect of Lark; `quoted`: as the text stands in a JSON string."""

    quoted: bool

    def expression(self, node: Node) -> str:
        """A node as part of a terminal's definition. Raises Untranslatable for assertions."""
        if _is_plain(node):
            text = self.regex(node)
            return f"/{text}/" if text else '""'
        match node:
            case Cat(parts):
                return f"({' '.join(map(self.expression, parts))})"
            case Or(options):
                return f"({' | '.join(map(self.expression, options))})"
            case And(parts):
                return f"({' & '.join(map(self.expression, parts))})"
            case Not(body):
                return f"~({self.expression(body)})"
            case Repeat(body, least, most):
                return f"({self.expression(body)}){{{least},{'' if most is None else most}}}"
        raise Untranslatable("it has an assertion where none can be")

    def regex(self, node: Node) -> str:
        """A node as a regular expression in Rust's syntax."""
        match node:
            case CharClass():
                return node.quoted() if self.quoted else node.bare()
            case Cat(parts):
                return "".join(
                    f"(?:{self.regex(part)})" if isinstance(part, Or) else self.regex(part) for part in parts
                )
            case Or(options):
                return "|".join(map(self.regex, options))
            case Repeat(body, least, most):
                times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get(
                    (least, most), f"{{{least},{'' if most is None else most}}}"
                )
                return f"(?:{self.regex(body)}){times}"
        raise Untranslatable("it has an assertion where none can be")


@lru_cache(REMEMBERED)
def _is_plain(node: Node) -> bool:
    """Whether a plain regular expression can say it, without `&` and `~`."""
    match node:
        case Cat(parts) | Or(parts):
            return all(map(_is_plain, parts))
        case Repeat(body):
            return _is_plain(body)
    return isinstance(node, CharClass)
