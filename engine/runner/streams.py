"""Who holds which stream of llama.cpp's KV cache, and where a new sequence gets the cells of its beginning from.

Each running sequence has a stream of its own: attention then sees no cells but the sequence's own, and its numbers do
not depend on the others. A finished sequence stays in its stream until somebody needs that; then its state moves to the
prompt cache. Where all share one pool of cells it moves at once, as all of them would step over its cells.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from engine.runner.disk_cache import IDLE, WORTH_READING, DiskCache, Fetch
from engine.runner.known_tokens import KnownTokens, Reuse
from engine.runner.log import log
from engine.runner.placeholders import last_border, position_of, whole_spans
from engine.runner.prompt_cache import CachedState, PromptCache
from engine.runner.saved_state import SavedState
from engine.runner.shape import Shape
from registry.logfields import fields

WORTH_KEEPING = 64  # tokens; a shorter rest of a finished sequence is given up for the stream that it is in


class CacheMemory(Protocol):
    """The part of llama.cpp's memory API that streams need; `Context` implements it."""

    can_cut: bool
    can_cut_states: bool
    can_shift: bool
    packs: bool
    shape: Shape

    def remove(self, seq: int, start: int, end: int = -1) -> bool: ...
    def keeps_window(self, seq: int, start: int, end: int = -1) -> bool: ...
    def make_room(self, seq: int, count: int) -> bool: ...
    def shift(self, seq: int, start: int, end: int, by: int) -> None: ...
    def save(self, seq: int) -> SavedState | None: ...
    def restore(self, seq: int, state: SavedState) -> bool: ...
    def reshape(self, shape: Shape) -> bool: ...


@dataclass(slots=True, eq=False)
class Cells:
    """The cells of one sequence: `slot` (llama.cpp's sequence id) holds the first `cached` of the known tokens.

    After a context shift only the first `clean_prefix` tokens were computed from these very tokens: what was moved
    still attends to what was cut out, so no other sequence may reuse it. `used` counts up with each use of any stream.
    `tier` is where the beginning came from: "stream", "memory" or "disk", "" if it was computed. `idle_since`: when its
    sequence ended, by `time.monotonic`. `ahead` tokens behind the cached ones are only drafted: they are there until
    the pass that computed them is sampled.
    """

    known: KnownTokens
    slot: int
    cached: int
    busy: bool = True
    clean_prefix: int | None = None
    used: int = 0
    tier: str = ""
    idle_since: float = 0.0
    ahead: int = 0

    @property
    def reusable(self) -> int:
        """How many leading tokens another sequence may reuse."""
        return self.cached if self.clean_prefix is None else min(self.cached, self.clean_prefix)

    def lose(self) -> None:
        """Note that the stream holds nothing: the tokens must be computed again."""
        self.cached, self.known.on_grid, self.clean_prefix = 0, 0, None


