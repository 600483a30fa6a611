"""The KV cache's book-keeping: which llama.cpp sequence id holds which tokens, and whose prefix can be reused.

A finished sequence keeps its id and cells until they are needed (LRU), so that the next prompt with the same
beginning need not compute it. Two sequences can share the cells of a common prefix; shared cells cannot be moved,
so a context shift is impossible for them.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

CHUNK = 256  # tokens that `common_prefix` compares at once


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


class CacheMemory(Protocol):
    """The part of llama.cpp's memory API that the cache needs; `Context` implements it."""

    can_cut: bool
    can_shift: bool

    def remove(self, seq: int, start: int, end: int = -1) -> bool: ...
    def copy_prefix(self, source: int, target: int, length: int) -> None: ...
    def shift(self, seq: int, start: int, end: int, by: int) -> None: ...


@dataclass(slots=True)
class _SequenceCells:
    """The cells of a running sequence: they hold the first `cached` of its `tokens`.

    After a context shift only the first `clean_prefix` tokens were computed from these very tokens: what was moved
    still attends to what was cut out, so no other sequence may reuse it.
    """

    tokens: array[int]
    cached: int
    clean_prefix: int | None = None

    @property
    def reusable(self) -> int:
        """How many leading tokens another sequence may reuse."""
        return self.cached if self.clean_prefix is None else min(self.cached, self.clean_prefix)


class KVCache:
    """Hands out sequence ids ("slots"). Owned by the loop thread.

    A busy id belongs to a running sequence; an idle one keeps the cells of a finished one. Attention walks over every
    used cell, even for other sequences, so idle ids keep `idle_limit` tokens besides the longest of them: an agent's
    conversation may fill the context, and small requests beside it must not drop it. `n_slots` must exceed the number
    of running sequences by two: one id to give out while another is the donor of its prefix.
    """

    def __init__(self, memory: CacheMemory, n_slots: int, idle_limit: int) -> None:
        self._memory = memory
        self._idle_limit = idle_limit
        self._free = list(range(n_slots - 1, -1, -1))
        self._idle: OrderedDict[int, array[int]] = OrderedDict()
        self._busy: dict[int, _SequenceCells] = {}

    @property
    def busy(self) -> int:
        """Number of ids held by running sequences."""
        return len(self._busy)

    @property
    def idle_tokens(self) -> int:
        """Tokens kept for finished sequences; shared cells count once per sequence."""
        return sum(len(tokens) for tokens in self._idle.values())

    def acquire(self, tokens: array[int], *, reuse: bool = True) -> tuple[int, int]:
        """Give an id to a sequence. Returns the id and how many of its leading tokens the cells already hold.

        At least one token stays to be computed, as its logits are needed; without `reuse` all of them.
        """
        donor, length = self._best_prefix(tokens) if reuse else (-1, 0)
        if donor in self._idle and 2 * length >= len(self._idle[donor]):  # nearly all prompts share a few tokens
            self._idle.move_to_end(donor)
        if donor in self._idle and length == len(self._idle[donor]):
            slot = donor
            del self._idle[donor]
        else:
            slot = self._take_free(keep=donor)
            if length:
                self._memory.copy_prefix(donor, slot, length)
        self._busy[slot] = _SequenceCells(tokens, length)
        return slot, length

    def shared_with_busy(self, tokens: array[int]) -> int:
        """How many cells a sequence with these tokens would share with a running one."""
        if not self._memory.can_cut:
            return 0
        prefixes = (common_prefix(other.tokens, tokens, other.reusable) for other in self._busy.values())
        return max(prefixes, default=0)

    def set_cached(self, slot: int, n_cached: int) -> None:
        """Record that a busy id's cells hold its first `n_cached` tokens now."""
        self._busy[slot].cached = n_cached

    def release(self, slot: int, *, remember: bool = True) -> None:
        """End a sequence: keep its reusable cells as an idle id, or drop all of them unless `remember`."""
        cells = self._busy.pop(slot)
        kept = cells.reusable if remember else 0
        if kept < cells.cached and not (kept and self._cut(slot, kept)):
            kept = 0
        if not kept:
            self._drop(slot)
            return
        self._idle[slot] = cells.tokens[:kept]
        while len(self._idle) > 1 and self._keeps_too_much():
            self.evict()

    def rollback(self, slot: int, n_cached: int) -> int:
        """Drop all but the first `n_cached` tokens of a busy id. Returns how many stay: 0 if memory cannot cut."""
        if not self._cut(slot, n_cached):
            self._memory.remove(slot, 0)
            n_cached = 0
        cells = self._busy[slot]
        cells.cached = n_cached
        if cells.clean_prefix is not None and n_cached <= cells.clean_prefix:
            cells.clean_prefix = None
        return n_cached

    def evict(self) -> bool:
        """Drop the least recently used idle id; False if there is none."""
        if not self._idle:
            return False
        slot, _ = self._idle.popitem(last=False)
        self._drop(slot)
        return True

    def shift_out(self, slot: int, keep: int, count: int) -> bool:
        """Cut tokens [keep, keep + count) out of a busy id's cells and move what follows into the gap.

        Returns False, with nothing changed, if the memory cannot move cells or a running sequence may share them; the
        caller then computes the rest again. The caller also removes the tokens from its list.
        """
        cells = self._busy[slot]
        if not self._memory.can_shift or self._shares_with_busy(slot, keep):
            return False
        for other in [s for s, known in self._idle.items() if _overlap(cells, known, len(known)) > keep]:
            del self._idle[other]
            self._drop(other)
        end = cells.cached
        self._memory.remove(slot, keep, keep + count)
        self._memory.shift(slot, keep + count, end, -count)
        cells.cached = end - count
        cells.clean_prefix = keep if cells.clean_prefix is None else min(cells.clean_prefix, keep)
        return True

    def _keeps_too_much(self) -> bool:
        """Whether idle ids keep more cells than they may. Those that several share count once."""
        longest = max(map(len, self._idle.values()))
        if self.idle_tokens - longest <= self._idle_limit:
            return False
        cells = 0
        newer: list[array[int]] = []
        for tokens in reversed(self._idle.values()):
            cells += len(tokens) - max((common_prefix(other, tokens, len(tokens)) for other in newer), default=0)
            newer.append(tokens)
        return cells - longest > self._idle_limit

    def _shares_with_busy(self, slot: int, keep: int) -> bool:
        """Whether a running sequence may share cells behind the first `keep` tokens: it may if the tokens are equal."""
        mine = self._busy[slot]
        others = (other for s, other in self._busy.items() if s != slot)
        return any(_overlap(mine, other.tokens, other.cached) > keep for other in others)

    def _cut(self, slot: int, length: int) -> bool:
        """Keep only the first `length` positions; False if the memory cannot."""
        return self._memory.can_cut and self._memory.remove(slot, length)

    def _best_prefix(self, tokens: array[int]) -> tuple[int, int]:
        """The id with the longest reusable prefix of `tokens`, and its length; (-1, 0) if there is none."""
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
        """A free id; if there is none, the least recently used idle one other than `keep` is dropped."""
        if not self._free:
            victim = next(slot for slot in self._idle if slot != keep)
            del self._idle[victim]
            self._drop(victim)
        return self._free.pop()

    def _drop(self, slot: int) -> None:
        self._memory.remove(slot, 0)
        self._free.append(slot)


def _overlap(mine: _SequenceCells, known: array[int], length: int) -> int:
    """Length of the common prefix of what `mine` holds and the first `length` tokens of another."""
    return common_prefix(mine.tokens, known, min(mine.cached, length))
