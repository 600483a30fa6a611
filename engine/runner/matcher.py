"""One answer's progress through its grammar: which tokens may follow, as llguidance computes it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.runner.end_steps import BYTES, END, SPACE, StepPath
from engine.runner.forced_end import LONGEST, Effort, EndFinder, EndTargets, completed
from engine.runner.penalties import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): (?:failed to compile JSON schema: )?")
_SHOWN = re.compile(r"^ *(?:\d+ \| .*|\^+)$|<non-verbose/>", re.MULTILINE)
_AT_FIRST, _AT_LENGTH, _BETWEEN_TOKENS = (60_000, 2.0), (15_000, 0.5), (2_500, 0.1)
"""What searches for an end may cost: tries, 10 us each in most grammars, and seconds of CPU time, for the others. All
answers of the model wait for the last two."""
_WORDS = (
    (re.compile(r"too many (?:expressions|items|states)", re.IGNORECASE), "it is too complex"),
    (re.compile(r"NoExtension"), "no text does"),
)
"""What llguidance says of a grammar in words of its own, and what that means for users."""
_LONG_SEARCHES = 4  # between tokens of one answer
_CLOSERS = (b'"', b'"]', b'"}', b"]", b"}", b'":""')


@dataclass(frozen=True, slots=True)
class TokenSteps:
    """A model's tokens as steps: `pieces` are their bytes, `marks` the steps of those that are one step each."""

    pieces: Sequence[bytes]
    marks: Mapping[int, int]

    def of(self, token: int) -> StepPath:
        """The steps of a token; none for those that end an answer."""
        mark = self.marks.get(token)
        return tuple(self.pieces[token]) if mark is None else (mark,)


@dataclass(frozen=True, slots=True)
class _EndPath:
    """How an answer can end from here, in steps and in tokens."""

    path: StepPath
    tokens: list[int]


