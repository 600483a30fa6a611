"""Ids that stand for rows of pictures and sounds among a sequence's tokens, and where prompts with them are divided.

A *span* is the place of one chunk of a medium: as many entries as the encoder makes rows. All of its ids are negative
and equal only to those of the same chunk, so whoever compares tokens compares media too. Pure.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterator

import numpy as np

HEAD, ROW, STILL = 0, 1, 2
"""The first entry of a span, further ones, and those with which the position does not advance (M-RoPE)."""

_ROLES = 4  # ids of one chunk: -4n, -4n - 1, -4n - 2, for n from 1; -1 is `NO_TOKEN`
REMEMBERED = 1 << 16  # chunks; one that comes again after so many others counts as new


class Placeholders:
    """Gives each chunk its ids: the same key has the same ones, as long as it is remembered. For any thread."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._guard = threading.Lock()
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()
        self._keys: dict[int, Hashable] = {}
        self._last = 0

    def ids(self, key: Hashable, n_tokens: int, n_pos: int) -> array[int]:
        """The entries of a chunk of `n_tokens` rows that takes `n_pos` positions, at most as many."""
        with self._guard:
            number = self._numbers.pop(key, 0)
            if not number:
                number = self._last = self._last + 1
            self._numbers[key] = number
            self._keys[number] = key
            if len(self._numbers) > self._remembered:
                _, forgotten = self._numbers.popitem(last=False)
                del self._keys[forgotten]
        first = -_ROLES * number
        moving, still = array("i", [first - ROW]), array("i", [first - STILL])
        return array("i", [first - HEAD]) + moving * (n_pos - 1) + still * (n_tokens - n_pos)

    def spans(self, tokens: array[int]) -> Iterator[tuple[int, Hashable, int, int]]:
        """The spans among tokens: first entry, key (None if it is forgotten), rows and positions."""
        entries = np.frombuffer(tokens, np.int32)
        starts = np.flatnonzero((entries < 0) & (-entries % _ROLES == HEAD))
        for start in map(int, starts):
            end = start + 1
            while is_inside_span(tokens, end):
                end += 1
            still = sum(-entry % _ROLES == STILL for entry in tokens[start:end])
            yield start, self._keys.get(-tokens[start] // _ROLES), end - start, end - start - still


def is_inside_span(tokens: array[int], at: int) -> bool:
    """Whether a border before entry `at` would divide a span."""
    return at < len(tokens) and tokens[at] < 0 and -tokens[at] % _ROLES != HEAD


def whole_spans(tokens: array[int], length: int) -> int:
    """The longest beginning of at most `length` entries that divides no span."""
    while is_inside_span(tokens, length):
        length -= 1
    return length


def position_of(tokens: array[int], length: int) -> int:
    """The position behind the first `length` entries; llama.cpp counts in positions, we count in entries."""
    if not length:
        return 0
    entries = np.frombuffer(tokens, np.int32, length)
    still = np.count_nonzero((entries < 0) & (-entries % _ROLES == STILL))
    return length - int(still)


def last_border(tokens: array[int], limit: int, common: int, grid: int) -> int:
    """The last border within the first `limit` entries at which a steady prompt is divided.

    Borders are multiples of `grid` in texts, and both ends of each span. Only the first `common` entries are known to
    be the same in both sequences that are compared, so there `tokens[common]` makes no border.
    """
    at = limit // grid * grid
    if min(tokens[at : limit + 1], default=0) >= 0:  # nothing but text
        return at
    at = limit
    while at > 0 and not _is_border(tokens, at, common, grid):
        at -= 1
    return at


def _is_border(tokens: array[int], at: int, common: int, grid: int) -> bool:
    if is_inside_span(tokens, at):
        return False
    begins = at < min(common, len(tokens)) and tokens[at] < 0
    return begins or tokens[at - 1] < 0 or at % grid == 0


def next_border(tokens: array[int], start: int, grid: int) -> int:
    """Where the chunk that begins at `start` in a text ends: at a multiple of `grid`, a span, or the end."""
    end = min((start // grid + 1) * grid, len(tokens))
    if min(tokens[start:end], default=0) >= 0:
        return end
    return next(at for at in range(start, end) if tokens[at] < 0)
