"""The scheduler of continuous batching: every `step()` is one forward pass for all running sequences.

`plan()` admits waiting sequences and fills the batch: one token of each sequence that decodes, then chunks of
prompts. `step()` decodes it, samples, and emits all events of the pass in one message.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from engine.messages import Chunk, Failed, FromRunner, ScoredChunk, ScoredToken
from engine.runner.batch import Batch
from engine.runner.context import ABORTED, NO_SLOT, Context, DecodeError
from engine.runner.kvcache import KVCache, common_prefix
from engine.runner.lazy_matcher import CallGrammar
from engine.runner.log import log, log_event
from engine.runner.penalties import Logits
from engine.runner.prefill_budget import PrefillBudget
from engine.runner.sampling import NO_TOKEN, BatchSampler
from engine.runner.sequence import Sequence
from registry.logfields import TRACE, fields

ADMISSION_MARGIN = 32  # free cells that each running sequence must have left before another is admitted
WORTH_WAITING = 32  # tokens; a prompt waits while another computes at least this much more of their common prefix
MUCH_SHORTER = 4  # a prompt shorter by this factor overtakes a longer one
STRETCH = 1.5  # a prompt up to this many chunks long is computed in one pass
FAILED = -1  # code of a pass that llama.cpp could not compute
NO_IDS: frozenset[int] = frozenset()


@dataclass(slots=True)
class BatchPlan:
    """What one pass computes: one token of each sequence in `decoding`, then `count` tokens of each prompt.

    `scored` of the prompts' tokens have logits because their log-probabilities are asked for.
    """

    decoding: list[Sequence]
    prompts: list[tuple[Sequence, int]] = field(default_factory=list)
    scored: int = 0

    def __bool__(self) -> bool:
        return bool(self.decoding or self.prompts)

    def sequences(self) -> list[Sequence]:
        """All sequences in the pass, in the batch's order."""
        return [*self.decoding, *(seq for seq, _ in self.prompts)]


