"""One answer on its way through a grammar: which tokens may come next, as llguidance computes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from engine.runner.ending import Ending, TokenSet
from engine.runner.recent import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): (?:failed to compile JSON schema: )?")
_SHOWN = re.compile(r"^ *(?:\d+ \| .*|\^+)$|<non-verbose/>", re.MULTILINE)
MARGIN = 16  # tokens by which an end may get further away between two looks


class Matcher:
    """How far one answer has come in its grammar. Made on any thread, then owned by the loop's.

    It looks ahead from time to time: an answer that is about to reach its last token is led to an end that the
    grammar allows, and then it is `cut_short`. `closing` are the tokens by which texts around JSON end. `fault` says
    why no token can follow, "" as long as one can.
    """

    def __init__(self, matcher: LLMatcher, ending: Ending, closing: TokenSet) -> None:
        self._matcher = matcher
        self._ending = ending
        self._closing = closing
        self._mask = np.empty_like(closing)
        self._address = self._mask.ctypes.data
        self._left = 0
        self._next_look = 0
        self._plan: list[int] = []
        self.cut_short = False
        self.fault = ""

    def allow(self, tokens: int) -> None:
        """Say how many tokens the answer may have."""
        self._left = tokens
        self._look_ahead()

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def restrict(self, row: Logits) -> None:
        """Take the chance from every token that may not come next, in place; from all of them where there is a fault.

        Tokens that end the generation may come where the grammar may end.
        """
        if self._plan:
            row.fill(-np.inf)
            row[self._plan[0]] = 0
            return
        self._matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes)
        if self._matcher.is_error():
            self.fault = f"the answer cannot go on as its grammar demands: {reason(self._matcher)}"
            row.fill(-np.inf)
            return
        allowed = np.unpackbits(self._mask.view(np.uint8), count=len(row), bitorder="little")
        np.copyto(row, -np.inf, where=allowed == 0)

    def accept(self, token: int) -> None:
        """Go on by a token."""
        self._matcher.consume_token(token)
        self._left -= 1
        if self._plan:
            del self._plan[0]
        elif self._left <= self._next_look:
            self._look_ahead()

    def hurry(self) -> bool:
        """Lead the answer to its end now; False where no end is known."""
        if not self._plan:
            self._plan = self._ending.plan(self._matcher, self._closing) or []
        return bool(self._plan)

    def _look_ahead(self) -> None:
        """Go for the end if it is about as far as the last token, else say when to look again."""
        plan = self._ending.plan(self._matcher, self._closing)
        if plan is None or len(plan) > self._left:
            self._next_look = self._left // 2
            return
        needed = len(plan) + MARGIN
        self._next_look = (needed + self._left) // 2
        if needed >= self._left:
            self._plan, self.cut_short = plan, True


def reason(matcher: LLMatcher) -> str:
    """Why a matcher has given up, on one line and without the rules that it shows."""
    text = _PLACE.sub("", _SHOWN.sub("", matcher.get_error()))
    return " ".join(text.split())[:300]