class Streams:
    """Hands out the streams of a `CacheMemory`. Owned by the loop thread. `grid`: tokens between two borders.

    What was not used for a while goes to the `disk` too, if there is one.
    """

    def __init__(
        self, memory: CacheMemory, prompt_cache: PromptCache, grid: int, disk: DiskCache | None = None
    ) -> None:
        self._memory = memory
        self._grid = grid
        self.prompt_cache = prompt_cache
        self.disk = disk
        self._held: dict[int, Cells] = {}  # by slot
        self._uses = 0

    @property
    def shape(self) -> Shape:
        """How the cells are divided now."""
        return self._memory.shape

    @property
    def busy(self) -> int:
        """Number of streams held by running sequences."""
        return sum(cells.busy for cells in self._held.values())

    @property
    def idle_tokens(self) -> int:
        """Tokens of finished sequences that others can begin with."""
        return self.prompt_cache.tokens + self.held_tokens

    @property
    def held_tokens(self) -> int:
        """Those of them that are in the KV cache."""
        return sum(cells.cached for cells in self._idle())

    def known_prefix(self, tokens: array[int], owner: str = "") -> int:
        """The longest beginning of a prompt that anybody's known tokens have, whether its cells can be had or not."""
        known = [*(cells.known for cells in self._held.values()), *(entry.known for entry in self.prompt_cache)]
        limit = len(tokens) - 1
        return max((other.usable(tokens, Reuse.ANY, 1, limit, owner) for other in known), default=0)

    def seek(self, tokens: array[int], reuse: Reuse, owner: str = "") -> Fetch | None:
        """Begin to read a state from the disk, if it has more of these tokens than can be had without it."""
        if self.disk is None:
            return None
        stored, length = self.disk.find(tokens, reuse, self._grid, self._n_stream, owner)
        if stored is None or length < self._best(tokens, reuse, owner)[1] + WORTH_READING:
            return None
        return self.disk.fetch(stored, owner)

    def acquire(
        self, tokens: array[int], n_prompt: int, reuse: Reuse, owner: str = "", read: CachedState | None = None
    ) -> Cells:
        """Give a stream to a sequence of this owner, with as many of its leading tokens as can be had.

        `read` is a state that was read for it. There must be a stream that no running sequence has. At least one token
        stays to be computed, as its logits are needed.
        """
        source, length = self._best(tokens, reuse, owner, read)
        cells = self._taken_over(source, length) if isinstance(source, Cells) else None
        if cells is None:
            state = self._state_of(source)
            slot = self._free_slot()
            if state is None or not self._memory.restore(slot, state):
                if length:
                    log.info("saved state refused: the prompt is computed", extra=fields(slot=slot, tokens=length))
                length = 0
            cells = self._held[slot] = Cells(KnownTokens(tokens, n_prompt, owner=owner), slot, 0)
            held = len(source.tokens) if isinstance(source, CachedState) else source.cached if source else 0
            if length and not self._cut(slot, tokens, held, length):
                self._memory.remove(slot, 0)
                length = 0
        on_grid = self._on_grid(source.known, tokens, length) if source is not None else 0
        cells.known = KnownTokens(tokens, n_prompt, on_grid, owner)
        cells.cached, cells.busy, cells.clean_prefix = length, True, None
        cells.tier = "" if not length else "memory" if isinstance(source, CachedState) else "stream"
        if length and source is read:
            cells.tier = "disk"
            if read is not None and not self._memory.can_cut_states:
                self.prompt_cache.store(read)  # the next one cannot have it out of this stream
        self._touch(cells)
        return cells

    def release(self, cells: Cells, *, remember: bool = True) -> None:
        """End a sequence: its reusable cells stay for others, or are dropped unless `remember`."""
        if cells.ahead:
            self.rollback(cells, cells.cached)
        cells.busy = False
        cells.idle_since = time.monotonic()
        known = cells.known
        kept = whole_spans(known.tokens, cells.reusable) if remember else 0
        if kept < cells.cached and not (kept and self._cut(cells.slot, known.tokens, cells.cached, kept)):
            kept = 0
        cells.cached = kept
        on_grid = self._on_grid(known, known.tokens, kept)
        cells.known = KnownTokens(known.tokens[:kept], known.n_prompt, on_grid, known.owner)
        if not kept:
            self._drop(cells)
        elif self.shape.unified:
            self._move_out(cells)
        if kept and self.disk is not None:
            self.disk.changed()

    def suspend(self, cells: Cells) -> SavedState | None:
        """Take a running sequence out of its stream; returns its state, None if it must be computed again."""
        state = self._memory.save(cells.slot)
        self._drop(cells)
        return state

    def resume(self, cells: Cells, state: SavedState | None) -> Cells:
        """Put a suspended sequence back into a stream. Without a state, nothing is cached."""
        slot = self._free_slot()
        back = self._held[slot] = Cells(cells.known, slot, cells.cached, clean_prefix=cells.clean_prefix)
        if state is None or not self._memory.restore(slot, state):
            back.lose()
        self._touch(back)
        return back

    def rollback(self, cells: Cells, cached: int) -> None:
        """Drop all but the first `cached` tokens of a running sequence, all of them if memory cannot cut."""
        if not self._cut(cells.slot, cells.known.tokens, -1, cached):
            self._memory.remove(cells.slot, 0)
            cached = 0
        cells.cached, cells.ahead = cached, 0
        cells.known.on_grid = self._on_grid(cells.known, cells.known.tokens, cached)
        if cells.clean_prefix is not None and cached <= cells.clean_prefix:
            cells.clean_prefix = None

    def shift_out(self, cells: Cells, keep: int, count: int, *, steady: bool = False) -> bool:
        """Cut tokens [keep, keep + count) out of a running sequence's cells and give what follows their positions.

        Returns False, with nothing changed, if the memory cannot move cells; the caller then computes the rest again.
        The caller also removes the tokens from its list. `steady`: what comes later must not depend on whether the
        sequence is moved to another stream.
        """
        end = cells.cached
        if not self._memory.can_shift or not self._memory.remove(cells.slot, keep, keep + count):
            return False
        self._memory.shift(cells.slot, keep + count, end, -count)
        cells.cached = end - count
        cells.known.on_grid = self._on_grid(cells.known, cells.known.tokens, keep)
        cells.clean_prefix = keep if cells.clean_prefix is None else min(cells.clean_prefix, keep)
        if steady and self._memory.can_cut_states:
            self._close_hole(cells)
        return True

    def checkpoint(self, cells: Cells) -> None:
        """Keep a copy of what a running sequence holds now, for models whose cells cannot be cut later.

        Not of what was shifted: no other sequence may reuse it.
        """
        if cells.reusable == cells.cached and (state := self._memory.save(cells.slot)) is not None:
            tokens = cells.known.tokens[: cells.cached]
            # Its last token counts as an answer: who comes here goes on with the conversation.
            known = KnownTokens(tokens, len(tokens) - 1, cells.known.on_grid, cells.known.owner)
            self.prompt_cache.store(CachedState(known, state))

    @property
    def makes_room(self) -> bool:
        """Whether `make_room` has something to do, as small caches of windows need it."""
        return self._memory.packs

    def make_room(self, cells: Cells, count: int) -> bool:
        """See that a sequence's next `count` tokens can be computed. False if its cells were lost instead."""
        if self._memory.make_room(cells.slot, count):
            return True
        self._memory.remove(cells.slot, 0)
        cells.lose()
        return False

    def close_gaps(self, decoding: list[Cells]) -> None:
        """Give sequences that are decoded in one pass streams without a gap between them.

        llama.cpp cuts a pass at each gap, and each piece reads all weights. Moved are those whose states are smallest.
        """
        slots = [cells.slot for cells in decoding]
        if len(slots) < 2 or self.shape.unified or max(slots) - min(slots) == len(slots) - 1:
            return
        wanted = self._window(set(slots))
        movers = [cells for cells in decoding if cells.slot not in wanted]
        targets = [slot for slot in wanted if (other := self._held.get(slot)) is None or other not in decoding]
        for cells, slot in zip(movers, targets, strict=True):
            self._swap(cells, slot)

    def reshape(self, shape: Shape) -> bool:
        """Divide the cells anew: running sequences keep theirs, finished ones go to the prompt cache.

        False without memory for the new shape: the old one stays. Raises ModelError if there is none for that either.
        """
        before = self.shape
        for cells in list(self._idle()):
            self._move_out(cells)
        running = list(self._held.values())
        states = [self._memory.save(cells.slot) for cells in running]
        done = self._memory.reshape(shape)
        self.prompt_cache.drop_unfit(self._n_stream)
        self._held = {}
        for slot, (cells, state) in enumerate(zip(running, states, strict=True)):
            cells.slot = slot
            self._held[slot] = cells
            if state is None or not self._memory.restore(slot, state):
                cells.lose()
        counts = {"streams": shape.streams, "cells": shape.cells, "unified": shape.unified, "running": len(running)}
        counts |= {"streams_before": before.streams, "cells_before": before.cells}
        log.info("KV cache reshaped" if done else "KV cache cannot be reshaped: no memory", extra=fields(**counts))
        return done

    def write_idle(self, seconds: float = IDLE, *, may_save: bool) -> None:
        """Have what nobody has used for so many seconds written to the disk.

        `may_save`: also what is in streams, of which copies are made for it.
        """
        if self.disk is None:
            return
        before = time.monotonic() - seconds
        later = False
        for entry in self.prompt_cache:
            if self.disk.wants(entry.known, entry.state.streams):
                later |= entry.unused_since > before or not self.disk.offer(entry)
        for cells in self._unwritten():
            later |= cells.idle_since > before or not (may_save and self._write(cells))
        if later:
            self.disk.changed()

    def write_all(self) -> None:
        """Have all that finished sequences left written to the disk, the last used first; returns when it is."""
        if self.disk is None:
            return
        for cells in sorted(self._unwritten(), key=lambda cells: -cells.used):
            self._write(cells)
            self.disk.drain()  # one copy at a time
        for entry in reversed([*self.prompt_cache]):
            if not self.disk.has_room(entry.state.size):
                self.disk.drain()
            self.disk.offer(entry)
        self.disk.drain()

    def forget(self) -> None:
        """Drop what finished sequences left."""
        for cells in list(self._idle()):
            self._drop(cells)
        self.prompt_cache.clear()

    def _on_grid(self, known: KnownTokens, tokens: array[int], length: int) -> int:
        """How many of the first `length` tokens, which `known` and `tokens` share, are in whole chunks of the grid.

        What is cut apart counts no more.
        """
        return last_border(tokens, min(known.on_grid, length), length, self._grid)

    @property
    def _n_stream(self) -> int:
        """Streams as states count them."""
        return 1 if self.shape.unified else self.shape.streams

    def _unwritten(self) -> list[Cells]:
        """Finished sequences in streams that are worth a file and have none."""
        streams = 0 if self._memory.can_cut_states else self._n_stream
        disk = self.disk
        return [] if disk is None else [cells for cells in self._idle() if disk.wants(cells.known, streams)]

    def _write(self, cells: Cells) -> bool:
        """Have a copy of a finished sequence's cells written. False if too much is being written already."""
        if self.disk is None or not self.disk.has_room(0) or (state := self._memory.save(cells.slot)) is None:
            return False
        return self.disk.offer(CachedState(cells.known, state, cells.idle_since))

    def _idle(self) -> Iterator[Cells]:
        return (cells for cells in self._held.values() if not cells.busy)

    def _touch(self, cells: Cells) -> None:
        self._uses += 1
        cells.used = self._uses

    def _best(
        self, tokens: array[int], reuse: Reuse, owner: str, read: CachedState | None = None
    ) -> tuple[Cells | CachedState | None, int]:
        """Where the longest beginning of `tokens` can be had, and its length. A stream is better than a saved state.

        `read`: a further state, from the disk.
        """
        best: Cells | CachedState | None = None
        longest = 0
        for cells in self._held.values():
            length = cells.known.usable(tokens, reuse, self._grid, cells.reusable, owner)
            if length < cells.cached and not (self._memory.can_cut_states or self._can_cut_in_place(cells, length)):
                continue
            if length > longest or (length == longest and length and not cells.busy):
                best, longest = cells, length
        for entry in (*self.prompt_cache, *(() if read is None else (read,))):
            length = entry.known.usable(tokens, reuse, self._grid, len(entry.tokens), owner)
            if length > longest and (self._memory.can_cut_states or length == len(entry.tokens)):
                best, longest = entry, length
        return best, longest

    def _taken_over(self, cells: Cells, length: int) -> Cells | None:
        """A finished sequence's stream for one that goes on from it; None if its own rest is worth keeping there."""
        if cells.busy:
            return None
        if cells.cached - length > WORTH_KEEPING:
            if self._memory.can_cut_states:
                return None
            self._store(cells)
        return cells if self._cut(cells.slot, cells.known.tokens, cells.cached, length) else None

    def _can_cut_in_place(self, cells: Cells, length: int) -> bool:
        """Whether a finished sequence can be cut behind `length` tokens where it is."""
        if cells.busy or not self._memory.can_cut:
            return False
        return self._memory.keeps_window(cells.slot, position_of(cells.known.tokens, length))

    def _state_of(self, source: Cells | CachedState | None) -> SavedState | None:
        if isinstance(source, Cells):
            return self._memory.save(source.slot)
        if source is not None:
            if source in self.prompt_cache:
                self.prompt_cache.use(source)
            return source.state
        return None

    def _free_slot(self) -> int:
        """A stream for a new sequence, beside those that run: empty, or a finished sequence's, which moves out."""
        slots = range(self.shape.streams)
        free = [slot for slot in slots if (cells := self._held.get(slot)) is None or not cells.busy]
        running = [cells.slot for cells in self._held.values() if cells.busy]
        low, high = min(running, default=0), max(running, default=-1)

        def cost(slot: int) -> tuple[int, bool, int, int]:
            gap = max(low - slot - 1, slot - high - 1, 0) if running else 0
            held = self._held.get(slot)
            return gap, held is not None, held.used if held else 0, slot

        slot = min(free, key=cost)
        if (cells := self._held.get(slot)) is not None:
            self._move_out(cells)
        return slot

    def _window(self, slots: set[int]) -> range:
        """As many neighbouring streams as `slots` has, chosen so that the fewest tokens have to move."""

        def cost(window: range) -> int:
            leaving = sum(self._held[slot].cached for slot in slots if slot not in window)
            return leaving + sum(self._held[slot].cached for slot in window if slot in self._held and slot not in slots)

        windows = [range(first, first + len(slots)) for first in range(self.shape.streams - len(slots) + 1)]
        return min(windows, key=cost)

    def _swap(self, cells: Cells, slot: int) -> None:
        """Move a running sequence to another stream; what that holds moves out, or here if it runs too."""
        other = self._held.get(slot)
        if other is not None and not other.busy:
            self._move_out(other)
            other = None
        source, state = cells.slot, self._memory.save(cells.slot)
        theirs = None if other is None else self._memory.save(slot)
        del self._held[source]
        for seq in {source, slot}:
            self._memory.remove(seq, 0)
        self._place(cells, slot, state)
        if other is not None:
            self._place(other, source, theirs)

    def _close_hole(self, cells: Cells) -> None:
        """Put a shifted sequence's cells in a row, as a move to another stream does.

        llama.cpp fills the hole that a shift leaves with what is computed next, and adds up in the order of the cells.
        """
        if (state := self._memory.save(cells.slot)) is not None:
            self._memory.remove(cells.slot, 0)
            self._place(cells, cells.slot, state)

    def _place(self, cells: Cells, slot: int, state: SavedState | None) -> None:
        cells.slot = slot
        self._held[slot] = cells
        if cells.cached and (state is None or not self._memory.restore(slot, state)):
            cells.lose()

    def _move_out(self, cells: Cells) -> None:
        """Free a finished sequence's stream; its state goes to the prompt cache."""
        self._store(cells)
        self._drop(cells)

    def _store(self, cells: Cells) -> None:
        if cells.cached and (state := self._memory.save(cells.slot)) is not None:
            self.prompt_cache.store(CachedState(cells.known, state, cells.idle_since))

    def _cut(self, slot: int, tokens: array[int], held: int, length: int) -> bool:
        """Keep only the first `length` of the `held` tokens; False if the memory cannot."""
        return held == length or (self._memory.can_cut and self._memory.remove(slot, position_of(tokens, length)))

    def _drop(self, cells: Cells) -> None:
        self._memory.remove(cells.slot, 0)
        del self._held[cells.slot]
