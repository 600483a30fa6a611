"""Which sequences run: waiting ones are admitted where there is room, running ones suspended where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.runner.context import Context
from engine.runner.known_tokens import Reuse, common_prefix
from engine.runner.log import log_event
from engine.runner.placeholders import last_border, whole_spans
from engine.runner.sequence import Sequence
from engine.runner.shape import Budget, Shape, choose_shape, fits, room_for
from engine.runner.streams import Streams
from engine.runner.waiting_line import WaitingLine, surplus

ADMISSION_MARGIN = 32  # cells that a new sequence must find behind its tokens
WORTH_WAITING = 32  # tokens; a prompt waits while another computes at least this much more of their common prefix
PATIENCE = 10.0  # seconds that others may overtake a sequence for which there is no room
SHARE_PATIENCE = 2.0  # seconds that a client waits beside others of whom more run than of it
NO_SHAPE = Shape(0, 0)  # serves nobody
NO_MEMORY = "there is no memory for another division of the KV cache"


class Admission:
    """The sequences that wait and those that run. Owned by the loop thread.

    `fail` ends running sequences with an error and takes them out of `running`. `grid` is as in `Loop`.
    """

    def __init__(
        self,
        context: Context,
        streams: Streams,
        budget: Budget,
        grid: int,
        fail: Callable[[list[Sequence], str], None],
    ) -> None:
        self._context = context
        self._streams = streams
        self.budget = budget
        self._grid = grid
        self._fail = fail
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []

    def admit_all(self) -> None:
        """Make room for those that run, then admit all that may start."""
        self._make_room()
        while self.waiting and (seq := self.next()) is not None and self._admit(seq):
            pass
        if self.waiting and self.running:
            self._share()

    def resize(self, budget: Budget) -> bool:
        """Divide another number of cells from now on. Who has no room any more is suspended.

        Another number is taken at once, so that it shows now whether there is memory for it. False if not: then all is
        as before, but for the suspended. Raises ModelError.
        """
        if budget.cells != self.budget.cells:
            shape = self._resized(budget)
            while not self._fit(shape):
                self.suspend(self.running[-1])
            if shape != self._streams.shape and not self._streams.reshape(shape):
                return False
        self.budget = budget
        return True

    def _resized(self, budget: Budget) -> Shape:
        """The widest shape of another budget that holds the longest sequence beside those that run, if any does."""
        steady = any(seq.steady for seq in self.running)
        return choose_shape([*self._lengths, budget.longest], budget, NO_SHAPE, may_unify=not steady)

    def next(self) -> Sequence | None:
        """The next waiting sequence that may start: a sequence that waits for something else holds up nobody.

        But where there is no room for one that has waited long, nobody starts before it.
        """
        if len(self.running) >= self.budget.streams:
            return None
        for seq in self.waiting.in_turn(self.running):
            if self._awaits_state(seq):
                continue
            if not self.running:
                return seq
            if self._has_prefix_coming(seq):
                continue
            if fits(self._needs(seq), self._shape_for(seq)):
                return seq
            if time.perf_counter() - seq.arrived > PATIENCE:
                return None
        return None

    def suspend(self, seq: Sequence, reason: str = "KV cache is full") -> None:
        """Take a sequence's cells for the others and queue it again, with its state."""
        log_event(seq.trace_id, f"sequence suspended: {reason}", seq=seq.id, tokens=seq.n_generated)
        assert seq.cells is not None
        self.running.remove(seq)
        seq.saved = self._streams.suspend(seq.cells)
        seq.arrived = time.perf_counter()
        self.waiting.put_back(seq)

    def _share(self) -> None:
        """Let a client that has waited for long have the place of another's sequence, if that has two more than it."""
        seq = next(self.waiting.in_turn(self.running))
        if time.perf_counter() - seq.arrived < SHARE_PATIENCE or self._awaits_state(seq):
            return
        victim = surplus(self.running, seq.client)
        if victim is None:
            return
        staying = [other for other in self.running if other is not victim]
        needs = [self._need(other) for other in (*staying, seq)]
        steady = any(other.steady for other in (*staying, seq))
        if fits(needs, choose_shape(needs, self.budget, self._streams.shape, may_unify=not steady)):
            self.suspend(victim, "another client's turn")
            self._admit(seq)

    def _admit(self, seq: Sequence) -> bool:
        """Give a sequence a stream, after a change of the shape if it needs one; False without memory for that."""
        shape = self._shape_for(seq)
        if shape != self._streams.shape and not self._streams.reshape(shape):
            if not self.running:
                self.waiting.remove(seq)
                self.running.append(seq)
                self._fail([seq], NO_MEMORY)
            return False
        self.waiting.remove(seq)
        if seq.cells is not None:
            seq.cells = self._streams.resume(seq.cells, seq.saved)
            seq.saved = None
        else:
            border = 0 if self._context.can_cut_states else self._border(seq)
            read = None if seq.fetch is None else seq.fetch.entry
            seq.cells = self._streams.acquire(seq.tokens, seq.n_prompt, seq.reuse, seq.owner, read)
            seq.fetch = None
            seq.border = border if border >= seq.n_cached + WORTH_WAITING else 0
        if seq.n_reused < 0:
            seq.n_reused, seq.tier = seq.n_cached, seq.cells.tier
            seq.queued = time.perf_counter() - seq.arrived
        self.running.append(seq)
        self.waiting.served(seq.client)
        counts = {"prompt_tokens": seq.n_prompt, "cached_tokens": seq.n_cached, "running": len(self.running)}
        log_event(seq.trace_id, "sequence admitted", seq=seq.id, slot=seq.cells.slot, **counts)
        return True

    def _awaits_state(self, seq: Sequence) -> bool:
        """Whether a sequence's beginning is being read from the disk. That begins when its turn has come."""
        if not seq.sought:
            seq.sought = True
            seq.fetch = None if seq.cells is not None else self._streams.seek(seq.tokens, seq.reuse, seq.owner)
        return seq.fetch is not None and not seq.fetch.done

    def _border(self, seq: Sequence) -> int:
        """Where a prompt parts from others that are known. Steady ones are divided at their own borders alone."""
        common = self._streams.known_prefix(seq.tokens, seq.owner)
        return last_border(seq.tokens, common, common, self._grid) if seq.steady else common

    def _shape_for(self, *waiting: Sequence) -> Shape:
        """The shape for those that run and one that waits, without this one if not all fit."""
        steady = any(seq.steady for seq in (*self.running, *waiting))
        return choose_shape(self._needs(*waiting), self.budget, self._streams.shape, may_unify=not steady)

    def _needs(self, *waiting: Sequence) -> list[int]:
        return [self._need(seq) for seq in (*self.running, *waiting)]

    def _need(self, seq: Sequence) -> int:
        """Cells that a sequence needs: few more than its tokens, but in a new shape some for its answer."""
        shape = self._streams.shape
        length = _cells(seq)
        most = max(min(seq.limit, seq.n_prompt + seq.max_new), length)
        least = length if seq in self.running else min(length + ADMISSION_MARGIN, most)
        return room_for(length, most) if shape.unified or least > shape.cells else least

    def _make_room(self) -> None:
        """Change the shape if a running sequence outgrows its stream, or suspend those for which there is no room."""
        while self.running and not self._fit(self._streams.shape):
            shape = self._shape_for()
            if self._fit(shape):
                if not self._streams.reshape(shape):
                    self._fail(self.running[-1:], NO_MEMORY)
            elif len(self.running) == 1:
                self._fail(self.running[:], "KV cache is full")
            else:
                self.suspend(self.running[-1])

    def _fit(self, shape: Shape) -> bool:
        return fits(self._lengths, shape)

    @property
    def _lengths(self) -> list[int]:
        return [_cells(seq) for seq in self.running]

    def _has_prefix_coming(self, seq: Sequence) -> bool:
        """Whether a prompt that is being computed shares a longer prefix with this one than can be had yet."""
        if seq.cells is not None or seq.reuse is Reuse.NONE:
            return False
        computed = (other for other in self.running if other.n_pending > WORTH_WAITING and not other.n_batch)
        return any(self._common(other, seq) >= other.n_cached + WORTH_WAITING for other in computed)

    def _common(self, other: Sequence, seq: Sequence) -> int:
        """How many tokens of a prompt that is being computed another will be able to begin with."""
        if other.owner != seq.owner or (seq.steady and not other.steady):
            return 0
        common = common_prefix(other.tokens, seq.tokens, len(seq.tokens) - 1)
        return last_border(seq.tokens, common, common, self._grid) if seq.steady else whole_spans(seq.tokens, common)


def _cells(seq: Sequence) -> int:
    """Cells that a sequence needs for its next pass: the row of a steady one may need a second one beside it."""
    length = len(seq.tokens)
    return length + 1 if length < seq.limit and seq.steady else length
