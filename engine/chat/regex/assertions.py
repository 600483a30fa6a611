"""Patterns without assertions: what `^`, `$`, `\\b`, look-ahead and look-behind say, said by intersections.

That can be done where they are not repeated, and look at what stands on one side of them up to the text's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from engine.chat.regex import ecma
from engine.chat.regex.char_class import ANY_CHAR, WORD
from engine.chat.regex.nodes import (
    EMPTY,
    END,
    NEVER,
    START,
    And,
    Boundary,
    Cat,
    Look,
    Node,
    Not,
    Or,
    Repeat,
    Untranslatable,
    cat,
    either,
)

MOST_WAYS = 64  # alternatives that a pattern with assertions may be taken apart into
ANYTHING = Repeat(ANY_CHAR, 0, None)


def search(pattern: str) -> Node:
    """The texts in which a pattern is found, without any assertions. Raises Untranslatable."""
    return _whole(ecma.parse(pattern), before=ANYTHING, behind=ANYTHING)


def _both(one: Node, other: Node) -> Node:
    if NEVER in (one, other):
        return NEVER
    if one == ANYTHING and not isinstance(other, Not):  # which knows nothing of what is a character
        return other
    return one if other == ANYTHING else And((one, other))


def _nullable(node: Node) -> bool:
    """Whether a part may be empty."""
    match node:
        case Cat(parts) | And(parts):
            return all(map(_nullable, parts))
        case Or(ways):
            return any(map(_nullable, ways))
        case Repeat(body, least, _):
            return least == 0 or _nullable(body)
        case Not(body):
            return not _nullable(body)
    return isinstance(node, Look | Boundary)


@cache
def _asserts(node: Node) -> bool:
    match node:
        case Cat(parts) | And(parts) | Or(parts):
            return any(map(_asserts, parts))
        case Repeat(body) | Not(body):
            return _asserts(body)
    return isinstance(node, Look | Boundary)


def _whole(node: Node, *, before: Node, behind: Node) -> Node:
    return either(_sequence(list(way), before, behind) for way in _ways(node))


def _ways(node: Node) -> list[tuple[Node, ...]]:
    """A pattern as alternatives, none of them with an assertion inside of a part."""
    if not _asserts(node):
        return [(node,)]
    match node:
        case Or(ways):
            found = [way for each in ways for way in _ways(each)]
        case Cat(parts):
            found = [()]
            for part in parts:
                found = [(*way, *more) for way in found for more in _ways(part)]
                if len(found) > MOST_WAYS:
                    raise Untranslatable("it has too many alternatives around assertions")
        case Repeat(body, 1, 1):
            found = _ways(body)
        case Repeat(body, 0, 1):
            found = [(), *_ways(body)]
        case Repeat():
            raise Untranslatable("it repeats an assertion")
        case _:
            found = [(node,)]
    if len(found) > MOST_WAYS:
        raise Untranslatable("it has too many alternatives around assertions")
    return found


def _sequence(parts: list[Node], before: Node, behind: Node) -> Node:
    """Parts between what may stand around them; what begins or ends the text leaves nothing there."""
    if START in parts:
        last = len(parts) - 1 - parts[::-1].index(START)
        if not all(map(_nullable, parts[:last])):
            return NEVER
        looks: list[Node] = [
            part for part in parts[:last] if isinstance(part, Look | Boundary) and part not in (START, END)
        ]
        if any(isinstance(part, Look) and not part.ahead for part in looks) or END in parts[:last]:
            raise Untranslatable("it looks beyond its beginning")
        parts, before = looks + parts[last + 1 :], EMPTY
    if END in parts:
        first = parts.index(END)
        if not all(map(_nullable, parts[first:])):
            return NEVER
        looks = [part for part in parts[first:] if isinstance(part, Look | Boundary) and part != END]
        if any(isinstance(part, Look) and part.ahead for part in looks):
            raise Untranslatable("it looks beyond its end")
        parts, behind = parts[:first] + looks, EMPTY
    return _asserted([before, *parts, behind], first=True)


def _asserted(parts: Sequence[Node], *, first: bool) -> Node:
    """Parts with what their assertions demand; `first`: nothing stands before them."""
    place = next((n for n, part in enumerate(parts) if isinstance(part, Look | Boundary)), None)
    if place is None:
        return cat(parts)
    left, mark = cat(parts[:place]), parts[place]
    if left == EMPTY and not first:
        first = False  # what stands before is out of sight
    right = _asserted(parts[place + 1 :], first=first and left == EMPTY)
    if isinstance(mark, Look) and mark.ahead:
        seen = _whole(mark.body, before=EMPTY, behind=ANYTHING)
        return cat([left, _both(right, Not(seen) if mark.negative else seen)])
    if not first and _nullable(left):
        raise Untranslatable("it looks back over a part that may be empty")
    if isinstance(mark, Look):
        if not first:
            raise Untranslatable("it looks back over another assertion")
        seen = _whole(mark.body, before=ANYTHING, behind=EMPTY)
        return cat([_both(left, Not(seen) if mark.negative else seen), right])
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
    return either(cat([_both(left, end), _both(right, begin)]) for end, begin in pairs)
