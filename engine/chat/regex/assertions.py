"""Rewrites assertions (`^`, `$`, `\\b`, look-ahead, look-behind) as intersections, which automata can follow.

That works for assertions that are not repeated and look at one side of the text up to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from engine.chat.regex import ecma
from engine.chat.regex.char_class import ANY_CHAR, WORD
from engine.chat.regex.nodes import (
    EMPTY,
    END,
    NEVER,
    REMEMBERED,
    START,
    And,
    Boundary,
    Cat,
    Lookaround,
    Node,
    Not,
    Or,
    Repeat,
    Untranslatable,
    cat,
    either,
)

MOST_ALTERNATIVES = 64  # that a pattern with assertions may expand into
ANYTHING = Repeat(ANY_CHAR, 0, None)


def search(pattern: str) -> Node:
    """The texts in which a pattern is found, as a tree without assertions. Raises Untranslatable."""
    return _whole(ecma.parse(pattern), before=ANYTHING, behind=ANYTHING)


def match_whole(pattern: str) -> Node:
    """The texts that a pattern matches from beginning to end, as a tree without assertions. Raises Untranslatable."""
    return _whole(ecma.parse(pattern), before=EMPTY, behind=EMPTY)


def _intersect(one: Node, other: Node) -> Node:
    if NEVER in (one, other):
        return NEVER
    if one == ANYTHING and not isinstance(other, Not):  # a complement needs it: it would match invalid text too
        return other
    return one if other == ANYTHING else And((one, other))


def _nullable(node: Node) -> bool:
    """Whether a node matches the empty text."""
    match node:
        case Cat(parts) | And(parts):
            return all(map(_nullable, parts))
        case Or(options):
            return any(map(_nullable, options))
        case Repeat(body, least, _):
            return least == 0 or _nullable(body)
        case Not(body):
            return not _nullable(body)
    return isinstance(node, Lookaround | Boundary)


@lru_cache(REMEMBERED)
def _asserts(node: Node) -> bool:
    match node:
        case Cat(parts) | And(parts) | Or(parts):
            return any(map(_asserts, parts))
        case Repeat(body) | Not(body):
            return _asserts(body)
    return isinstance(node, Lookaround | Boundary)


def _whole(node: Node, *, before: Node, behind: Node) -> Node:
    """A pattern between what may stand before and behind it."""
    return either(_sequence(list(sequence), before, behind) for sequence in _alternatives(node))


def _alternatives(node: Node) -> list[tuple[Node, ...]]:
    """A pattern as alternative sequences, none with an assertion inside of a part."""
    if not _asserts(node):
        return [(node,)]
    match node:
        case Or(options):
            alternatives = [sequence for option in options for sequence in _alternatives(option)]
        case Cat(parts):
            alternatives = [()]
            for part in parts:
                alternatives = [(*sequence, *more) for sequence in alternatives for more in _alternatives(part)]
                if len(alternatives) > MOST_ALTERNATIVES:
                    raise Untranslatable("it has too many alternatives around assertions")
        case Repeat(body, 1, 1):
            alternatives = _alternatives(body)
        case Repeat(body, 0, 1):
            alternatives = [(), *_alternatives(body)]
        case Repeat():
            raise Untranslatable("it repeats an assertion")
        case _:
            alternatives = [(node,)]
    if len(alternatives) > MOST_ALTERNATIVES:
        raise Untranslatable("it has too many alternatives around assertions")
    return alternatives


def _sequence(parts: list[Node], before: Node, behind: Node) -> Node:
    """A sequence between what may stand around it; `^` and `$` in it leave nothing there."""
    if START in parts:
        last = len(parts) - 1 - parts[::-1].index(START)
        if not all(map(_nullable, parts[:last])):
            return NEVER
        looks: list[Node] = [
            part for part in parts[:last] if isinstance(part, Lookaround | Boundary) and part not in (START, END)
        ]
        if any(isinstance(part, Lookaround) and not part.ahead for part in looks) or END in parts[:last]:
            raise Untranslatable("it looks beyond its beginning")
        parts, before = looks + parts[last + 1 :], EMPTY
    if END in parts:
        first = parts.index(END)
        if not all(map(_nullable, parts[first:])):
            return NEVER
        looks = [part for part in parts[first:] if isinstance(part, Lookaround | Boundary) and part != END]
        if any(isinstance(part, Lookaround) and part.ahead for part in looks):
            raise Untranslatable("it looks beyond its end")
        parts, behind = parts[:first] + looks, EMPTY
    return _asserted([before, *parts, behind], first=True)


def _asserted(parts: Sequence[Node], *, first: bool) -> Node:
    """A sequence with its assertions rewritten; `first`: nothing stands before it."""
    place = next((n for n, part in enumerate(parts) if isinstance(part, Lookaround | Boundary)), None)
    if place is None:
        return cat(parts)
    left, mark = cat(parts[:place]), parts[place]
    if left == EMPTY and not first:
        first = False  # what stands before is not known here
    right = _asserted(parts[place + 1 :], first=first and left == EMPTY)
    if isinstance(mark, Lookaround) and mark.ahead:
        seen = _whole(mark.body, before=EMPTY, behind=ANYTHING)
        return cat([left, _intersect(right, Not(seen) if mark.negative else seen)])
    if not first and _nullable(left):
        raise Untranslatable("it looks back over a part that may be empty")
    if isinstance(mark, Lookaround):
        if not first:
            raise Untranslatable("it looks back over another assertion")
        seen = _whole(mark.body, before=ANYTHING, behind=EMPTY)
        return cat([_intersect(left, Not(seen) if mark.negative else seen), right])
    assert isinstance(mark, Boundary)
    return _at_boundary(left, right, within=mark.kind == "B")


def _at_boundary(left: Node, right: Node, *, within: bool) -> Node:
    """Texts on both sides of `\\b`, or of `\\B` if `within`."""
    other = WORD.complement()
    ends = (cat([ANYTHING, WORD]), either([EMPTY, cat([ANYTHING, other])]))
    begins = (cat([WORD, ANYTHING]), either([EMPTY, cat([other, ANYTHING])]))
    if not within:
        begins = begins[::-1]
    pairs = zip(ends, begins, strict=True)
    return either(cat([_intersect(left, end), _intersect(right, begin)]) for end, begin in pairs)
