"""Cells of finished sequences in this machine's memory, so that prompts that begin alike are not computed again."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.runner.known_tokens import KnownTokens, common_prefix
from engine.runner.saved_state import SavedState


@dataclass(slots=True, eq=False)
class CachedState:
    """The cells of all of the `known` tokens, unused since then (by `time.monotonic`, in seconds)."""

    known: KnownTokens
    state: SavedState
    unused_since: float = field(default_factory=time.monotonic)

    @property
    def tokens(self) -> array[int]:
        """The tokens."""
        return self.known.tokens


class PromptCache:
    """Keeps states in at most `limit` bytes; the least recently used one goes first. Owned by the loop thread.

    `can_cut`: a restored state can be shortened, so one that is a beginning of another says nothing more. `evicted` is
    called with states for which there is no room.
    """

    def __init__(
        self, limit: int, *, can_cut: bool, evicted: Callable[[CachedState], object] = lambda entry: None
    ) -> None:
        self._limit = limit
        self._can_cut = can_cut
        self._evicted = evicted
        self._entries: OrderedDict[int, CachedState] = OrderedDict()  # by id(), the last used at the end
        self.size = 0

    def __contains__(self, entry: CachedState) -> bool:
        return id(entry) in self._entries

    def __iter__(self) -> Iterator[CachedState]:
        return iter(self._entries.values())

    @property
    def tokens(self) -> int:
        """Tokens of all states."""
        return sum(len(entry.tokens) for entry in self._entries.values())

    def store(self, entry: CachedState) -> None:
        """Keep a state, if it is not too large, in the place of those that it makes needless."""
        if not 0 < entry.state.size <= self._limit:
            self._evicted(entry)
            return
        for other in [other for other in self if self._replaces(entry, other)]:
            self.drop(other)
        self._entries[id(entry)] = entry
        self.size += entry.state.size
        while self.size > self._limit:
            oldest = next(iter(self))
            self.drop(oldest)
            self._evicted(oldest)

    def use(self, entry: CachedState) -> None:
        """Note that a state was used."""
        entry.unused_since = time.monotonic()
        self._entries.move_to_end(id(entry))

    def drop(self, entry: CachedState) -> None:
        """Forget a state."""
        del self._entries[id(entry)]
        self.size -= entry.state.size

    def drop_unfit(self, streams: int) -> None:
        """Forget states that a context with so many streams refuses."""
        for entry in [entry for entry in self if not entry.state.fits(streams)]:
            self.drop(entry)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.size = 0

    def _replaces(self, entry: CachedState, other: CachedState) -> bool:
        """Whether all that a sequence could take from `other` it can take from `entry`."""
        length = len(other.tokens)
        if length > len(entry.tokens) or entry.known.on_grid < other.known.on_grid:
            return False
        if entry.known.owner != other.known.owner:
            return False
        if not self._can_cut and length < len(entry.tokens):
            return False
        return common_prefix(other.tokens, entry.tokens, length) == length
