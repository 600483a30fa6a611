"""Who holds which part of the cache: llama.cpp sequence ids, what each remembers, and what can be reused.

A finished sequence keeps its id and its cells until somebody needs them (least recently used goes first), so that
the next request that begins with the same tokens need not compute them. Two sequences can share the cells of a
common prefix; shared cells cannot be moved, which matters for context shift.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

# Comparing beginnings of token lists.

CHUNK = 256  # tokens compared at once


def common_prefix(a: array[int], b: array[int], limit: int) -> int:
    """Length of the common beginning of two token arrays, at most `limit`."""
    limit = min(limit, len(a), len(b))
    with memoryview(a) as left, memoryview(b) as right:
        at = 0
        while at + CHUNK <= limit and left[at : at + CHUNK].tobytes() == right[at : at + CHUNK].tobytes():
            at += CHUNK
    while at < limit and a[at] == b[at]:
        at += 1
    return at


class Memory(Protocol):
    """The part of llama.cpp's memory interface that is needed here; see `Context`."""

    can_cut: bool
    can_shift: bool

    def remove(self, seq: int, start: int, end: int = -1) -> bool: ...
    def share(self, source: int, target: int, length: int) -> None: ...
    def shift(self, seq: int, start: int, end: int, by: int) -> None: ...


@dataclass(slots=True)
class _SequenceCells:
    """What a running sequence has in cells: the first `cached` of its tokens.

    Only the first `clean_prefix` of them were computed from these very tokens: what a context shift has moved still
    remembers what was cut out, so nobody else may have it.
    """

    tokens: array[int]
    cached: int
    clean_prefix: int | None = None

    @property
    def reusable(self) -> int:
        """How many tokens another sequence may take over."""
        return self.cached if self.clean_prefix is None else min(self.cached, self.clean_prefix)


class KVCache:
    """Hands out sequence ids. Owned by the loop thread.

    Busy ids belong to a running sequence, idle ones only remember, `idle_limit` tokens in all: attention walks over
    every cell in use, also for sequences that it does not belong to. `n_slots` must be two more than there are ever
    running sequences: one to give out while another is the donor of its prefix.
    """

    def __init__(self, memory: Memory, n_slots: int, idle_limit: int) -> None:
        self._memory = memory
        self._idle_limit = idle_limit
        self._free = list(range(n_slots - 1, -1, -1))
        self._idle: OrderedDict[int, array[int]] = OrderedDict()
        self._busy: dict[int, _SequenceCells] = {}

    @property
    def busy(self) -> int:
        """Number of ids that running sequences hold."""
        return len(self._busy)

    @property
    def idle_tokens(self) -> int:
        """Tokens that finished sequences still remember, shared ones counted for each."""
        return sum(len(tokens) for tokens in self._idle.values())

    def acquire(self, tokens: array[int]) -> tuple[int, int]:
        """Give an id to a sequence with these tokens; returns it and how many of them it already holds.

        At least one token is left to compute, as its logits are needed.
        """
        donor, length = self._best_prefix(tokens)
        if donor in self._idle:
            self._idle.move_to_end(donor)
        if donor in self._idle and length == len(self._idle[donor]):
            slot = donor
            del self._idle[donor]
        else:
            slot = self._take_free(keep=donor)
            if length:
                self._memory.share(donor, slot, length)
        self._busy[slot] = _SequenceCells(tokens, length)
        return slot, length

    def shared_with_busy(self, tokens: array[int]) -> int:
        """How many cells a sequence with these tokens would share with one that runs."""
        if not self._memory.can_cut:
            return 0
        prefixes = (common_prefix(other.tokens, tokens, other.reusable) for other in self._busy.values())
        return max(prefixes, default=0)

    def advance(self, slot: int, n_cached: int) -> None:
        """The first `n_cached` tokens of a busy id are in cells now."""
        self._busy[slot].cached = n_cached

    def release(self, slot: int, *, remember: bool = True) -> None:
        """A sequence has ended: keep what its id holds for others, or drop it."""
        holding = self._busy.pop(slot)
        kept = holding.reusable if remember else 0
        if kept < holding.cached and not (kept and self._cut(slot, kept)):
            kept = 0
        if not kept:
            self._drop(slot)
            return
        self._idle[slot] = holding.tokens[:kept]
        while self.idle_tokens > self._idle_limit and len(self._idle) > 1:
            self.evict()

    def rollback(self, slot: int, n_cached: int) -> int:
        """Forget all behind the first `n_cached` tokens of a busy id; returns how many are really left."""
        if not self._cut(slot, n_cached):
            self._memory.remove(slot, 0)
            n_cached = 0
        holding = self._busy[slot]
        holding.cached = n_cached
        if holding.clean_prefix is not None and n_cached <= holding.clean_prefix:
            holding.clean_prefix = None
        return n_cached

    def evict(self) -> bool:
        """Free the cells of the finished sequence that was used least recently; False if there is none."""
        if not self._idle:
            return False
        slot, _ = self._idle.popitem(last=False)
        self._drop(slot)
        return True

    def discard(self, slot: int, keep: int, count: int) -> bool:
        """Cut tokens [keep, keep + count) out of a busy id and close the gap by moving what follows.

        False if that is impossible, because the memory cannot move or a running sequence may share the cells: then
        nothing has changed and the caller computes the rest anew. The caller takes the tokens out of its list.
        """
        holding = self._busy[slot]
        if not self._memory.can_shift or self._shares_with_busy(slot, keep):
            return False
        for other in [s for s, known in self._idle.items() if _overlap(holding, known, len(known)) > keep]:
            del self._idle[other]
            self._drop(other)
        end = holding.cached
        self._memory.remove(slot, keep, keep + count)
        self._memory.shift(slot, keep + count, end, -count)
        holding.cached = end - count
        holding.clean_prefix = keep if holding.clean_prefix is None else min(holding.clean_prefix, keep)
        return True

    def _shares_with_busy(self, slot: int, keep: int) -> bool:
        """Whether cells behind the first `keep` tokens may be another's too: they are if the tokens are the same."""
        mine = self._busy[slot]
        others = (other for s, other in self._busy.items() if s != slot)
        return any(_overlap(mine, other.tokens, other.cached) > keep for other in others)

    def _cut(self, slot: int, length: int) -> bool:
        return self._memory.can_cut and self._memory.remove(slot, length)

    def _best_prefix(self, tokens: array[int]) -> tuple[int, int]:
        best, longest = -1, 0
        limit = len(tokens) - 1
        for slot, known in self._idle.items():
            length = common_prefix(known, tokens, limit)
            if not self._memory.can_cut and length < len(known):
                continue
            if length > longest:
                best, longest = slot, length
        if self._memory.can_cut:
            for slot, other in self._busy.items():
                length = common_prefix(other.tokens, tokens, min(limit, other.reusable))
                if length > longest:
                    best, longest = slot, length
        return best, longest

    def _take_free(self, keep: int) -> int:
        """An id nobody holds, made by forgetting the oldest idle one if need be, though never `keep`."""
        if not self._free:
            victim = next(slot for slot in self._idle if slot != keep)
            del self._idle[victim]
            self._drop(victim)
        return self._free.pop()

    def _drop(self, slot: int) -> None:
        self._memory.remove(slot, 0)
        self._free.append(slot)


def _overlap(mine: _SequenceCells, known: array[int], length: int) -> int:
    return common_prefix(mine.tokens, known, min(mine.cached, length))
