"""One answer on its way through a grammar: which tokens may come next, as llguidance computes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from engine.runner.ending import Ending, Goals
from engine.runner.recent import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): (?:failed to compile JSON schema: )?")
_SHOWN = re.compile(r"^ *(?:\d+ \| .*|\^+)$|<non-verbose/>", re.MULTILINE)
WINDOW = 64  # tokens by which one token may take the end further away, besides all that the grammar demands


class Matcher:
    """How far one answer has come in its grammar. Made on any thread, then owned by the loop's.

    Near its last token an answer keeps an end of the grammar in reach: a token behind which there would be none is
    replaced, and from there on the answer is `cut_short`. `goals` say by what its texts end. `fault` says why no token
    can follow, "" as long as one can.
    """

    def __init__(self, matcher: LLMatcher, ending: Ending, goals: Goals) -> None:
        self._matcher = matcher
        self._ending = ending
        self._goals = goals
        self._mask = np.empty_like(goals.marks)
        self._address = self._mask.ctypes.data
        self._left = 0
        self._window = WINDOW
        self._next_look = 0
        self._way: list[int] = []  # to the end from here, where that is near
        self._bound = False  # to this way
        self.cut_short = False
        self.fault = ""

    def allow(self, tokens: int) -> None:
        """Say how many tokens the answer may have."""
        self._left = tokens
        self._window = WINDOW + len(self._ending.plan(self._matcher, self._goals) or ())
        self._look()

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def restrict(self, row: Logits) -> None:
        """Take the chance from every token that may not come next, in place; from all of them where there is a fault.

        Tokens that end the generation may come where the grammar may end.
        """
        if self._bound and self._way:
            row.fill(-np.inf)
            row[self._way[0]] = 0
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
        if self._bound:
            del self._way[:1]
        elif self._left <= self._next_look:
            token = self._steer(token)
        self._matcher.consume_token(token)
        self._left -= 1
        return token

    def hurry(self) -> bool:
        """Lead the answer to its end now; False where no end is known."""
        if not self._bound:
            self._way = self._ending.plan(self._matcher, self._goals) or []
            self._bound = bool(self._way)
        return self._bound

    def _look(self) -> bool:
        """Find a way to the end, and keep it if that is near; else say when to look again."""
        way = self._ending.plan(self._matcher, self._goals)
        if way is None or len(way) > self._left:
            self._next_look = self._left // 2
            return False
        near = len(way) + self._window
        self._next_look = max(near, (near + self._left) // 2)
        if self._left <= near:
            self._way = way
        return bool(self._way)

    def _steer(self, token: int) -> int:
        if not self._way and not self._look():
            return token
        way = self._way_behind(token)
        if way is not None and len(way) < self._left:
            self._way = way
            return token
        self._bound = self.cut_short = True
        return self._way.pop(0)

    def _way_behind(self, token: int) -> list[int] | None:
        """How the answer could end behind a token: mostly as it could before it."""
        if token == self._way[0]:
            return self._way[1:]
        ahead = self._matcher.deep_copy()
        ahead.consume_token(token)
        if ahead.validate_tokens(self._way) == len(self._way):
            return self._way
        return self._ending.plan(ahead, self._goals)


def reason(matcher: LLMatcher) -> str:
    """Why a matcher has given up, on one line and without the rules that it shows."""
    text = _PLACE.sub("", _SHOWN.sub("", matcher.get_error()))
    return " ".join(text.split())[:300]
