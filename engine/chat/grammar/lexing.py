"""Whether terminals can be read as a lexer does: always the longest one, by the next byte alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.chat.regex.char_class import CharClass
from engine.chat.regex.nodes import Cat, Node, Or, Repeat

_MOST_WORK = 100_000  # positions that are followed, counted each time

Bytes = int
"""A set of bytes, bit n for byte n."""


def first_bytes(characters: CharClass) -> Bytes:
    """The bytes that characters of a set without properties begin with in UTF-8."""
    found = 0
    for first, last in characters.ranges:
        low, high = _first_byte(first), _first_byte(last)
        found |= (1 << (high + 1)) - (1 << low)
    return found


def _first_byte(code: int) -> int:
    for below, shift, mark in ((0x80, 0, 0), (0x800, 6, 0xC0), (0x10000, 12, 0xE0)):
        if code < below:
            return mark | code >> shift
    return 0xF0 | code >> 18


def find_conflicts(followed_by: Mapping[Node, Bytes]) -> dict[Node, int] | None:
    """The terminals that a lexer could go on with where it should end another one; None if there is too much to try.

    For each, before which of its parts it should be cut, if it is a sequence. `followed_by` has all terminals, by their
    trees, and for each the bytes that may follow it. Characters are taken
    for their first bytes and repetitions for unlimited ones, so that rather too many are found.
    """
    if not any(followed_by.values()):
        return {}
    automata = [_Automaton.of(tree) for tree in followed_by]  # below, terminals are numbers
    behind = list(followed_by.values())
    work = _MOST_WORK - sum(sum(map(len, automaton.after)) for automaton in automata)
    start = frozenset((n, place) for n, automaton in enumerate(automata) for place in automaton.first)
    cuts: dict[int, int] = {}
    seen: set[frozenset[tuple[int, int]]] = set()
    waiting = [start]
    while waiting:
        following: list[tuple[int, int]] = list(waiting.pop())  # places that the next byte may be at
        for places in _by_byte(following, automata):
            if places in seen:
                continue
            seen.add(places)
            steps = [(n, at, place) for n, at in places for place in automata[n].after[at]]
            work -= 1 + len(places) + len(steps)
            if work < 0:
                return None
            ends = 0
            for n, at in places:
                if at in automata[n].last:
                    ends |= behind[n]
            for n, _, place in steps:
                if automata[n].bytes_at[place] & ends:
                    cuts[n] = max(cuts.get(n, 1), automata[n].part_of(place))
            if steps:
                waiting.append(frozenset((n, place) for n, _, place in steps))
    trees = list(followed_by)
    return {trees[n]: cut for n, cut in cuts.items()}


def _by_byte(places: Iterable[tuple[int, int]], automata: list[_Automaton]) -> set[frozenset[tuple[int, int]]]:
    """The sets of those places that some byte can be at."""
    groups: dict[Bytes, list[tuple[int, int]]] = {}
    for n, place in places:
        members = automata[n].bytes_at[place]
        for known in list(groups):
            both = known & members
            if not both:
                continue
            members &= ~known
            owners = groups[known]
            if both != known:
                groups[known & ~both] = groups.pop(known)
                owners = [*owners]
            groups[both] = owners
            owners.append((n, place))
        if members:
            groups[members] = [(n, place)]
    return {frozenset(group) for group in groups.values()}


@dataclass(slots=True)
class _Automaton:
    """A tree's characters as places (Glushkov's automaton): which come first and last, and which behind each.

    `parts`: the first place of each part of a sequence.
    """

    bytes_at: list[Bytes]
    after: list[set[int]]
    first: set[int]
    last: set[int]
    parts: list[int]

    @classmethod
    def of(cls, tree: Node) -> _Automaton:
        """The automaton of a regular tree."""
        automaton = cls([], [], set(), set(), [])
        automaton.first, automaton.last, _ = automaton._add(tree, outermost=True)
        return automaton

    def part_of(self, place: int) -> int:
        """Which part of the sequence a place is in."""
        return bisect_right(self.parts, place) - 1

    def _add(self, node: Node, *, outermost: bool = False) -> tuple[set[int], set[int], bool]:
        """Add the places of a tree: returns the first ones, the last ones, and whether it may be empty."""
        match node:
            case CharClass():
                place = len(self.bytes_at)
                self.bytes_at.append(first_bytes(node))
                self.after.append(set())
                return {place}, {place}, False
            case Cat(parts):
                first: set[int] = set()
                last: set[int] = set()
                nullable = True
                for part in parts:
                    if outermost:
                        self.parts.append(len(self.bytes_at))
                    begins, ends, empty = self._add(part)
                    self._join(last, begins)
                    first |= begins if nullable else set()
                    last = last | ends if empty else ends
                    nullable &= empty
                return first, last, nullable
            case Or(parts):
                first, last, nullable = set(), set(), False
                for part in parts:
                    begins, ends, empty = self._add(part)
                    first |= begins
                    last |= ends
                    nullable |= empty
                return first, last, nullable
            case Repeat(body, least, most):
                first, last, nullable = self._add(body)
                if most is None or most > 1:
                    self._join(last, first)
                return first, last, nullable or least == 0
        raise TypeError(type(node))

    def _join(self, ends: Iterable[int], begins: set[int]) -> None:
        for place in ends:
            self.after[place] |= begins
