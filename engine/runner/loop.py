"""The runner's heart: one `step()` after the other, each one forward pass for everybody.

A step admits who fits, batches one token of each running answer and then a chunk of the prompt whose turn it is,
decodes, samples, and emits what came of it in one message.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.messages import Chunk, Failed, FromRunner
from engine.runner.context import ABORTED, NO_SLOT, Batch, Context, DecodeError
from engine.runner.kvcache import KVCache
from engine.runner.pace import Pace
from engine.runner.sampling import BatchSampler
from engine.runner.sequence import Sequence

ADMISSION_MARGIN = 32  # cells left for each running sequence to grow into before the next is let in


@dataclass(slots=True, frozen=True)
class Part:
    """What one sequence has in a batch: `count` tokens; `output` when the last one's logits are wanted."""

    seq: Sequence
    count: int
    output: bool


class Loop:
    """Owns the context, the cache and all sequences; everything here happens on one thread.

    The exceptions are `prefilling` and the counters, which the mailbox' thread may read. `emit` is called once per
    step with all that the step produced.
    """

    def __init__(
        self,
        context: Context,
        cache: KVCache,
        *,
        n_parallel: int,
        n_cells: int,
        n_batch: int,
        emit: Callable[[list[FromRunner]], None],
    ) -> None:
        self._context = context
        self._cache = cache
        self._n_parallel = n_parallel
        self._n_cells = n_cells
        self._emit = emit
        self._batch = Batch(n_batch)
        self._pace = Pace(n_batch)
        self._sampler = BatchSampler(context.n_vocab)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._events: list[FromRunner] = []
        self.prefilling: frozenset[int] = frozenset()
        self.steps = 0

    @property
    def busy(self) -> int:
        """Number of running sequences."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of sequences that are not running yet."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._running and not self._waiting

    @property
    def cached_tokens(self) -> int:
        """Tokens of finished sequences that can still be reused."""
        return self._cache.idle_tokens

    def submit(self, seq: Sequence) -> None:
        """Queue a request."""
        self._waiting.append(seq)

    def cancel(self, id: int) -> None:
        """Drop a request wherever it is; unknown ids are those that have just ended."""
        for seq in [s for s in self._running if s.id == id]:
            self._finish(seq)
        for seq in [s for s in self._waiting if s.id == id]:
            self._waiting.remove(seq)
            seq.sampler.close()

    def plan(self) -> list[Part]:
        """Fill the batch: who decodes, then prompts in order; also announces whose prefill may be aborted."""
        self._admit()
        self._batch.clear()
        parts = [self._add(seq, 1) for seq in self._running if seq.decoding]
        prompts = [seq for seq in self._running if not seq.decoding]
        room = min(self._batch.room, self._pace.chunk(crowded=bool(parts or self._waiting or len(prompts) > 1)))
        for seq in prompts:
            if room <= 0:
                break
            parts.append(self._add(seq, min(seq.n_pending, room)))
            room -= parts[-1].count
        self.prefilling = frozenset(part.seq.id for part in parts if part.count > 1)
        return parts

    def step(self, parts: list[Part]) -> None:
        """Run the planned pass and emit what came of it."""
        started = time.perf_counter()
        try:
            code = self._decode()
        except DecodeError as error:
            self._fail(parts, str(error))
        else:
            if code == 0:
                self._advance(parts, started)
            else:
                self._undo(parts, code)
        if self._events:
            events, self._events = self._events, []
            self._emit(events)

    def _admit(self) -> None:
        while self._waiting and self._can_admit(self._waiting[0]):
            seq = self._waiting.popleft()
            seq.slot, seq.n_cached = self._cache.acquire(seq.tokens)
            if seq.n_reused < 0:
                seq.n_reused = seq.n_cached
            self._running.append(seq)

    def _can_admit(self, seq: Sequence) -> bool:
        if not self._running:
            return True
        if len(self._running) >= self._n_parallel:
            return False
        if any(not s.decoding for s in self._running) and not self._fits_beside_prefill(seq):
            return False
        needed = len(seq.tokens) - self._cache.shared_with_busy(seq.tokens)
        held = sum(len(s.tokens) for s in self._running)
        return held + needed + ADMISSION_MARGIN * (len(self._running) + 1) <= self._n_cells

    def _fits_beside_prefill(self, seq: Sequence) -> bool:
        """Let the next prompt in early only if this step can begin it: until then a longer prefix may appear."""
        pending = sum(s.n_pending for s in self._running)
        return pending < self._pace.chunk(crowded=True)

    def _add(self, seq: Sequence, count: int) -> Part:
        start = seq.n_cached
        output = start + count == len(seq.tokens)
        self._batch.add(seq.slot, seq.tokens[start : start + count], start, output=output)
        if not seq.first_pass:
            seq.first_pass = time.perf_counter()
        return Part(seq, count, output)

    def _decode(self) -> int:
        self._context.abort.clear()
        code = self._context.decode(self._batch)
        while code == NO_SLOT and self._cache.evict():
            code = self._context.decode(self._batch)
        self.steps += 1
        return code

    def _advance(self, parts: list[Part], started: float) -> None:
        for part in parts:
            part.seq.n_cached += part.count
            self._cache.advance(part.seq.slot, part.seq.n_cached)
        outputs = [part.seq for part in parts if part.output]
        if outputs:
            logits = self._context.logits(len(outputs))
        now = time.perf_counter()
        self._pace.measured(sum(part.count for part in parts), now - started)
        if outputs:
            tokens = self._sampler.sample([seq.sampler for seq in outputs], logits)
            now = time.perf_counter()
            for seq, token in zip(outputs, tokens, strict=True):
                self._take(seq, token, now)

    def _take(self, seq: Sequence, token: int, now: float) -> None:
        """A sequence has its next token: show its text, end the answer, or make room for the one after."""
        seq.accept(token, now)
        if self._context.ends(token):
            self._end(seq, "stop", now)
            return
        text = seq.text.feed(self._context.piece(token))
        if text:
            self._events.append(Chunk(seq.id, text))
        if seq.text.stopped or seq.text.looping:
            self._end(seq, "stop", now)
        elif seq.n_generated >= seq.max_new or (seq.full and not seq.submit.shift):
            self._end(seq, "length", now)
        elif seq.full:
            self._shift(seq)

    def _end(self, seq: Sequence, reason: str, now: float) -> None:
        if not seq.text.stopped and (rest := seq.text.flush()):
            self._events.append(Chunk(seq.id, rest))
        self._events.append(seq.done(reason, now))
        self._finish(seq)

    def _finish(self, seq: Sequence, *, remember: bool = True) -> None:
        self._running.remove(seq)
        self._cache.release(seq.slot, remember=remember)
        seq.sampler.close()

    def _shift(self, seq: Sequence) -> None:
        """The context is full: forget the older half of what follows the kept beginning."""
        keep = seq.n_keep
        count = (seq.n_cached - keep) // 2
        if self._cache.discard(seq.slot, keep, count):
            seq.n_cached -= count
        else:
            seq.n_cached = self._cache.rollback(seq.slot, keep)
        del seq.tokens[keep : keep + count]

    def _undo(self, parts: list[Part], code: int) -> None:
        """An aborted pass may have left parts of itself behind; a full cache means that somebody must wait."""
        if code == ABORTED:
            for part in parts:
                part.seq.n_cached = self._cache.rollback(part.seq.slot, part.seq.n_cached)
            return
        if len(self._running) == 1:
            self._fail(parts, "the context cache is full")
            return
        self._preempt(self._running[-1])

    def _preempt(self, seq: Sequence) -> None:
        """Take the youngest sequence's cells for the others; it is computed again when there is room."""
        self._running.remove(seq)
        self._cache.release(seq.slot, remember=False)
        seq.slot, seq.n_cached = -1, 0
        self._waiting.appendleft(seq)

    def _fail(self, parts: list[Part], detail: str) -> None:
        for part in parts:
            self._events.append(Failed(part.seq.id, "internal", detail))
            self._finish(part.seq, remember=False)
