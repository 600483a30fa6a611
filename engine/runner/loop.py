"""The runner's heart: one `step()` after the other, each one forward pass for everybody.

A step admits who fits, batches one token of each running answer and then chunks of the prompts whose turn it is,
decodes, samples, and emits what came of it in one message.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from engine.messages import Chunk, Failed, FromRunner
from engine.runner.batch import Batch
from engine.runner.context import ABORTED, NO_SLOT, Context, DecodeError
from engine.runner.kvcache import KVCache, common_prefix
from engine.runner.prefill_budget import PrefillBudget
from engine.runner.sampling import NO_TOKEN, BatchSampler
from engine.runner.sequence import Sequence

ADMISSION_MARGIN = 32  # cells left for each running sequence to grow into before the next is let in
WORTH_WAITING = 32  # tokens of a common beginning that a prompt waits for while another computes them
MUCH_SHORTER = 4  # times: such a prompt overtakes a longer one
STRETCH = 1.5  # times the chunk that a prompt may have to be taken in one pass
NO_IDS: frozenset[int] = frozenset()


@dataclass(slots=True)
class BatchPlan:
    """Who is in a pass: one token of each of `rows`, then `count` tokens of each of the prompts."""

    rows: list[Sequence]
    prompts: list[tuple[Sequence, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows or self.prompts)

    def sequences(self) -> list[Sequence]:
        """Everybody in the pass."""
        return [*self.rows, *(seq for seq, _ in self.prompts)]


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
        emit: Callable[[list[FromRunner]], None],
    ) -> None:
        self._context = context
        self._vocabulary = context.vocabulary
        self._cache = cache
        self._n_parallel = n_parallel
        self._n_cells = n_cells
        self._emit = emit
        self._batch = Batch(context.n_batch)
        self._pace = PrefillBudget(context.n_batch)
        self._sampler = BatchSampler(context.vocabulary.size)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._events: list[FromRunner] = []
        self.prefilling = NO_IDS
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

    def plan(self) -> BatchPlan:
        """Fill the batch: who decodes, then prompts; also announces whose prefill may be aborted."""
        if self._waiting:
            self._admit()
        plan = BatchPlan([seq for seq in self._running if seq.decoding])
        self._batch.clear()
        if plan.rows:
            rows = plan.rows
            self._batch.add_row([s.slot for s in rows], [s.tokens[-1] for s in rows], [s.n_cached for s in rows])
        if len(plan.rows) < len(self._running):
            self._add_prompts(plan)
            self.prefilling = frozenset(seq.id for seq, _ in plan.prompts)
        elif self.prefilling:
            self.prefilling = NO_IDS
        return plan

    def step(self, plan: BatchPlan) -> None:
        """Run the planned pass and emit what came of it."""
        usual = self._context.threads.use(seq.n_threads for seq in plan.sequences())
        started = time.perf_counter()
        try:
            code = self._decode()
        except DecodeError as error:
            self._fail(plan.sequences(), str(error))
        else:
            if code == 0:
                self._advance(plan, started, usual=usual)
            else:
                self._undo(plan, code)
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
        if len(self._running) >= self._n_parallel or self._has_prefix_coming(seq):
            return False
        needed = len(seq.tokens) - self._cache.shared_with_busy(seq.tokens)
        if seq.n_generated:
            needed += len(seq.tokens) // 4  # it had to leave for others: not back before that pays
        held = sum(len(s.tokens) for s in self._running)
        return held + needed + ADMISSION_MARGIN * (len(self._running) + 1) <= self._n_cells

    def _has_prefix_coming(self, seq: Sequence) -> bool:
        """Whether a prompt that is being computed begins as this one does, beyond what is there already."""
        limit = len(seq.tokens) - 1
        return any(
            common_prefix(other.tokens, seq.tokens, limit) >= other.n_cached + WORTH_WAITING
            for other in self._running
            if other.n_pending > WORTH_WAITING and not self._is_slow(other)
        )

    def _is_slow(self, seq: Sequence) -> bool:
        """Whether a prompt takes less of a pass than it could, because its request wants that."""
        return 0 < seq.n_batch < min(seq.n_pending, self._pace.chunk(crowded=True))

    def _add_prompts(self, plan: BatchPlan) -> None:
        """Prompts go one after the other; much shorter ones overtake the oldest, which keeps half of the chunk.

        Those that are slow by their own wish keep nobody waiting: they come along with little.
        """
        prompts = [seq for seq in self._running if not seq.decoding]
        oldest = next((seq for seq in prompts if not self._is_slow(seq)), prompts[0])
        crowded = bool(plan.rows or self._waiting or len(prompts) > 1)
        room = min(self._batch.room, self._pace.chunk(crowded=crowded))
        reserved = min(oldest.n_pending, (room + 1) // 2)
        short = [seq for seq in prompts if seq is not oldest and self._overtakes(seq, oldest)]
        short.sort(key=self._is_slow)
        for seq in short:
            room -= self._add_prompt(plan, seq, room - reserved)
        if oldest.n_pending <= room * STRETCH:
            room = max(room, min(oldest.n_pending, self._batch.room))  # a small rest would need a pass of its own
        room -= self._add_prompt(plan, oldest, room)
        for seq in prompts:
            # In part it would delay the others and not be ready itself.
            if seq is not oldest and seq not in short and seq.n_pending <= room:
                room -= self._add_prompt(plan, seq, room)

    def _overtakes(self, seq: Sequence, oldest: Sequence) -> bool:
        return self._is_slow(seq) or seq.n_pending * MUCH_SHORTER <= oldest.n_pending

    def _add_prompt(self, plan: BatchPlan, seq: Sequence, room: int) -> int:
        """Put as much of a prompt as there is room for into the batch; returns how many tokens that is."""
        count = min(seq.n_pending, room, seq.n_batch or room)
        if count <= 0:
            return 0
        start = seq.n_cached
        output = start + count == len(seq.tokens)
        self._batch.add(seq.slot, seq.tokens[start : start + count], start, output=output)
        seq.first_pass = seq.first_pass or time.perf_counter()
        plan.prompts.append((seq, count))
        return count

    def _decode(self) -> int:
        code = self._context.decode(self._batch)
        while code == NO_SLOT and self._cache.evict():
            code = self._context.decode(self._batch)
        self.steps += 1
        return code

    def _advance(self, plan: BatchPlan, started: float, *, usual: bool) -> None:
        """Take what a pass has computed; a `usual` one tells how fast passes are."""
        outputs = plan.rows
        for seq in plan.rows:
            seq.n_cached += 1
            self._cache.advance(seq.slot, seq.n_cached)
        for seq, count in plan.prompts:
            seq.n_cached += count
            self._cache.advance(seq.slot, seq.n_cached)
        if plan.prompts:
            outputs = outputs + [seq for seq, _ in plan.prompts if not seq.n_pending]
        if outputs:
            logits = self._context.logits(len(outputs))
        now = time.perf_counter()
        if plan.prompts:
            if usual:
                self._pace.measured(self._batch.size, now - started)
            for seq in outputs[len(plan.rows) :]:
                seq.prompt_done = seq.prompt_done or now
        if outputs:
            tokens = self._sampler.sample([seq.sampler for seq in outputs], logits)
            now = time.perf_counter()
            for seq, token in zip(outputs, tokens, strict=True):
                self._take(seq, token, now)

    def _take(self, seq: Sequence, token: int, now: float) -> None:
        """A sequence has its next token: show its text, end the answer, or make room for the one after."""
        if token == NO_TOKEN:
            self._give_up(seq)
            return
        seq.accept(token)
        if self._vocabulary.ends(token):
            self._end(seq, seq.sampler.end_reason, now)
            return
        stream = seq.text
        if text := stream.feed(seq.preserved.get(token) or self._vocabulary.piece(token)):
            self._events.append(Chunk(seq.id, text))
        if stream.stopped or seq.sampler.finished or (stream.looping and not seq.sampler.force_end()):
            self._end(seq, seq.sampler.end_reason, now)
        elif seq.n_generated >= seq.max_new or (seq.full and not seq.shift):
            self._end(seq, "length", now)
        elif seq.full:
            self._shift(seq)

    def _end(self, seq: Sequence, reason: str, now: float) -> None:
        if not seq.text.stopped and (rest := seq.text.flush()):
            self._events.append(Chunk(seq.id, rest))
        self._events.append(seq.done(reason, now))
        self._finish(seq)

    def _give_up(self, seq: Sequence) -> None:
        """No token can be chosen."""
        if seq.sampler.fault:
            self._fail([seq], seq.sampler.fault, "request")
        else:
            self._fail([seq], "the model computed no usable numbers")

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

    def _undo(self, plan: BatchPlan, code: int) -> None:
        """An aborted pass may have left parts of itself behind; a full cache means that somebody must wait."""
        if code == ABORTED:
            for seq in plan.sequences():
                seq.n_cached = self._cache.rollback(seq.slot, seq.n_cached)
        elif len(self._running) == 1:
            self._fail(self._running[:], "the context cache is full")
        else:
            self._preempt(self._running[-1])

    def _preempt(self, seq: Sequence) -> None:
        """Take the youngest sequence's cells for the others; it is computed again when there is room."""
        self._running.remove(seq)
        self._cache.release(seq.slot)
        seq.slot, seq.n_cached = -1, 0
        self._waiting.appendleft(seq)

    def _fail(self, seqs: list[Sequence], detail: str, kind: Literal["request", "internal"] = "internal") -> None:
        for seq in seqs:
            self._events.append(Failed(seq.id, kind, detail))
            self._finish(seq, remember=False)
