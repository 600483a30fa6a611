"""Prompt lookup: where a text repeats itself, its next tokens are drafted from what it has already."""

from __future__ import annotations

from array import array

import numpy as np

LONGEST = 32  # tokens up to which the length of a match is told
SETTLED = 8  # tokens; a match of so many is followed without a look for a better one
CANDIDATES = 4  # earlier places, the last ones first, of which that with the longest match is taken
REBUILT = 64  # tokens that came unseen, from which the index is made anew


class Lookup:
    """Where the last tokens of one sequence also stand in it, farther ahead. Owned by the loop thread.

    `tokens` are the sequence's own. Others may append to them; after any other change they call `forget`. `length`: how
    many of the last tokens also stand before `source`, the index of the token that should come next; 0 for no match.
    """

    __slots__ = ("_before", "_latest", "_seen", "_tokens", "length", "source")

    def __init__(self, tokens: array[int]) -> None:
        self._tokens = tokens
        self.forget()

    def forget(self) -> None:
        """Begin anew: tokens have been taken out."""
        self._latest: dict[int, int] = {}  # by pair of neighbouring tokens: the index behind its last occurrence
        self._before: list[int] = []  # by index: that behind the occurrence before, 0 for none
        self._seen = 0
        self.length = self.source = 0

    def follow(self) -> list[tuple[int, bool]]:
        """Take in the tokens that were appended.

        Returns, for each of them behind a match, the length of the match and whether the token is the expected one.
        """
        tokens = self._tokens
        if len(tokens) - self._seen > REBUILT:
            self._build()
            self._search()
            return []
        outcomes = []
        for end in range(self._seen + 1, len(tokens) + 1):
            length = self.length
            hit = self._add(end)
            if length:
                outcomes.append((length, hit))
        return outcomes

    def draft(self, count: int) -> list[int]:
        """The next `count` tokens as they follow the match; fewer where a picture or a sound follows.

        A match that reaches up to the end of the text is a text that goes round, and so does the draft.
        """
        ahead = self._tokens[self.source : self.source + count].tolist()
        while 0 < len(ahead) < count:
            ahead += ahead[: count - len(ahead)]
        return next((ahead[:at] for at, token in enumerate(ahead) if token < 0), ahead)

    def _add(self, end: int) -> bool:
        """Take in the token before `end`; returns whether it was the expected one."""
        tokens = self._tokens
        token = tokens[end - 1]
        hit = self.length > 0 and tokens[self.source] == token
        self._seen = end
        self._before.append(0)
        if hit:
            self.source += 1
            self.length += self.length < LONGEST
        else:
            self._lose()
        if end > 1:
            pair = tokens[end - 2] << 32 | token
            self._before[-1] = self._latest.get(pair, 0)
            self._latest[pair] = end
            if self.length < SETTLED:
                self._search()
        return hit

    def _lose(self) -> None:
        """Give the match up. Where it was long, one token may have been replaced: the text may go on behind that."""
        replaced = self.length >= SETTLED and self.source + 1 < self._seen
        self.source = self.source + 1 if replaced else 0
        self.length = int(replaced)

    def _search(self) -> None:
        """Take the longest match of the last few, if it is longer than the one that is followed."""
        source, before = self._seen, self._before
        for _ in range(CANDIDATES):
            source = before[source - 1]
            if not source:
                return
            length = self._common(source)
            if length > self.length:
                self.source, self.length = source, length

    def _common(self, source: int) -> int:
        """How many tokens before `source` are the last ones of all: two or more."""
        tokens, end = self._tokens, self._seen
        most = min(source, LONGEST)
        length = 2
        while length < most and tokens[source - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length

    def _build(self) -> None:
        """Make the index of all tokens at once."""
        self.forget()
        tokens = np.array(self._tokens, np.int64)
        pairs = tokens[:-1] << 32 | tokens[1:]
        ends = np.arange(2, len(tokens) + 1)
        order = np.argsort(pairs, kind="stable")
        again = np.flatnonzero(np.diff(pairs[order]) == 0)
        before = np.zeros(len(tokens), np.int64)
        before[ends[order[again + 1]] - 1] = ends[order[again]]
        self._before = before.tolist()
        self._latest = dict(zip(pairs.tolist(), ends.tolist(), strict=True))
        self._seen = len(tokens)
