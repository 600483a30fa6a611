"""How an answer with a grammar can be brought to its end: the shortest text that completes it, found by search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llguidance import LLMatcher

LONGEST = 512  # tokens; what needs more has no end
BYTES = 256
END = BYTES  # the step that ends an answer
FIRST_MARK = BYTES + 1
MOST_MARKS = 63
STEPS = FIRST_MARK + MOST_MARKS
"""A step is a byte of text, the end, or one of the marks that are control tokens."""

_PARTS, _LEAST_TRIED = 4, 2_500  # of all tries, what one search may have, and what it has at least
MOST_STATES = 100  # that are as far from the beginning
_MANY = 80  # characters; where more may come any text may
_LONGEST_TOKEN = 48  # bytes of tokens that an ending is written in
_WORDS = -(-STEPS // 32)
_SIGN = 4
_SPACE, _PRINTABLE = frozenset(b" \t\r\n"), frozenset(range(0x21, 0x7F))
_STRUCTURE, _OPENING, _CLOSING = frozenset(b"{}[],:"), frozenset(b"{["), frozenset(b"}]")
_UNQUOTED = frozenset(b'{}[],:"-+.0123456789truefalsnE')  # all that JSON has outside of texts
_DIGITS, _BEGINNING, _TAG = frozenset(b"0123456789"), frozenset(b"-{["), ord("<")
_LATE = 32  # steps by which one of several values may be longer than another
_LATE_TO_END = 8  # the same for the rest of a text or a number
_LATE_TO_CLOSE = 4  # the same for all that is between two brackets
_FAR = 24  # steps that are looked at to tell states apart
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_LOWER = 0x20
_FEW = 8  # letters that may come, where each may lead elsewhere
_QUOTE, _BACKSLASH, _LINE_FEED = ord('"'), ord("\\"), ord("\n")
_FREE = frozenset(b"!~x")  # where one of these may come, a quote does not begin a text

Path = tuple[int, ...]
"""Steps that follow each other."""


class Memory(Enum):
    """What the text of a state tells about what it still needs, beside what may follow: nothing, the kinds of
    characters in it (passwords must have some of each), its last signs (addresses have a certain one), or its last
    characters."""

    NOTHING = auto()
    KINDS = auto()
    SIGNS = auto()
    LAST = auto()


_STALE = 64  # steps without anything new, behind which a search is first given up
_PLANS = (
    (Memory.NOTHING, _STALE),
    (Memory.KINDS, _STALE),
    (Memory.NOTHING, LONGEST * 8),
    (Memory.SIGNS, _STALE),
    (Memory.LAST, _STALE),
)
"""How the end is searched for, one after the other: what states remember, and when nothing more is expected."""


@dataclass(slots=True)
class _State:
    """Where a search has come to, and what it remembers of the text since the last quote.

    `forced` are the next steps as long as only one may come, `_FAR` at most. `origin` is the number of the state behind
    the last bracket, comma or colon of JSON, `open` are those behind the brackets that are still open; `quoted`: in a
    text.
    """

    matcher: LLMatcher
    path: Path
    allowed: bytes
    memory: Path
    forced: Path
    origin: int
    open: tuple[int, ...]
    quoted: bool


class EndFinder:
    """Finds short ends of answers in one vocabulary, whose `pieces` are the texts of its tokens, "" for control tokens.

    Immutable; may be used from any thread.
    The search goes through a matcher of the same grammar whose tokens are `STEPS`: that is a hundred times faster than
    with the model's tokens, and states can be told apart by what may follow.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._tokens: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            if 0 < len(piece) <= _LONGEST_TOKEN:
                self._tokens.setdefault(piece, token)
        self._longest = max(map(len, self._tokens), default=0)

    def shortest(
        self, matcher: LLMatcher, closings: Sequence[bytes], examples: Sequence[bytes], signs: bytes, tries: int
    ) -> Path | None:
        """The steps of a shortest end; None where so many tries find none.

        The matcher stays as it is.

        `closings` are texts by which parts end that may have anything in them, `examples` those that patterns ask for.
        `signs` stand in marks that are text: they say nothing of where JSON has come to.
        """
        most = max(tries // _PARTS, _LEAST_TRIED)
        for plan, guess in product(_PLANS, (True, False)):
            search = _Search(closings, examples, _STRUCTURE.difference(signs), min(tries, most), *plan)
            found = search.run(matcher, trusts_quotes=guess)
            if found is not None:
                return found
            tries -= search.tried
        return None

    def written(self, path: Path, marks: Sequence[int]) -> list[int] | None:
        """A path in as few tokens as can be, `marks` being the control tokens; None if it cannot be written."""
        found: list[int] = []
        text = bytearray()
        for step in (*path, END):
            if step < BYTES:
                text.append(step)
                continue
            tokens = self._split(bytes(text))
            if tokens is None:
                return None
            found += tokens
            found += [marks[step - FIRST_MARK]] if step >= FIRST_MARK else []
            text.clear()
        return found

    def _split(self, text: bytes) -> list[int] | None:
        """A text in as few tokens as can be."""
        best: list[tuple[int, int, int] | None] = [(0, 0, 0)]  # of each beginning: how many, the last one and its size
        for end in range(1, len(text) + 1):
            ways = (
                (before[0] + 1, token, size)
                for size in range(1, min(self._longest, end) + 1)
                if (before := best[end - size]) is not None
                and (token := self._tokens.get(text[end - size : end])) is not None
            )
            best.append(min(ways, default=None))
        found: list[int] = []
        end = len(text)
        while end:
            last = best[end]
            if last is None:
                return None
            found.append(last[1])
            end -= last[2]
        return found[::-1]


class _Search:
    """Goes one step further at a time, from all states that differ.

    They differ by what may follow and by what is remembered. Behind a bracket, a comma or a colon only the grammar
    counts: of the ways to there from one such place to the next, the shortest one is kept.
    """

    def __init__(
        self,
        closings: Sequence[bytes],
        examples: Sequence[bytes],
        structure: frozenset[int],
        tries: int,
        memory: Memory,
        stale: int,
    ) -> None:
        self._closings = closings
        self._structure = structure
        self._examples = [tuple(way) for text in examples for way in (text, b" " + text)]
        self._memory = memory
        self._stale = stale
        self._left = self._given = tries
        self._mask = np.zeros(_WORDS, np.uint32)
        self._address = self._mask.ctypes.data
        self._telling: dict[Hashable, list[int]] = {}  # the steps that lead to different states, by what is allowed
        self._levels: dict[int, dict[Hashable, _State]] = {}
        self._reached: set[Hashable] = set()
        self._left_at: dict[int, int] = {}  # how far away each origin was left behind for the first time
        self._closed_at: dict[int, int] = {}  # and each bracket closed, by the number of the state behind it
        self._found: Path | None = None

    @property
    def tried(self) -> int:
        """How many steps were tried."""
        return self._given - self._left

    def run(self, matcher: LLMatcher, *, trusts_quotes: bool) -> Path | None:
        """The shortest path to the end. Whether it begins within a text of JSON is guessed, and the guess trusted."""
        level = last_news = known = 0
        start = matcher.deep_copy()
        allowed = self._following(start)
        if not allowed:
            return None
        if _has(allowed, END):
            return ()
        forced = self._ahead(start)
        quoted = self._begins_quoted(start, allowed, forced) is trusts_quotes
        self._add(_State(start, (), allowed, (), forced, 0, (-1,), quoted))
        while self._levels and level - last_news < self._stale:
            if known < len(self._telling) + len(self._reached):
                known, last_news = len(self._telling) + len(self._reached), level
            states = list(self._levels.pop(level, {}).values())
            if all(state.forced for state in states):  # on the way from one choice to the next
                last_news += 1
            if len(states) > 1:
                often = Counter(state.allowed for state in states)
                states.sort(key=lambda state: often[state.allowed])
                states = [state for state in states if not self._is_late(state, level)]
            for state in states[:MOST_STATES]:
                if self._left <= 0:
                    return None
                self._expand(state)
                if self._found is not None:
                    return self._found
            level += 1
        return None

    def _begins_quoted(self, matcher: LLMatcher, allowed: bytes, forced: Path) -> bool:
        """Whether this seems to be within a text of JSON: what comes would not do outside, or a quote ends it."""
        if _QUOTE not in forced:
            steps = frozenset(forced or _steps(allowed))
            if _TAG in steps or _is_free(allowed):
                return False
            return bool(steps & _PRINTABLE - _UNQUOTED) or (
                _QUOTE in steps and bool(steps & _DIGITS) and not steps & _BEGINNING
            )
        ahead = forced[: forced.index(_QUOTE) + 1]
        matcher.consume_tokens(list(ahead))
        following = _steps(self._following(matcher))
        matcher.rollback(len(ahead))
        return all(step in _STRUCTURE or step in _SPACE for step in following)

    def _is_late(self, state: _State, level: int) -> bool:
        """Whether the same place has been reached by a shorter way long ago."""
        chosen = self._memory is not Memory.NOTHING or state.memory  # among names or values, it may lead elsewhere
        if level - self._left_at.get(state.origin, level) > (_LATE if chosen else _LATE_TO_END):
            return True
        return any(level - self._closed_at.get(bracket, level) > _LATE_TO_CLOSE for bracket in state.open)

    def _add(self, state: _State) -> bool:
        key = (state.allowed, state.memory, state.forced, state.origin)
        return self._levels.setdefault(len(state.path), {}).setdefault(key, state) is state

    def _expand(self, state: _State) -> None:
        if _is_free(state.allowed):  # which more text would not end
            ways: list[Path] = [(step,) for step in _steps(state.allowed) if step >= FIRST_MARK]
            ways += [tuple(text) for text in self._closings]
            found = [self._try(state, way) for way in ways]
            if any(found):
                return
        if state.quoted and self._examples and not _has(state.allowed, _QUOTE):
            for way in self._examples:
                if (allowed := self._try(state, way)) and _has(allowed, _QUOTE):
                    break
        steps = self._telling.get((state.allowed, state.quoted))
        if steps is not None:
            for step in steps:
                self._try(state, (step,))
            return
        different: dict[Hashable, int] = {}
        for step in self._worth_trying(state):
            if allowed := self._try(state, (step,)):
                different.setdefault((allowed, self._remembered(state, step)), step)
        self._telling[state.allowed, state.quoted] = list(different.values())

    def _worth_trying(self, state: _State) -> list[int]:
        """Steps that may lead to the end soonest."""
        if _is_quoted(state.allowed):
            return [_QUOTE]  # ends a text of JSON: nothing is shorter
        steps = _steps(state.allowed)
        marks = [step for step in steps if step >= FIRST_MARK]
        plain = sorted((step for step in steps if step in _PRINTABLE and step != _BACKSLASH), key=_kind)
        spaces = [step for step in steps if step in _SPACE]
        others = [step for step in steps if step < BYTES and step not in _PRINTABLE and step not in _SPACE]
        others += [_BACKSLASH] if _has(state.allowed, _BACKSLASH) else []
        if plain and not state.quoted and self._memory is Memory.NOTHING:
            spaces = self._leading_on(state, spaces)
        else:
            spaces = spaces[-1:]
        if len(plain) < _MANY:  # a pattern's text, which may need any of them
            return [*marks, *plain, *spaces, *others[:_MANY]]
        return [*marks, *plain, *spaces]

    def _leading_on(self, state: _State, spaces: Sequence[int]) -> list[int]:
        """The spaces behind which something may come that may not come here.

        Others, between the parts of JSON, only make the way longer.
        """
        found: list[int] = []
        for step in spaces:
            self._left -= 1
            if state.matcher.consume_tokens([step]):
                following = self._following(state.matcher)
                state.matcher.rollback(1)
                found += [step] if any(new & ~old for new, old in zip(following, state.allowed, strict=False)) else []
        return found

    def _try(self, state: _State, steps: Path) -> bytes:
        """Go on by some steps; what may follow them, nothing if they cannot be gone."""
        self._left -= 1
        matcher = state.matcher
        if matcher.validate_tokens(list(steps)) < len(steps):  # a wrong step would put the matcher in error for good
            return b""
        if not matcher.consume_tokens(list(steps)):
            return b""
        allowed = self._following(matcher)
        if allowed and _has(allowed, END):
            self._found = self._found or state.path + steps
        elif allowed:
            self._keep(state, steps, allowed)
        matcher.rollback(len(steps))
        return allowed

    def _keep(self, state: _State, steps: Path, allowed: bytes) -> None:
        """Remember where some steps have led, if nothing as good is known."""
        step, matcher = steps[-1], state.matcher
        memory, quoted = self._remembered(state, step), state.quoted
        origin, brackets = state.origin, state.open
        if step == _QUOTE and state.path[-1:] != (_BACKSLASH,):
            quoted = not quoted
        elif step in self._structure and not quoted:
            if step in _CLOSING:  # whatever was between the brackets
                origin, brackets = brackets[-1], brackets[:-1]
                self._closed_at.setdefault(origin, len(state.path))
                brackets = brackets or (min(origin, 0) - 1,)  # those that were open before
            ahead = self._ahead(matcher, passed=_SPACE)
            place = (origin, step, allowed, ahead, () if step in _CLOSING else memory)
            if place in self._reached:
                return
            self._reached.add(place)
            self._left_at.setdefault(state.origin, len(state.path))
            origin, memory = len(self._reached), ()
            brackets += (origin,) if step in _OPENING else ()
        alone = len(_steps(allowed)) == 1
        forced = (state.forced[len(steps) :] or self._ahead(matcher)) if alone else ()
        following = _State(matcher, state.path + steps, allowed, memory, forced, origin, brackets, quoted)
        if self._add(following):
            following.matcher = matcher.deep_copy()

    def _remembered(self, state: _State, step: int) -> Path:
        before = state.memory
        if self._memory is Memory.NOTHING:
            return (*before, step | _LOWER) if step in _LETTERS and _is_choice(state.allowed) else before
        if step == _QUOTE:
            return ()
        if self._memory is Memory.KINDS:
            return tuple(sorted({*before, _kind(step)}))
        if self._memory is Memory.SIGNS and _kind(step) != _SIGN:
            return before
        return (*before[-1:], step)

    def _ahead(self, matcher: LLMatcher, passed: frozenset[int] = frozenset()) -> Path:
        """The steps that are the only ones to follow, but for those that are passed over."""
        found: list[int] = []
        while len(found) < _FAR:
            steps = [step for step in _steps(self._following(matcher)) if step not in passed]
            if len(steps) != 1 or steps[0] == END or not matcher.consume_tokens(steps):
                break
            found += steps
        if found:
            matcher.rollback(len(found))
        return tuple(found)

    def _following(self, matcher: LLMatcher) -> bytes:
        if matcher.is_stopped():
            return b"" if matcher.is_error() else _ONLY_END
        matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes)
        return b"" if matcher.is_error() or not self._mask.any() else self._mask.tobytes()


