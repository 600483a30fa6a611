"""One answer on its way through a grammar: which tokens may come next, as llguidance computes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.runner.forced_end import BYTES, END, LONGEST, EndFinder, Path
from engine.runner.penalties import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): (?:failed to compile JSON schema: )?")
_SHOWN = re.compile(r"^ *(?:\d+ \| .*|\^+)$|<non-verbose/>", re.MULTILINE)
_AT_FIRST, _AT_LENGTH, _BETWEEN_TOKENS = 60_000, 15_000, 2_500  # tries, of 10 us; in the last two others wait
_LONG_SEARCHES = 4  # of one answer, between tokens
_SPACES = b" \t\r\n"
_CLOSERS = (b"", b'"', b'"]', b'"}', b"]", b"}", b'":""')


@dataclass(frozen=True, slots=True)
class Steps:
    """A model's tokens as steps of the search for an end: `pieces` by token, `marks` those that are one step each.

    `closings` are texts by which parts end that may have anything in them, `examples` those that patterns ask for,
    `signs` those in marks that are text.
    """

    pieces: Sequence[bytes]
    marks: Mapping[int, int]
    closings: Sequence[bytes] = ()
    examples: Sequence[bytes] = ()
    signs: bytes = b""

    def of(self, token: int) -> Path:
        """The steps of a token; none for those that end an answer."""
        mark = self.marks.get(token)
        return tuple(self.pieces[token]) if mark is None else (mark,)


@dataclass(frozen=True, slots=True)
class _Way:
    """How an answer can end from here."""

    path: Path
    tokens: list[int]


class Matcher:
    """How far one answer has come in its grammar. Made on any thread, then owned by the loop's.

    Near its last token an answer keeps an end of the grammar in reach: a token behind which there would be none is
    replaced, and from there on the answer is `cut_short`. `shadow` is a matcher of the same grammar that takes steps
    (see `EndFinder`). `fault` says why no token can follow, "" as long as one can.
    """

    def __init__(
        self, matcher: LLMatcher, shadow: LLMatcher, ending: EndFinder, steps: Steps, n_tokens: int, end_token: int
    ) -> None:
        self._matcher = matcher
        self._shadow = shadow
        self._ending = ending
        self._steps = steps
        self._end_token = end_token
        self._marks = sorted(steps.marks, key=lambda token: steps.marks[token])
        self._mask = np.zeros(-(-n_tokens // 32), np.uint32)
        self._address = self._mask.ctypes.data
        self._left = 0
        self._unseen: list[int] = []  # tokens, by the shadow
        self._next_look = LONGEST + 1
        self._end_path: _Way | None = None
        self._forced = False  # to this way
        self._long_searches = 0
        self.cut_short = False
        self.fault = ""

    def set_budget(self, tokens: int, tries: int = _AT_FIRST) -> None:
        """Say how many tokens the answer may have, and how hard an end is searched for if those are few."""
        self._left = tokens
        if tokens <= LONGEST + 1:
            self._end_path = self._find(tries)

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, and nothing may follow or it has been led here."""
        led = self._forced and self._end_path is not None and not self._end_path.tokens
        return led or (self._matcher.is_stopped() and not self._matcher.is_error())

    def restrict(self, row: Logits) -> None:
        """Take the chance from every token that may not come next, in place; from all of them where there is a fault.

        Tokens that end the generation may come where the grammar may end.
        """
        if self._forced and self._end_path is not None:
            row.fill(-np.inf)
            row[self._end_path.tokens[0]] = 0
            return
        self._matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes)
        if self._matcher.is_error():
            self.fault = f"the answer cannot go on as its grammar demands: {reason(self._matcher)}"
            row.fill(-np.inf)
            return
        allowed = np.unpackbits(self._mask.view(np.uint8), count=len(row), bitorder="little")
        np.copyto(row, -np.inf, where=allowed == 0)

    def accept(self, token: int) -> int:
        """Go on by the token that was chosen, or by another if no end can be reached behind it; which one it is."""
        if self._forced and self._end_path is not None:
            del self._end_path.tokens[:1]
        elif self._left <= self._next_look:
            token = self._guard_end(token)
        else:
            self._unseen.append(token)
        self._matcher.consume_token(token)
        self._left -= 1
        return token

    def force_end(self) -> bool:
        """Lead the answer to its end now; False where no end is known."""
        if not self._forced:
            self._end_path = self._find(_AT_LENGTH)
            self._forced = self._end_path is not None and bool(self._end_path.tokens)
        return self._forced

    def _guard_end(self, token: int) -> int:
        """The token, if an end can still be reached behind it; else the first one of the way that is known."""
        if self._end_path is None:
            self._end_path = self._find(_BETWEEN_TOKENS)
            if self._end_path is None or len(self._end_path.tokens) > self._left:
                self._end_path, self._next_look = None, self._left * 3 // 4
                self._unseen.append(token)
                return token
        steps = self._steps.of(token)
        if not steps or not self._shadow.consume_tokens(list(steps)):
            return token
        way = self._way_behind(self._end_path, steps)
        if way is not None and len(way.tokens) < self._left:
            self._end_path = way
            return token
        self._shadow.rollback(len(steps))
        self._forced = self.cut_short = True
        return self._end_path.tokens.pop(0) if self._end_path.tokens else self._end_token

    def _way_behind(self, way: _Way, steps: Path) -> _Way | None:
        """How the answer can end behind steps that the shadow has gone: mostly much as it could before them."""
        if way.path[: len(steps)] == steps:
            rest = way.path[len(steps) :]
            whole = bool(way.tokens) and self._steps.of(way.tokens[0]) == steps
            return _Way(rest, way.tokens[1:]) if whole else self._written(rest)
        for path in self._guesses(way.path, steps):
            if self._shadow.validate_tokens([*path, END]) == len(path) + 1:
                found = way if path == way.path else self._written(path)
                if found is not None and len(found.tokens) < self._left:
                    return found
                break
        found = self._search(_BETWEEN_TOKENS)
        if found is None and self._long_searches < _LONG_SEARCHES:
            self._long_searches += 1
            found = self._search(_AT_LENGTH)
        return found

    def _guesses(self, path: Path, steps: Path) -> list[Path]:
        """What may be left of a way behind some steps: they are text before it, or its beginning with other spaces."""
        found = [path]
        bare = tuple(step for step in steps if step >= BYTES or step not in _SPACES)
        if bare != steps and path[: len(bare)] == bare:
            found.insert(0, path[len(bare) :])
        return [*found, *(tuple(closer) + path for closer in _CLOSERS[1:])]

    def _find(self, tries: int) -> _Way | None:
        """An end from here, where nothing was known of one."""
        for token in self._unseen:
            if not self._shadow.consume_tokens(list(self._steps.of(token))):
                break
        self._unseen.clear()
        return self._search(tries)

    def _search(self, tries: int) -> _Way | None:
        if self._shadow.is_error():
            return None
        steps = self._steps
        path = self._ending.shortest(self._shadow, steps.closings, steps.examples, steps.signs, tries)
        return None if path is None else self._written(path)

    def _written(self, path: Path) -> _Way | None:
        tokens = self._ending.written(path, self._marks)
        return None if tokens is None or len(tokens) > LONGEST else _Way(path, tokens)


def reason(matcher: LLMatcher) -> str:
    """Why a matcher has given up, on one line and without the rules that it shows."""
    text = _PLACE.sub("", _SHOWN.sub("", matcher.get_error()))
    return " ".join(text.split())[:300]