class TokenMask:
    """Which tokens may follow, as bits. Keeps its memory; belongs to one answer."""

    def __init__(self, n_tokens: int) -> None:
        self._bits = np.zeros(-(-n_tokens // 32), np.uint32)
        self._address = self._bits.ctypes.data

    def apply(self, matcher: LLMatcher, row: Logits) -> str:
        """Set the logits of all tokens that may not follow to -inf, in place; returns why that fails, "" if not."""
        matcher.unsafe_compute_mask_ptr(self._address, self._bits.nbytes)
        if matcher.is_error():
            return reason(matcher)
        allowed = np.unpackbits(self._bits.view(np.uint8), count=len(row), bitorder="little")
        np.copyto(row, -np.inf, where=allowed == 0)
        return ""


class Matcher:
    """How far one answer has come in its grammar. Made on any thread, then owned by the loop thread.

    Near its last token it keeps an end of the grammar in reach: a token behind which none would be is replaced, and
    from there on the end is forced and the answer `cut_short`. `shadow` is an llguidance matcher of the same grammar
    that takes steps for tokens (see `end_steps`). `fault` says why no token can follow, "" as long as one can.
    """

    awake = True

    def __init__(
        self,
        matcher: LLMatcher,
        shadow: LLMatcher,
        end_finder: EndFinder,
        targets: EndTargets,
        steps: TokenSteps,
        mask: TokenMask,
        end_token: int,
    ) -> None:
        self._matcher = matcher
        self._shadow = shadow
        self._end_finder = end_finder
        self._targets = targets
        self._steps = steps
        self._end_token = end_token
        self._marks = sorted(steps.marks, key=lambda token: steps.marks[token])
        self._mask = mask
        self._left = 0  # tokens that the answer may still have
        self._unseen: list[int] = []  # tokens that the shadow has not followed yet
        self._next_look = LONGEST + 1  # an end is searched for once no more tokens than this are left
        self._next_loop_look: int | None = None  # the same for loops; None for at once
        self._end_path: _EndPath | None = None
        self._forced = False  # to follow the end path
        self._long_searches = 0
        self.cut_short = False
        self.fault = ""

    def set_budget(self, tokens: int) -> None:
        """Set how many tokens the answer may have from here on, unless it is being led to its end already."""
        self._left = tokens
        if not self._forced:
            self._end_path, self._next_look = None, LONGEST + 1

    def find_first_end(self, effort: Effort | None = None) -> Iterator[None]:
        """If the answer may have few tokens, search for an end before the first one, by default at length.

        Yields often, so that others get their turn; the matcher is of no use before the last one.
        """
        if self._left <= LONGEST + 1:
            self._end_path = yield from self._search(effort or Effort(*_AT_FIRST))
            if self._end_path is None:
                self._search_later()

    @property
    def finished(self) -> bool:
        """Whether the answer is complete: nothing may follow, or its forced end is reached."""
        led = self._forced and self._end_path is not None and not self._end_path.tokens
        return led or (self._matcher.is_stopped() and not self._matcher.is_error())

    def restrict(self, row: Logits) -> None:
        """Set the logits of all tokens that may not follow to -inf, in place; of every token if there is a fault.

        Tokens that end the generation may follow where the grammar may end.
        """
        if self._forced and self._end_path is not None:
            row.fill(-np.inf)
            row[self._end_path.tokens[0]] = 0
            return
        if fault := self._mask.apply(self._matcher, row):
            self.fault = f"the answer cannot go on as its grammar demands: {fault}"
            row.fill(-np.inf)

    def accept(self, token: int) -> int:
        """Advance by the sampled token, or by another one if no end could be reached behind it; returns which."""
        if self._forced and self._end_path is not None:
            del self._end_path.tokens[:1]
        elif self._left <= self._next_look:
            token = self._guard_end(token)
        else:
            self._unseen.append(token)
        self._matcher.consume_token(token)
        self._left -= 1
        return token

    def leave_loop(self) -> bool:
        """Lead an answer that repeats itself to its end from here on; False if it is complete here and should end.

        It goes on by itself where the grammar leaves no choice, and where no end is known.
        """
        if self._forced or (self._next_loop_look is not None and self._left > self._next_loop_look):
            return True
        self._catch_up()
        if self._has_one_way():
            return True
        end_path = self._find(_AT_LENGTH)
        if end_path is None:
            self._next_loop_look = self._left * 3 // 4
            return True
        self._end_path = end_path
        self._forced = bool(end_path.tokens)
        return self._forced

    def _guard_end(self, token: int) -> int:
        """The token, if an end can still be reached behind it; else the first token of the known end path."""
        if self._end_path is None:
            self._end_path = self._find(_BETWEEN_TOKENS)
            if self._end_path is None or len(self._end_path.tokens) > self._left:
                self._search_later()
                self._unseen.append(token)
                return token
        steps = self._steps.of(token)
        if not steps or not self._shadow.consume_tokens(list(steps)):
            return token
        end_path = self._path_after(self._end_path, steps)
        if end_path is not None and len(end_path.tokens) < self._left:
            self._end_path = end_path
            return token
        self._shadow.rollback(len(steps))
        self._forced = self.cut_short = True
        return self._end_path.tokens.pop(0) if self._end_path.tokens else self._end_token

    def _path_after(self, known: _EndPath, steps: StepPath) -> _EndPath | None:
        """An end path behind steps that the shadow has followed: mostly close to the one known before them."""
        if known.path[: len(steps)] == steps:
            rest = known.path[len(steps) :]
            whole = bool(known.tokens) and self._steps.of(known.tokens[0]) == steps
            return _EndPath(rest, known.tokens[1:]) if whole else self._tokenize(rest)
        for path in self._candidates(known.path, steps):
            if self._shadow.validate_tokens([*path, END]) == len(path) + 1:
                end_path = known if path == known.path else self._tokenize(path)
                if end_path is not None and len(end_path.tokens) < self._left:
                    return end_path
                break
        end_path = completed(self._search(Effort(*_BETWEEN_TOKENS)))
        if end_path is None and self._long_searches < _LONG_SEARCHES:
            self._long_searches += 1
            end_path = completed(self._search(Effort(*_AT_LENGTH)))
        return end_path

    def _candidates(self, path: StepPath, steps: StepPath) -> list[StepPath]:
        """Likely ends behind some steps: the known path, as it is, without these steps, or with closers before it.

        Also without as many steps as these are: text whose length the grammar counts (`minLength`, `pattern`) goes on
        so, whatever its characters.
        """
        paths = [path]
        bare = tuple(step for step in steps if step >= BYTES or step not in SPACE)
        if bare != steps and path[: len(bare)] == bare:  # the steps begin the path, but for their white space
            paths.insert(0, path[len(bare) :])
        return [*paths, path[len(steps) :], *(tuple(closer) + path for closer in _CLOSERS)]

    def _search_later(self) -> None:
        """Forget the end path: there is none, or it is too long."""
        self._end_path, self._next_look = None, self._left * 3 // 4

    def _find(self, limits: tuple[int, float]) -> _EndPath | None:
        """Search for an end from here, for at most so many tries and seconds; the shadow catches up first."""
        self._catch_up()
        return completed(self._search(Effort(*limits)))

    def _catch_up(self) -> None:
        """Let the shadow follow the tokens that it has not seen."""
        for token in self._unseen:
            if not self._shadow.consume_tokens(list(self._steps.of(token))):
                break
        self._unseen.clear()

    def _has_one_way(self) -> bool:
        """Whether the grammar leaves no choice of the next character."""
        if self._shadow.is_stopped():
            return False
        return int.from_bytes(self._shadow.compute_bitmask(), "little").bit_count() == 1

    def _search(self, effort: Effort) -> Generator[None, None, _EndPath | None]:
        """Search for an end; the shadow has caught up, and is as it was at each pause."""
        if self._shadow.is_error():
            return None
        tokens = min(self._left, LONGEST)
        path = yield from self._end_finder.search(self._shadow, self._targets, effort, tokens)
        return None if path is None else self._tokenize(path)

    def _tokenize(self, path: StepPath) -> _EndPath | None:
        tokens = self._end_finder.tokenize(path, self._marks)
        return None if tokens is None or len(tokens) > LONGEST else _EndPath(path, tokens)


def reason(matcher: LLMatcher, *, placed: bool = False) -> str:
    """Why a matcher has failed, on one line, without the rules that llguidance quotes. `placed`: and where in them."""
    text = _PLACE.sub(r"line \1, column \2: " if placed else "", _SHOWN.sub("", matcher.get_error()))
    text = " ".join(text.split())
    return next((words for pattern, words in _WORDS if pattern.search(text)), text[:300])
