"""Tokens whose cells are known, and how much of them another sequence may begin with. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum

from engine.runner.placeholders import last_border, whole_spans

BEGINNING = 16  # tokens at most with which a prompt's template begins the answer
CHUNK = 256  # tokens that `common_prefix` compares at once


class Reuse(Enum):
    """Which cells of others a sequence may begin with.

    Cells depend a little on how they were computed: in which chunks of a prompt, or one by one as an answer. STEADY
    takes only those that the sequence would compute to the same bits: of whole chunks between borders of the grid.
    CHAT takes those, and an answer with all before it when a conversation goes on behind it.
    """

    NONE = "none"
    ANY = "any"
    CHAT = "chat"
    STEADY = "steady"


@dataclass(slots=True)
class KnownTokens:
    """Tokens that cells hold: a prompt of `n_prompt` and what has been answered.

    The first `on_grid` of them were computed in whole chunks between borders of the grid. Only requests of the same
    `owner` may begin with them: how fast an answer begins tells whether its prompt was known.
    """

    tokens: array[int]
    n_prompt: int
    on_grid: int = 0
    owner: str = ""

    def usable(self, tokens: array[int], reuse: Reuse, grid: int, held: int, owner: str = "") -> int:
        """How many leading tokens of `tokens`, all but the last at most, can be taken from the first `held` of these.

        `grid`: tokens between two borders. Spans of media are taken as a whole.
        """
        if reuse is Reuse.NONE or owner != self.owner:
            return 0
        common = common_prefix(self.tokens, tokens, min(held, len(tokens) - 1))
        # A prompt that goes on need not repeat the end of the one before, which began the answer.
        goes_on = common >= self.n_prompt - BEGINNING and len(tokens) > self.n_prompt + BEGINNING
        if reuse is Reuse.ANY or (reuse is Reuse.CHAT and (goes_on or common >= self.n_prompt)):
            return whole_spans(tokens, common)
        return last_border(tokens, min(common, self.on_grid), common, grid)


def common_prefix(a: array[int], b: array[int], limit: int) -> int:
    """Length of the common prefix of two token arrays, at most `limit`."""
    limit = min(limit, len(a), len(b))
    with memoryview(a) as left, memoryview(b) as right:
        at = 0
        while at + CHUNK <= limit and left[at : at + CHUNK].tobytes() == right[at : at + CHUNK].tobytes():
            at += CHUNK
    while at < limit and a[at] == b[at]:
        at += 1
    return at
