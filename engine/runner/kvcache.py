"""Who holds which part of the cache: llama.cpp sequence ids, what each remembers, and what can be reused.

A finished sequence keeps its id and its cells until somebody needs them (least recently used goes first), so that
the next request that begins with the same tokens need not compute them. Two sequences can share the cells of a
common prefix; shared cells cannot be moved, which matters for context shift.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Protocol

CHUNK = 256  # tokens compared at once


class Memory(Protocol):
    """The part of llama.cpp's memory interface that is needed here; see `Context`."""

    can_cut: bool
    can_shift: bool

    def remove(self, seq: int, start: int, end: int = -1) -> bool: ...
    def share(self, source: int, target: int, length: int) -> None: ...
    def shift(self, seq: int, start: int, end: int, by: int) -> None: ...


def common_prefix(a: array[int], b: array[int], limit: int) -> int:
    """Length of the common beginning of two token arrays, at most `limit`."""
    limit = min(limit, len(a), len(b))
    left, right = memoryview(a), memoryview(b)
    at = 0
    while at + CHUNK <= limit and left[at : at + CHUNK].tobytes() == right[at : at + CHUNK].tobytes():
        at += CHUNK
    while at < limit and a[at] == b[at]:
        at += 1
    return at


class KVCache:
    """Hands out sequence ids. Owned by the loop thread.

    Busy ids belong to a running sequence, idle ones only remember. `n_slots` must be two more than there are ever
    running sequences: one to give out while another is the donor of its prefix.
    """

    def __init__(self, memory: Memory, n_slots: int) -> None:
        self._memory = memory
        self._free = list(range(n_slots - 1, -1, -1))
        self._idle: OrderedDict[int, array[int]] = OrderedDict()
        self._busy: dict[int, array[int]] = {}
        self._cached: dict[int, int] = {}  # busy slot -> tokens of it that are in cells
        self._shared: dict[int, dict[int, int]] = {}  # slot -> other slot -> length of the prefix they share

    @property
    def busy(self) -> int:
        """Number of ids that running sequences hold."""
        return len(self._busy)

    @property
    def busy_cells(self) -> int:
        """Cells that running sequences hold, shared ones counted for each."""
        return sum(self._cached.values())

    @property
    def idle_tokens(self) -> int:
        """Tokens that finished sequences still remember."""
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
                self._link(donor, slot, length)
        self._busy[slot] = tokens
        self._cached[slot] = length
        return slot, length

    def shared_with_busy(self, tokens: array[int]) -> int:
        """How many cells a sequence with these tokens would share with one that runs."""
        if not self._memory.can_cut:
            return 0
        prefixes = (common_prefix(known, tokens, self._cached[slot]) for slot, known in self._busy.items())
        return max(prefixes, default=0)

    def advance(self, slot: int, n_cached: int) -> None:
        """The first `n_cached` tokens of a busy id are in cells now."""
        self._cached[slot] = n_cached

    def release(self, slot: int, *, remember: bool = True) -> None:
        """A sequence has ended: keep what its id holds for others, or drop it."""
        tokens = self._busy.pop(slot)
        n_cached = self._cached.pop(slot)
        if remember and n_cached:
            self._idle[slot] = tokens[:n_cached]
        else:
            self._drop(slot)

    def rollback(self, slot: int, n_cached: int) -> int:
        """Forget all behind the first `n_cached` tokens of a busy id; returns how many are really left."""
        if not (self._memory.can_cut and self._memory.remove(slot, n_cached)):
            self._memory.remove(slot, 0)
            n_cached = 0
        self._cached[slot] = n_cached
        self._trim_links(slot, n_cached)
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

        False if that is impossible, because the memory cannot move or a running sequence shares the cells: then
        nothing has changed and the caller computes the rest anew.
        """
        if not self._memory.can_shift:
            return False
        for other, length in list(self._shared.get(slot, {}).items()):
            if length <= keep:
                continue
            if other in self._busy:
                return False
            del self._idle[other]
            self._drop(other)
        end = self._cached[slot]
        self._memory.remove(slot, keep, keep + count)
        self._memory.shift(slot, keep + count, end, -count)
        self._cached[slot] = end - count
        return True

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
            for slot, known in self._busy.items():
                length = common_prefix(known, tokens, min(limit, self._cached[slot]))
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
        for other in self._shared.pop(slot, {}):
            self._shared[other].pop(slot, None)
        self._free.append(slot)

    def _link(self, source: int, target: int, length: int) -> None:
        relatives = {source: length}
        for other, shared in self._shared.get(source, {}).items():
            relatives[other] = min(shared, length)
        for other, shared in relatives.items():
            self._shared.setdefault(other, {})[target] = shared
            self._shared.setdefault(target, {})[other] = shared

    def _trim_links(self, slot: int, n_cached: int) -> None:
        for other, shared in list(self._shared.get(slot, {}).items()):
            length = min(shared, n_cached)
            if length:
                self._shared[slot][other] = self._shared[other][slot] = length
            else:
                del self._shared[slot][other], self._shared[other][slot]
