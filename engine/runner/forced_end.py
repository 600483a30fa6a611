"""Search for a short text that completes an answer under its grammar, for answers that run out of tokens.

Breadth-first over steps (`end_steps`), from all states that differ: prefer END, then what closes free text, then a
closing quote, then printable characters; white space last.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from engine.runner.end_steps import (
    BACKSLASH,
    BYTES,
    CLOSING,
    END,
    FIRST_MARK,
    LETTERS,
    LOWER,
    MASK_WORDS,
    ONLY_END,
    OPENING,
    PRINTABLE,
    PUNCTUATION,
    QUOTE,
    SPACE,
    STRUCTURE,
    StepMask,
    StepPath,
    ends_string,
    has,
    is_choice,
    is_free_text,
    kind_of,
    steps_of,
)

if TYPE_CHECKING:
    from llguidance import LLMatcher

_T = TypeVar("_T")
LONGEST = 512  # tokens of an end; if it needs more, none is found
MOST_STATES = 100  # that are expanded at each distance from the start

_PARTS, _LEAST_TRIED = 4, 2_500  # one search may use this part of all tries, but at least so many
_MANY = 80  # where more characters than this may follow, any text may
_LONGEST_TOKEN = 48  # bytes of a token that an end is written in
_UNQUOTED = frozenset(b'{}[],:"-+.0123456789truefalsnE')  # all that JSON has outside of strings
_DIGITS, _BEGINNING, _TAG = frozenset(b"0123456789"), frozenset(b"-{["), ord("<")
_LATE = 32  # steps by which one of several values may be longer than another
_LATE_TO_END = 8  # the same for the rest of a string or number
_LATE_TO_CLOSE = 4  # the same for all between two brackets
_LOOKAHEAD = 24  # forced steps that are compared to tell states apart
_STALE = 64  # steps without anything new, after which a search first gives up


class TextKey(Enum):
    """Which property of the text since the last quote tells two states apart."""

    NOTHING = auto()
    KINDS = auto()  # the kinds of its characters: a password must have some of each
    SIGNS = auto()  # its last punctuation: an address needs one certain sign
    LAST = auto()  # its last characters


_PLANS = (
    (TextKey.NOTHING, _STALE),
    (TextKey.KINDS, _STALE),
    (TextKey.NOTHING, LONGEST * 8),
    (TextKey.SIGNS, _STALE),
    (TextKey.LAST, _STALE),
)
"""Searches to try in turn: what states remember, and after how many steps without news they give up."""


@dataclass(frozen=True, slots=True)
class EndTargets:
    """What the search may aim for in one grammar.

    `closings` end parts that may hold any text, `examples` match the grammar's patterns. `signs` are the bytes of
    delimiters that are plain text: there, JSON's brackets and commas say nothing about the structure. Without `is_json`
    they, and quotes, never do.
    """

    closings: Sequence[bytes] = ()
    examples: Sequence[bytes] = ()
    signs: bytes = b""
    is_json: bool = True


@dataclass(slots=True)
class _State:
    """A place in the grammar that the search has reached by `path`.

    `allowed` are the steps that may follow, `forced` the next ones as long as only one may, `memory` what TextKey asks
    for. `origin` numbers the state behind the last JSON bracket, comma or colon, `open` those behind the brackets that
    are still open. `quoted`: within a JSON string.
    """

    matcher: LLMatcher
    path: StepPath
    allowed: StepMask
    memory: StepPath
    forced: StepPath
    origin: int
    open: tuple[int, ...]
    quoted: bool


class Effort:
    """What is left of what one search may cost: `tries` are steps tried, `seconds` CPU time of the searching thread.

    Time counts between `resume` and `pause`; see `used_up`.
    """

    __slots__ = ("_since", "seconds", "tries")

    def __init__(self, tries: int, seconds: float) -> None:
        self.tries = tries
        self.seconds = seconds
        self._since = 0.0

    @property
    def used_up(self) -> bool:
        """Whether the search must give up. Up to date behind `resume` and `spend`."""
        return self.tries <= 0 or self.seconds <= 0

    def resume(self) -> None:
        """Count CPU time from now on."""
        self._since = time.thread_time()

    def pause(self) -> None:
        """Count what has passed since `resume`."""
        now = time.thread_time()
        self.seconds -= now - self._since
        self._since = now

    def spend(self) -> None:
        """Count one try, and the time until now."""
        self.tries -= 1
        self.pause()


class EndFinder:
    """Finds short ends of answers, and writes them in the tokens of one vocabulary. Immutable; safe from any thread.

    `pieces` are the bytes of each token, b"" for control tokens.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._tokens: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            if 0 < len(piece) <= _LONGEST_TOKEN:
                self._tokens.setdefault(piece, token)
        self._longest = max(map(len, self._tokens), default=0)

    def search(
        self, matcher: LLMatcher, targets: EndTargets, effort: Effort, tokens: int
    ) -> Generator[None, None, StepPath | None]:
        """Search for a short end of at most `tokens` tokens: returns its steps, None if the effort finds none.

        Yields after each state, with the matcher, which must take steps for tokens, as it was.
        """
        most = max(effort.tries // _PARTS, _LEAST_TRIED)
        for plan, guess in product(_PLANS, (True, False) if targets.is_json else (True,)):
            if effort.used_up:
                break
            tries = min(effort.tries, most)
            left = Effort(tries, effort.seconds)
            path = yield from _Search(targets, left, tokens * self._longest, *plan).run(matcher, trusts_quotes=guess)
            effort.tries -= tries - left.tries
            effort.seconds = left.seconds
            if path is not None:
                return path
        return None

    def tokenize(self, path: StepPath, marks: Sequence[int]) -> list[int] | None:
        """A path in as few tokens as possible, `marks` being the control tokens; None if it cannot be written."""
        written: list[int] = []
        text = bytearray()
        for step in (*path, END):
            if step < BYTES:
                text.append(step)
                continue
            tokens = self.split(bytes(text))
            if tokens is None:
                return None
            written += tokens
            written += [marks[step - FIRST_MARK]] if step >= FIRST_MARK else []
            text.clear()
        return written

    def token(self, text: bytes) -> int | None:
        """The token with this text."""
        token: int | None = self._tokens.get(text)
        return token

    def split(self, text: bytes) -> list[int] | None:
        """A text in as few tokens as possible; None if the vocabulary cannot write it."""
        best: list[tuple[int, int, int] | None] = [(0, 0, 0)]  # per prefix: number of tokens, the last one, its length
        for end in range(1, len(text) + 1):
            options = (
                (before[0] + 1, token, size)
                for size in range(1, min(self._longest, end) + 1)
                if (before := best[end - size]) is not None
                and (token := self._tokens.get(text[end - size : end])) is not None
            )
            best.append(min(options, default=None))
        tokens: list[int] = []
        end = len(text)
        while end:
            last = best[end]
            if last is None:
                return None
            tokens.append(last[1])
            end -= last[2]
        return tokens[::-1]


class _Search:
    """Breadth-first search over states that differ in the steps that may follow and in what they remember.

    Behind a bracket, a comma or a colon of JSON only the grammar counts: of all paths from one such place to the next,
    the shortest one is kept.
    """

    def __init__(self, targets: EndTargets, effort: Effort, longest: int, text_key: TextKey, stale: int) -> None:
        self._closings = targets.closings
        self._is_json = targets.is_json
        self._structure = STRUCTURE.difference(targets.signs) if targets.is_json else frozenset[int]()
        self._examples = [tuple(variant) for text in targets.examples for variant in (text, b" " + text)]
        self._text_key = text_key
        self._stale = stale
        self._effort = effort
        self._longest = longest  # steps of a path
        self._mask = np.zeros(MASK_WORDS, np.uint32)
        self._address = self._mask.ctypes.data
        self._distinct: dict[Hashable, list[int]] = {}  # by what is allowed: the steps that lead to different states
        self._levels: dict[int, dict[Hashable, _State]] = {}  # by distance: the states still to expand
        self._reached: set[Hashable] = set()
        self._left_at: dict[int, int] = {}  # by origin: at which distance it was first left behind
        self._closed_at: dict[int, int] = {}  # by the origin behind a bracket: where that was first closed
        self._path: StepPath | None = None

    def run(self, matcher: LLMatcher, *, trusts_quotes: bool) -> Generator[None, None, StepPath | None]:
        """Search for a shortest path to the end, which is returned; yields after each state.

        Whether it begins within a JSON string is a guess, trusted or reversed.
        """
        level = last_news = known = 0
        self._effort.resume()
        start = matcher.deep_copy()
        allowed = self._following(start)
        if not allowed:
            return None
        if has(allowed, END):
            return ()
        forced = self._ahead(start)
        quoted = self._is_json and self._begins_quoted(start, allowed, forced) is trusts_quotes
        self._add(_State(start, (), allowed, (), forced, 0, (-1,), quoted))
        while self._levels and level - last_news < self._stale and level < self._longest:
            if known < len(self._distinct) + len(self._reached):
                known, last_news = len(self._distinct) + len(self._reached), level
            states = list(self._levels.pop(level, {}).values())
            if all(state.forced for state in states):  # between two choices
                last_news += 1
            if len(states) > 1:
                frequency = Counter(state.allowed for state in states)
                states.sort(key=lambda state: frequency[state.allowed])
                states = [state for state in states if not self._is_late(state, level)]
            for state in states[:MOST_STATES]:
                self._effort.pause()
                if self._effort.used_up:
                    return None
                self._expand(state)
                if self._path is not None:
                    return self._path
                self._effort.pause()
                yield
                self._effort.resume()
            level += 1
        return None

    def _begins_quoted(self, matcher: LLMatcher, allowed: StepMask, forced: StepPath) -> bool:
        """Whether the start seems to be within a JSON string: what may follow cannot stand outside of one."""
        if QUOTE not in forced:
            steps = frozenset(forced or steps_of(allowed))
            if _TAG in steps or is_free_text(allowed):
                return False
            return bool(steps & PRINTABLE - _UNQUOTED) or (
                QUOTE in steps and bool(steps & _DIGITS) and not steps & _BEGINNING
            )
        ahead = forced[: forced.index(QUOTE) + 1]
        matcher.consume_tokens(list(ahead))
        following = steps_of(self._following(matcher))
        matcher.rollback(len(ahead))
        return all(step in STRUCTURE or step in SPACE for step in following)

    def _is_late(self, state: _State, level: int) -> bool:
        """Whether the same place was reached long ago by a shorter path."""
        # Among names or values a longer path may lead elsewhere.
        chosen = self._text_key is not TextKey.NOTHING or state.memory
        if level - self._left_at.get(state.origin, level) > (_LATE if chosen else _LATE_TO_END):
            return True
        return any(level - self._closed_at.get(bracket, level) > _LATE_TO_CLOSE for bracket in state.open)

    def _add(self, state: _State) -> bool:
        """Queue a state; False if an equal one at the same distance is known."""
        key = (state.allowed, state.memory, state.forced, state.origin)
        return self._levels.setdefault(len(state.path), {}).setdefault(key, state) is state

    def _expand(self, state: _State) -> None:
        """Try the steps that may follow a state."""
        if not self._is_json and _allows_many(state.allowed):
            for text in self._closings:
                self._try(state, tuple(text))
        elif is_free_text(state.allowed):  # more text would not end it: only a control token or a closing does
            paths: list[StepPath] = [(step,) for step in steps_of(state.allowed) if step >= FIRST_MARK]
            paths += [tuple(text) for text in self._closings]
            reached = [self._try(state, path) for path in paths]
            if any(reached):
                return
        if state.quoted and self._examples and not has(state.allowed, QUOTE):
            for path in self._examples:
                if (allowed := self._try(state, path)) and has(allowed, QUOTE):
                    break
        steps = self._distinct.get((state.allowed, state.quoted))
        if steps is not None:
            for step in steps:
                self._try(state, (step,))
            return
        different: dict[Hashable, int] = {}
        for step in self._worth_trying(state):
            if allowed := self._try(state, (step,)):
                different.setdefault((allowed, self._remembered(state, step)), step)
        self._distinct[state.allowed, state.quoted] = list(different.values())

    def _worth_trying(self, state: _State) -> list[int]:
        """The steps that may lead to the end soonest, best first."""
        if self._is_json and ends_string(state.allowed):
            return [QUOTE]  # nothing is shorter
        steps = steps_of(state.allowed)
        marks = [step for step in steps if step >= FIRST_MARK]
        plain = sorted((step for step in steps if step in PRINTABLE and step != BACKSLASH), key=kind_of)
        spaces = [step for step in steps if step in SPACE]
        others = [step for step in steps if step < BYTES and step not in PRINTABLE and step not in SPACE]
        others += [BACKSLASH] if has(state.allowed, BACKSLASH) else []
        if plain and not state.quoted and self._text_key is TextKey.NOTHING:
            spaces = self._leading_on(state, spaces)
        else:
            spaces = spaces[-1:]
        if len(plain) < _MANY:  # text of a pattern, which may need any of the others
            return [*marks, *plain, *spaces, *others[:_MANY]]
        return [*marks, *plain, *spaces]

    def _leading_on(self, state: _State, spaces: Sequence[int]) -> list[int]:
        """The whitespace steps that allow a step which is not allowed now; others only lengthen the path."""
        leading: list[int] = []
        for step in spaces:
            self._effort.spend()
            if state.matcher.consume_tokens([step]):
                following = self._following(state.matcher)
                state.matcher.rollback(1)
                if any(new & ~old for new, old in zip(following, state.allowed, strict=False)):
                    leading.append(step)
        return leading

    def _try(self, state: _State, steps: StepPath) -> StepMask:
        """Follow some steps and queue the state behind them; returns what may follow there, b"" if impossible."""
        self._effort.spend()
        if self._effort.seconds <= 0:
            return b""
        matcher = state.matcher
        if matcher.validate_tokens(list(steps)) < len(steps):  # a wrong step would put the matcher in error for good
            return b""
        if not matcher.consume_tokens(list(steps)):
            return b""
        allowed = self._following(matcher)
        if allowed and has(allowed, END):
            self._path = self._path or state.path + steps
        elif allowed:
            self._keep(state, steps, allowed)
        matcher.rollback(len(steps))
        return allowed

    def _keep(self, state: _State, steps: StepPath, allowed: StepMask) -> None:
        """Queue the state that some steps have led to, unless one as good is known."""
        step, matcher = steps[-1], state.matcher
        memory, quoted = self._remembered(state, step), state.quoted
        origin, brackets = state.origin, state.open
        if self._is_json and step == QUOTE and state.path[-1:] != (BACKSLASH,):
            quoted = not quoted
        elif step in self._structure and not quoted:
            if step in CLOSING:  # what was between the brackets counts no more
                origin, brackets = brackets[-1], brackets[:-1]
                self._closed_at.setdefault(origin, len(state.path))
                brackets = brackets or (min(origin, 0) - 1,)  # those that were open before the search
            ahead = self._ahead(matcher, passed=SPACE)
            place = (origin, step, allowed, ahead, () if step in CLOSING else memory)
            if place in self._reached:
                return
            self._reached.add(place)
            self._left_at.setdefault(state.origin, len(state.path))
            origin, memory = len(self._reached), ()
            brackets += (origin,) if step in OPENING else ()
        alone = len(steps_of(allowed)) == 1
        forced = (state.forced[len(steps) :] or self._ahead(matcher)) if alone else ()
        following = _State(matcher, state.path + steps, allowed, memory, forced, origin, brackets, quoted)
        if self._add(following):
            following.matcher = matcher.deep_copy()

    def _remembered(self, state: _State, step: int) -> StepPath:
        """What the state behind a step remembers of its text."""
        before = state.memory
        if self._text_key is TextKey.NOTHING:
            return (*before, step | LOWER) if step in LETTERS and is_choice(state.allowed) else before
        if step == QUOTE:
            return ()
        if self._text_key is TextKey.KINDS:
            return tuple(sorted({*before, kind_of(step)}))
        if self._text_key is TextKey.SIGNS and kind_of(step) != PUNCTUATION:
            return before
        return (*before[-1:], step)

    def _ahead(self, matcher: LLMatcher, passed: frozenset[int] = frozenset()) -> StepPath:
        """The next steps as long as only one may follow, apart from those in `passed`."""
        path: list[int] = []
        while len(path) < _LOOKAHEAD:
            steps = [step for step in steps_of(self._following(matcher)) if step not in passed]
            if len(steps) != 1 or steps[0] == END or not matcher.consume_tokens(steps):
                break
            path += steps
        if path:
            matcher.rollback(len(path))
        return tuple(path)

    def _following(self, matcher: LLMatcher) -> StepMask:
        """The steps that may follow; b"" for none."""
        if matcher.is_stopped():
            return b"" if matcher.is_error() else ONLY_END
        matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes)
        return b"" if matcher.is_error() or not self._mask.any() else self._mask.tobytes()


def completed(search: Generator[None, None, _T]) -> _T:
    """The result of a search that is run without a pause."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            result: _T = end.value
            return result


@lru_cache(4096)
def _allows_many(mask: StepMask) -> bool:
    """Whether almost any character may follow."""
    return sum(step in PRINTABLE for step in steps_of(mask)) >= _MANY
