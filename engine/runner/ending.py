"""How an answer with a grammar can be brought to its end soon: a model may never find it by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from llguidance import LLMatcher

TokenSet = npt.NDArray[np.uint32]
"""One bit for each token of the vocabulary, in llguidance's order."""

LONGEST = 512  # tokens; what needs more has no end
_SPACE, _QUOTES, _BRACKETS, _STRUCTURE = b" \t\r\n", b'"}]', b"}]", b'"}]{[,: \t\r\n'


@dataclass(frozen=True, slots=True)
class Goals:
    """By what texts in an answer end: those around JSON by one of the `marks`, lists and bare values by `closings`."""

    marks: TokenSet
    closings: Sequence[list[int]] = ()


class Ending:
    """Finds short ends, for one vocabulary. Immutable; may be used from any thread.

    The way through a grammar is short that closes what is open in JSON wherever it can: the end of the answer comes
    first, then a quote (inside of a string, brackets go on forever), white space last.
    """

    def __init__(self, pieces: Sequence[bytes], ends: Iterable[int]) -> None:
        self._size = len(pieces)
        kinds = [_kind(piece) for piece in pieces]
        sets = {kind: self.tokens(token for token, each in enumerate(kinds) if each == kind) for kind in set(kinds)}
        nothing = self.tokens(())
        self._ends = self.tokens(ends)
        self._quotes = sets.get("quotes", nothing)
        self._space = sets.get("space", nothing)
        self._others = [sets.get(kind, nothing) for kind in ("brackets", "structure", "digits")]
        self._lengths = np.array([len(piece) for piece in pieces])
        self._lines = self.tokens(token for token, piece in enumerate(pieces) if piece.startswith(b"\n"))

    def tokens(self, ids: Iterable[int]) -> TokenSet:
        """A set of tokens."""
        bits = np.zeros(-(-self._size // 32) * 32, np.uint8)
        bits[list(ids)] = 1
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def plan(self, matcher: LLMatcher, goals: Goals) -> list[int] | None:
        """Tokens that end the answer; None where no end is found. The matcher stays as it is."""
        matcher = matcher.deep_copy()
        allowed = np.empty_like(self._ends)
        found: list[int] = []
        while not matcher.is_stopped():
            matcher.unsafe_compute_mask_ptr(allowed.ctypes.data, allowed.nbytes)
            tokens = self._closing(matcher, allowed, goals) or [self._next(allowed, goals.marks)]
            if len(found) >= LONGEST or not matcher.consume_tokens(tokens):
                return None
            found += tokens
        return None if matcher.is_error() else found

    def _closing(self, matcher: LLMatcher, allowed: TokenSet, goals: Goals) -> list[int]:
        """The way out of a text that is no JSON, or of a list, if one of them goes on here.

        In a string of JSON, where a quote may come and a line feed may not, everything would do and end nothing.
        """
        quoted = (allowed & self._quotes).any() and not (allowed & self._lines).any()
        if quoted or (allowed & self._ends).any():
            return []
        return next((way for way in goals.closings if _ends_something(matcher, way)), [])

    def _next(self, allowed: TokenSet, marks: TokenSet) -> int:
        for wanted in self._wanted(allowed, marks):
            found = allowed & wanted
            if (words := np.flatnonzero(found)).size:
                bits = int(found[words[0]])
                return int(words[0]) * 32 + (bits & -bits).bit_length() - 1
        return self._longest(allowed & ~self._space if (allowed & ~self._space).any() else allowed)

    def _longest(self, tokens: TokenSet) -> int:
        """The one that takes the answer furthest, through a key that must be there, or a string that must be long."""
        ids = np.flatnonzero(np.unpackbits(tokens.view(np.uint8), count=self._size, bitorder="little"))
        return int(ids[self._lengths[ids].argmax()]) if ids.size else 0

    def _wanted(self, allowed: TokenSet, marks: TokenSet) -> Iterator[TokenSet]:
        yield self._ends
        # A line feed cannot stand in a string of JSON: where one is allowed a mark means what it says.
        free = (allowed & self._lines).any()
        yield from (marks, self._quotes) if free else (self._quotes, marks)
        yield from self._others


def _ends_something(matcher: LLMatcher, way: list[int]) -> bool:
    """Whether the tokens may come, and not once more behind them: then they would just be part of a text."""
    if not way or matcher.validate_tokens(way) < len(way):
        return False
    behind = matcher.deep_copy()
    behind.consume_tokens(way)
    return behind.validate_tokens(way) < len(way)


def _kind(piece: bytes) -> str:
    if not piece.strip(_SPACE):
        return "space"
    if not piece.strip(_BRACKETS):
        return "brackets"
    if not piece.strip(_QUOTES) and piece.startswith(b'"'):
        return "quotes"
    if not piece.strip(_STRUCTURE):
        return "structure"
    return "digits" if piece.isdigit() else ""