def _only(step: int) -> bytes:
    bits = np.zeros(_WORDS * 32, np.uint8)
    bits[step] = 1
    return np.packbits(bits, bitorder="little").tobytes()


_ONLY_END = _only(END)


def _has(allowed: bytes, step: int) -> bool:
    return bool(allowed[step >> 3] >> (step & 7) & 1)


def _is_free(allowed: bytes) -> bool:
    """Whether any text may come: a line feed cannot stand in a text of JSON."""
    return _has(allowed, _LINE_FEED) and all(_has(allowed, step) for step in _FREE)


def _is_quoted(allowed: bytes) -> bool:
    """Whether a quote may come that ends a text of JSON, and does not begin one."""
    return _has(allowed, _QUOTE) and not _has(allowed, _LINE_FEED) and any(_has(allowed, step) for step in _FREE)


@lru_cache(4096)
def _is_choice(allowed: bytes) -> bool:
    """Whether one of a few names or values begins or goes on here."""
    letters = {step | _LOWER for step in _steps(allowed) if step in _LETTERS}
    return 1 < len(letters) <= _FEW and not _has(allowed, ord("0"))


@lru_cache(4096)
def _steps(allowed: bytes) -> list[int]:
    found: list[int] = np.flatnonzero(np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little")).tolist()
    return found


def _kind(step: int) -> int:
    char = chr(step) if step < BYTES else ""
    return 1 if char.islower() else 2 if char.isdigit() else 3 if char.isupper() else _SIGN