class Loop:
    """Owns the context, the KV cache and all sequences. Everything runs on the loop thread.

    The exceptions are `prefilling` (request ids in the running pass whose prompts are computed) and the counters, which
    the channel's reader thread may read. `emit` is called once per step with all its events. `n_cells` is the size of
    the KV cache in tokens, `n_parallel` the most sequences that run at once.
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
        self._prefill_budget = PrefillBudget(context.n_batch)
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
        """Number of sequences that are not admitted yet."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do, until something arrives."""
        if any(not seq.sampler.waits for seq in self._running):
            return False
        return not self._waiting or (bool(self._running) and not self._can_admit(self._waiting[0]))

    @property
    def cached_tokens(self) -> int:
        """Tokens of finished sequences that later prompts can still reuse."""
        return self._cache.idle_tokens

    def submit(self, seq: Sequence) -> None:
        """Queue a sequence."""
        self._waiting.append(seq)
        log_event(seq.trace_id, "sequence queued", seq=seq.id, waiting=len(self._waiting), running=len(self._running))

    def cancel(self, request_id: int) -> None:
        """Drop a request, running or waiting. An unknown id is one that has just ended: nothing happens."""
        for seq in [s for s in self._running if s.id == request_id]:
            log_event(seq.trace_id, "sequence cancelled", seq=seq.id, tokens=seq.n_generated)
            self._finish(seq)
        for seq in [s for s in self._waiting if s.id == request_id]:
            log_event(seq.trace_id, "sequence cancelled while it waited", seq=seq.id)
            self._waiting.remove(seq)
            seq.sampler.close()

    def constrain(self, request_id: int, grammar: CallGrammar | None) -> None:
        """Give an answer its grammar. An unknown id is one that has just ended: nothing happens."""
        for seq in (*self._running, *self._waiting):
            if seq.id == request_id:
                seq.sampler.set_call_grammar(grammar)

    def plan(self) -> BatchPlan:
        """Admit sequences and fill the batch; set `prefilling`, so that a cancel can abort the pass."""
        if self._waiting:
            self._admit()
        plan = BatchPlan([seq for seq in self._running if seq.decoding and not seq.sampler.waits])
        self._batch.clear()
        if plan.decoding:
            seqs = plan.decoding
            self._batch.add_row([s.slot for s in seqs], [s.tokens[-1] for s in seqs], [s.n_cached for s in seqs])
        if prompts := [seq for seq in self._running if not seq.decoding]:
            self._add_prompts(plan, prompts)
            self.prefilling = frozenset(seq.id for seq, _ in plan.prompts)
        elif self.prefilling:
            self.prefilling = NO_IDS
        return plan

    def step(self, plan: BatchPlan) -> None:
        """Run the planned pass and emit its events."""
        default_threads = self._context.threads.use(seq.n_threads for seq in plan.sequences())
        started = time.perf_counter()
        try:
            code = self._decode()
        except DecodeError as error:
            code = FAILED
            self._fail(plan.sequences(), str(error))
        else:
            if code == 0:
                self._process_outputs(plan, started, default_threads=default_threads)
            else:
                self._rollback(plan, code)
        if log.isEnabledFor(TRACE):
            passed = time.perf_counter() - started
            counts = {"decoding": len(plan.decoding), "prompts": len(plan.prompts), "tokens": self._batch.size}
            counts["threads"] = self._context.threads.current
            log.log(TRACE, "step", extra=fields(**counts, code=code, ms=passed * 1e3))
        if self._events:
            events, self._events = self._events, []
            self._emit(events)

    def _admit(self) -> None:
        while self._waiting and self._can_admit(self._waiting[0]):
            seq = self._waiting.popleft()
            seq.slot, seq.n_cached = self._cache.acquire(seq.tokens, reuse=seq.prompt_logprobs is None)
            if seq.n_reused < 0:
                seq.n_reused = seq.n_cached
            self._running.append(seq)
            counts = {"prompt_tokens": seq.n_prompt, "cached_tokens": seq.n_cached, "running": len(self._running)}
            log_event(seq.trace_id, "sequence admitted", seq=seq.id, slot=seq.slot, **counts)

    def _can_admit(self, seq: Sequence) -> bool:
        """Whether a sequence may start: there is a free place, and enough cells for it and for all answers to grow."""
        if not self._running:
            return True
        if len(self._running) >= self._n_parallel or self._has_prefix_coming(seq):
            return False
        shared = self._cache.shared_with_busy(seq.tokens) if seq.prompt_logprobs is None else 0
        needed = len(seq.tokens) - shared
        if seq.n_generated:
            needed += len(seq.tokens) // 4  # it was preempted: wait until there is room to spare
        held = sum(len(s.tokens) for s in self._running)
        return held + needed + ADMISSION_MARGIN * (len(self._running) + 1) <= self._n_cells

    def _has_prefix_coming(self, seq: Sequence) -> bool:
        """Whether a prompt that is being computed shares a longer prefix with this one than the cache holds yet."""
        limit = len(seq.tokens) - 1
        return any(
            common_prefix(other.tokens, seq.tokens, limit) >= other.n_cached + WORTH_WAITING
            for other in self._running
            if other.n_pending > WORTH_WAITING and not self._is_slow(other)
        )

    def _is_slow(self, seq: Sequence) -> bool:
        """Whether the request's own `num_batch` gives its prompt less of a pass than it could have."""
        return 0 < seq.n_batch < min(seq.n_pending, self._prefill_budget.chunk(crowded=True))

    def _add_prompts(self, plan: BatchPlan, prompts: list[Sequence]) -> None:
        """Add chunks of prompts: the oldest first, with at least half of the room; much shorter ones overtake it.

        Prompts slowed by their own `num_batch` hold up nobody: they join with their few tokens.
        """
        oldest = next((seq for seq in prompts if not self._is_slow(seq)), prompts[0])
        crowded = bool(plan.decoding or self._waiting or len(prompts) > 1)
        room = min(self._batch.room, self._prefill_budget.chunk(crowded=crowded))
        reserved = min(oldest.n_pending, (room + 1) // 2)
        short = [seq for seq in prompts if seq is not oldest and self._overtakes(seq, oldest)]
        short.sort(key=self._is_slow)
        for seq in short:
            room -= self._add_prompt(plan, seq, room - reserved)
        if oldest.n_pending <= room * STRETCH:
            room = max(room, min(oldest.n_pending, self._batch.room))  # else a small rest would cost another pass
        room -= self._add_prompt(plan, oldest, room)
        for seq in prompts:
            # Only whole prompts: a part would delay the others without finishing this one.
            if seq is not oldest and seq not in short and seq.n_pending <= room:
                room -= self._add_prompt(plan, seq, room)

    def _overtakes(self, seq: Sequence, oldest: Sequence) -> bool:
        return self._is_slow(seq) or seq.n_pending * MUCH_SHORTER <= oldest.n_pending

    def _add_prompt(self, plan: BatchPlan, seq: Sequence, room: int) -> int:
        """Add at most `room` tokens of a prompt to the batch; returns how many."""
        count = min(seq.n_pending, room, seq.n_batch or room)
        if seq.prompt_logprobs is not None:  # besides, each running sequence may have an output
            count = min(count, self._context.n_outputs - len(self._running) - plan.scored)
        if count <= 0:
            return 0
        start = seq.n_cached
        tokens = seq.tokens[start : start + count]
        if seq.prompt_logprobs is not None:
            self._batch.add_all(seq.slot, tokens, start)
            plan.scored += count
        else:
            self._batch.add(seq.slot, tokens, start, output=start + count == len(seq.tokens))
        seq.first_pass = seq.first_pass or time.perf_counter()
        plan.prompts.append((seq, count))
        return count

    def _decode(self) -> int:
        """Run the pass, evicting finished sequences while the cache is full. Returns `Context.decode`'s code."""
        code = self._context.decode(self._batch)
        while code == NO_SLOT and self._cache.evict():
            code = self._context.decode(self._batch)
        self.steps += 1
        return code

    def _process_outputs(self, plan: BatchPlan, started: float, *, default_threads: bool) -> None:
        """Record what a pass computed and sample. Passes with `default_threads` measure the prefill rate."""
        outputs = plan.decoding
        for seq in plan.decoding:
            seq.n_cached += 1
            self._cache.set_cached(seq.slot, seq.n_cached)
        for seq, count in plan.prompts:
            seq.n_cached += count
            self._cache.set_cached(seq.slot, seq.n_cached)
        if plan.prompts:
            outputs = outputs + [seq for seq, _ in plan.prompts if not seq.n_pending]
        if plan.scored:
            logits = self._score_prompts(plan)
        elif outputs:
            logits = self._context.logits(len(outputs))
        now = time.perf_counter()
        if plan.prompts:
            if default_threads:
                self._prefill_budget.measured(self._batch.size, now - started)
            for seq in outputs[len(plan.decoding) :]:
                seq.prompt_done = seq.prompt_done or now
        if outputs:
            tokens = self._sampler.sample([seq.sampler for seq in outputs], logits)
            now = time.perf_counter()
            for seq, token in zip(outputs, tokens, strict=True):
                self._process_token(seq, token, now)

    def _score_prompts(self, plan: BatchPlan) -> Logits:
        """Record the log-probabilities of prompts; returns the rows of those that are sampled from, as a copy."""
        at = len(plan.decoding)
        kept = list(range(at))
        others = sum(seq.prompt_logprobs is None and not seq.n_pending for seq, _ in plan.prompts)
        rows = self._context.logits(at + plan.scored + others)
        for seq, count in plan.prompts:
            if seq.prompt_logprobs is not None:
                seq.prompt_logprobs.add(seq.n_cached - count, rows[at : at + count])
                at += count - 1
            elif seq.n_pending:
                continue
            at += 1
            if not seq.n_pending:
                kept.append(at - 1)
                self._emit_prompt(seq)
        return rows[kept]

    def _emit_prompt(self, seq: Sequence) -> None:
        if seq.prompt_logprobs is not None:
            self._events.append(ScoredChunk(seq.id, "", 0, scores=tuple(seq.prompt_logprobs.entries)))
            seq.prompt_logprobs = None

    def _process_token(self, seq: Sequence, token: int, now: float) -> None:
        """Add a sampled token to its sequence: emit its text, then end the answer or make room for the next token."""
        if token == NO_TOKEN:
            self._fail_sampling(seq)
            return
        seq.accept(token)
        if self._vocabulary.ends(token):
            self._end(seq, seq.sampler.end_reason, now)
            return
        stream = seq.text
        text = stream.feed(seq.preserved.get(token) or self._vocabulary.piece(token))
        if seq.logprobs is not None:
            self._emit_scored(seq, text, seq.logprobs.add(token, text, stream))
        elif text:
            self._events.append(Chunk(seq.id, text, seq.n_generated, seq.sampler.holds_call))
        if stream.stopped or seq.sampler.finished or (stream.looping and not seq.sampler.leave_loop()):
            self._end(seq, seq.sampler.end_reason, now)
        elif seq.n_generated >= seq.max_new or (seq.full and not seq.shift):
            self._end(seq, "length", now)
        elif seq.full:
            self._shift(seq)

    def _end(self, seq: Sequence, reason: str, now: float) -> None:
        if not seq.text.stopped:
            self._emit_rest(seq)
        self._events.append(seq.done(reason, now))
        log_event(seq.trace_id, "sequence ended", seq=seq.id, end=reason, tokens=seq.n_generated)
        self._finish(seq)

    def _emit_rest(self, seq: Sequence) -> None:
        """Emit what was held back."""
        rest = seq.text.flush()
        if seq.logprobs is not None:
            self._emit_scored(seq, rest, seq.logprobs.flush())
        elif rest:
            self._events.append(Chunk(seq.id, rest, seq.n_generated, seq.sampler.holds_call))

    def _emit_scored(self, seq: Sequence, text: str, scores: tuple[ScoredToken, ...]) -> None:
        """Emit text with the log-probabilities that belong to it, of which there may be some without text."""
        if text or scores:
            self._events.append(ScoredChunk(seq.id, text, seq.n_generated, seq.sampler.holds_call, scores))

    def _fail_sampling(self, seq: Sequence) -> None:
        """Fail a sequence for which no token can be sampled: its grammar allows none, or its logits are NaN."""
        if seq.sampler.fault:
            self._fail([seq], seq.sampler.fault, "request")
        else:
            self._fail([seq], "logits are not finite: no token can be sampled")

    def _finish(self, seq: Sequence, *, remember: bool = True) -> None:
        self._running.remove(seq)
        self._cache.release(seq.slot, remember=remember)
        seq.sampler.close()

    def _shift(self, seq: Sequence) -> None:
        """Context shift: drop the older half of what follows the first `n_keep` tokens."""
        log_event(seq.trace_id, "context shifted", seq=seq.id, tokens=len(seq.tokens))
        keep = seq.n_keep
        count = (seq.n_cached - keep) // 2
        if self._cache.shift_out(seq.slot, keep, count):
            seq.n_cached -= count
        else:
            seq.n_cached = self._cache.rollback(seq.slot, keep)
        del seq.tokens[keep : keep + count]

    def _rollback(self, plan: BatchPlan, code: int) -> None:
        """Undo a pass that did not complete: cut what an abort left behind; preempt somebody if the cache is full."""
        if code == ABORTED:
            for seq in plan.sequences():
                log_event(seq.trace_id, "pass aborted", seq=seq.id)
                seq.n_cached = self._cache.rollback(seq.slot, seq.n_cached)
        elif len(self._running) == 1:
            self._fail(self._running[:], "KV cache is full")
        else:
            self._preempt(self._running[-1])

    def _preempt(self, seq: Sequence) -> None:
        """Take a sequence's cells for the others and queue it again; it is computed anew when there is room."""
        log_event(seq.trace_id, "sequence preempted: KV cache is full", seq=seq.id, tokens=seq.n_generated)
        self._running.remove(seq)
        self._cache.release(seq.slot)
        seq.slot, seq.n_cached = -1, 0
        self._waiting.appendleft(seq)

    def _fail(self, seqs: list[Sequence], detail: str, kind: Literal["request", "internal"] = "internal") -> None:
        for seq in seqs:
            log_event(seq.trace_id, "sequence failed", seq=seq.id, reason=detail)
            self._events.append(Failed(seq.id, kind, detail))
            self._finish(seq, remember=False)
