"""The scheduler of continuous batching: every `step()` is one pass for all that decode, then passes for prompts.

`plan()` admits waiting sequences and chooses how much of which prompts is computed. `step()` decodes, samples, and
emits the events of each pass in one message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from engine.messages import Chunk, DraftMode, Failed, FromRunner, NeedsRoom, ScoredChunk, ScoredToken
from engine.runner.admission import Admission
from engine.runner.batch import Batch, RowsBatch
from engine.runner.context import ABORTED, NO_SLOT, Context, DecodeError
from engine.runner.encoder import Encoder
from engine.runner.known_tokens import Reuse
from engine.runner.lazy_matcher import CallGrammar
from engine.runner.log import log, log_event
from engine.runner.pass_costs import PassCosts, PassWork
from engine.runner.penalties import Logits
from engine.runner.placeholders import last_border, next_border, whole_spans
from engine.runner.prefill_policy import PrefillPolicy, Prompt
from engine.runner.progress import INTERVAL
from engine.runner.projector import Span
from engine.runner.row_division import RowDivision
from engine.runner.sampling import NO_TOKEN, BatchSampler
from engine.runner.sequence import Sequence
from engine.runner.shape import Budget
from engine.runner.speculative import Speculation
from engine.runner.streams import Cells, Streams
from registry.logfields import TRACE, fields

SPANS_AHEAD = 2  # media of each prompt that are encoded, or kept, before their turn
COUNT_INTERVAL = 0.5  # seconds
ROWS = 2  # tokens of a sequence that decodes in one pass, at most
FAILED = -1  # code of a pass that llama.cpp could not compute
NO_IDS: frozenset[int] = frozenset()
_SLOT = attrgetter("cells.slot")


@dataclass(slots=True)
class StepPlan:
    """What one step computes: one token of each sequence in `decoding`, then so many tokens of each prompt."""

    decoding: list[Sequence]
    prompts: list[tuple[Sequence, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.decoding or self.prompts)


class Loop:
    """Owns the context, its `streams` and all sequences, by `admission`. Everything runs on the loop thread.

    The exceptions are `prefilling` (request ids in the running step whose prompts are computed) and the counters, as in
    `Stats`, which other threads may read. `emit` is called once per pass with all its events. `grid`: tokens between
    the borders of chunks of steady prompts. `encoder` makes the rows of media, None for models without. `lookup`:
    whether tokens are drafted.
    """

    def __init__(
        self,
        context: Context,
        streams: Streams,
        budget: Budget,
        *,
        grid: int,
        emit: Callable[[list[FromRunner]], None],
        encoder: Encoder | None = None,
        lookup: DraftMode = "off",
    ) -> None:
        self._context = context
        self._vocabulary = context.vocabulary
        self.streams = streams
        self._grid = min(grid, context.n_batch)
        self._emit = emit
        self.encoder = encoder
        self._batch = Batch(context.n_batch)
        self._policy = PrefillPolicy(context.n_batch, context.n_ubatch, abortable=context.on_cpu)
        self._costs = PassCosts()
        self._division = RowDivision()
        self.speculation = Speculation(lookup if context.can_cut else "off", context.n_outputs)
        self._alone = False  # nobody decodes beside the first of the plan, no prompt is computed
        self._measures = True  # passes of this step say what passes cost: they use the default number of threads
        self._sampler = BatchSampler(context.vocabulary.size)
        self.admission = Admission(context, streams, budget, self._grid, self._fail)
        self._waiting, self._running = self.admission.waiting, self.admission.running
        self._events: list[FromRunner] = []
        self.prefilling = NO_IDS
        self.steps = self.prompt_tokens = self.generated_tokens = 0
        self.batch = self.decode_passes = self.decode_rows = 0
        self.cells_used = self.cached_tokens = 0
        self._counted = self._places_told = 0.0

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
        if any(not (seq.waits or self._awaits_rows(seq)) for seq in self._running):
            return False
        return not self._waiting or self.admission.next() is None

    def count(self) -> None:
        """Bring `cells_used` and `cached_tokens` up to date: other threads may not look at the streams."""
        self.cached_tokens = self.streams.idle_tokens
        self.cells_used = sum(seq.n_cached for seq in self._running) + self.streams.held_tokens
        self._counted = time.perf_counter()

    def tell_places(self, *, resting: bool = False) -> None:
        """Tell those that wait and ask for it which place they have, a few times a second or before the loop rests."""
        now = time.perf_counter()
        if not self._waiting.asking or not (resting or now >= self._places_told + INTERVAL):
            return
        self._places_told = now
        for place, seq in enumerate(self._waiting.in_turn(self._running), 1):
            if seq.progress is not None and (event := seq.progress.place(seq.id, place)) is not None:
                self._events.append(event)
        self._send()

    def submit(self, seq: Sequence) -> None:
        """Queue a sequence."""
        seq.arrived = time.perf_counter()
        if seq.steady and not self._context.on_cpu:
            seq.reuse = Reuse.ANY
        self._waiting.add(seq)
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

    def extend(self, request_id: int, num_ctx: int) -> None:
        """Tell an answer how much context it may fill. An unknown id is one that has just ended: nothing happens."""
        for seq in (*self._running, *self._waiting):
            if seq.id == request_id:
                seq.extend(num_ctx)
                log_event(seq.trace_id, "sequence extended", seq=seq.id, limit=seq.limit, tokens=len(seq.tokens))

    def pause(self, request_id: int, *, paused: bool) -> None:
        """Let an answer rest or go on. An unknown id is one that has just ended: nothing happens."""
        for seq in (*self._running, *self._waiting):
            if seq.id == request_id:
                seq.paused = paused
                log_event(seq.trace_id, "sequence paused" if paused else "sequence goes on", seq=seq.id)

    def plan(self) -> StepPlan:
        """Admit sequences and choose what to compute; set `prefilling`, so that a cancel can abort a pass."""
        for seq in [seq for seq in self._running if seq.full and seq.ready]:  # it has got no more context
            self._overflow(seq, time.perf_counter())
        self.admission.admit_all()
        self.tell_places()
        plan = StepPlan([seq for seq in self._running if seq.ready])
        if not self._prepare([seq.cells for seq in plan.decoding if seq.cells is not None]):
            plan.decoding = [seq for seq in plan.decoding if seq.ready]
        self._want_rows()
        if prompts := self._prompts(plan):
            plan.prompts = self._chunks(prompts, plan.decoding)
            self.prefilling = frozenset(seq.id for seq, _ in plan.prompts)
        elif self.prefilling:
            self.prefilling = NO_IDS
        self._send()  # failures, if there was no room
        return plan

    def step(self, plan: StepPlan) -> None:
        """Run the planned passes and emit their events."""
        steady = any(seq.steady for seq in self._running)
        self._measures = self._context.threads.use({seq.n_threads for seq in self._running}, steady=steady)
        self._alone = len(plan.decoding) == 1 and not plan.prompts
        done = self._run_all_rows(plan.decoding)
        for seq, count in plan.prompts:
            if not done:
                break
            done = self._run_prompt(seq, count)
        self._want_rows()  # now: the loop may wait for them
        if time.perf_counter() - self._counted > COUNT_INTERVAL:
            self.count()
        self._send()

    def _prepare(self, decoding: list[Cells]) -> bool:
        """Put the cells of those that decode where they can be computed. False if those of some were lost."""
        self.streams.close_gaps(decoding)
        if self.streams.makes_room:
            for cells in decoding:
                self.streams.make_room(cells, ROWS)
        return all(cells.cached for cells in decoding)

    def _prompts(self, plan: StepPlan) -> list[Sequence]:
        """The sequences whose prompts can be computed further."""
        if len(plan.decoding) == len(self._running):
            return []
        return [seq for seq in self._running if not (seq.decoding or seq.waits or self._awaits_rows(seq))]

    # Passes

    def _chunks(self, prompts: list[Sequence], decoding: list[Sequence]) -> list[tuple[Sequence, int]]:
        """How many tokens of which prompts to compute now."""
        now = time.perf_counter()
        views = []
        for seq in prompts:
            end = self._computable(seq)
            pending = (min(seq.border, end) if seq.n_cached < seq.border else end) - seq.n_cached
            grid = self._grid if seq.steady and not seq.n_batch else 0
            views.append(Prompt(pending, seq.n_cached, seq.n_batch, grid, now - (seq.last_pass or seq.arrived)))
        work = PassWork(0, len(decoding), sum(seq.n_cached for seq in decoding), 1 if decoding else 0)
        return [(prompts[index], count) for index, count in self._policy.chunks(views, work, self._costs)]

    def _run_all_rows(self, decoding: list[Sequence]) -> bool:
        """Compute and sample the next token of all that decode; False if the step should end."""
        if self._alone and (draft := self._draft(decoding[0])):
            return self._run_draft(decoding[0], draft)
        passes = self._row_passes(decoding)
        started = time.perf_counter()
        done = all(self._run_rows(seqs) for seqs in passes)
        if done and self._measures and len(passes) in (1, len(decoding)):
            self._division.measured(len(decoding), time.perf_counter() - started, apart=len(passes) > 1)
        return done

    def _row_passes(self, decoding: list[Sequence]) -> list[list[Sequence]]:
        """Who is decoded together: all, or nobody where that is faster.

        Where company changes the sums, those that must not change are alone.
        """
        together, alone = decoding, []
        if self._context.counts_rows:
            together = [seq for seq in decoding if seq.reuse is not Reuse.STEADY]
            alone = [seq for seq in decoding if seq.reuse is Reuse.STEADY]
        if self._division.apart(len(together)) and self._may_divide(together):
            together, alone = [], [*together, *alone]
        return [*([together] if together else []), *([seq] for seq in alone)]

    def _may_divide(self, decoding: list[Sequence]) -> bool:
        """Whether rows may be computed in a pass each: not those that would need a second row to be as in company."""
        return self._context.on_cpu and not any(self._is_doubled(seq) for seq in decoding)

    def _run_rows(self, seqs: list[Sequence]) -> bool:
        """Compute and sample the next token of each; False if the step should end."""
        seqs = sorted(seqs, key=_SLOT)
        cells = [seq.cells for seq in seqs if seq.cells is not None]
        batch = self._batch
        batch.clear()
        batch.add_row([each.slot for each in cells], [s.tokens[-1] for s in seqs], [s.position for s in seqs])
        doubled = len(seqs) == 1 and self._is_doubled(seqs[0])
        # With a token behind it that counts for nothing, the row is computed as it is beside others, its logits too.
        if doubled:
            batch.add_row([seqs[0].slot], [seqs[0].tokens[-1]], [seqs[0].position + 1])
        started = time.perf_counter()
        if not self._decode(seqs):
            return False
        self.batch = len(seqs)
        self.decode_passes += 1
        self.decode_rows += len(seqs)
        for each in cells:
            each.cached += 1
        if doubled:
            self._context.remove(seqs[0].slot, seqs[0].position)
        logits = self._context.logits(len(seqs))
        now = time.perf_counter()
        if self._measures:
            self._costs.measured(PassWork(0, len(seqs), sum([each.cached for each in cells]), 1), now - started)
        if self._alone and not doubled:
            self.speculation.computed(self._context.threads.current, now - started)
        self._sample(seqs, logits)
        return True

    def _draft(self, seq: Sequence) -> list[int]:
        """Tokens to verify beside the next one of the only sequence that decodes; [] for none."""
        shape = self.streams.shape
        room = min(seq.draft_room, shape.cells - len(seq.tokens), self._batch.capacity - 1)
        if self.speculation.off or room < 1 or shape.unified:
            return []
        seq.drafts = seq.drafts or self.speculation.begin(seq.tokens)
        return self.speculation.draft(seq.drafts, self._context.threads.current, room)

    def _run_draft(self, seq: Sequence, draft: list[int]) -> bool:
        """Compute the next token and drafted ones behind it, and sample as long as those are right.

        False if the step should end.
        """
        rows = 1 + len(draft)
        if not self._has_room(seq, rows):
            return False
        batch = self._batch
        batch.clear()
        batch.add_all(seq.slot, [seq.tokens[-1], *draft], seq.position)
        started = time.perf_counter()
        if not self._decode([seq]):
            return False
        logits = self._context.logits(rows)
        seconds = time.perf_counter() - started
        self.batch = 1
        self.decode_passes += 1
        self.decode_rows += 1
        accepted = self._sample_draft(seq, draft, logits)
        assert seq.drafts is not None
        self.speculation.verified(seq.drafts, self._context.threads.current, seconds, len(draft), accepted)
        self._send()
        return True

    def _sample_draft(self, seq: Sequence, draft: list[int], logits: Logits) -> int:
        """Sample the rows of a pass with a draft, one by one, up to the first token that is another than drafted.

        Returns how many drafted tokens were right. The cells of the others are dropped.
        """
        cells = seq.cells
        assert cells is not None
        now = time.perf_counter()
        accepted = 0
        for row, drafted in enumerate([*draft, None]):
            cells.cached, cells.ahead = cells.cached + 1, len(draft) - row
            (token,) = self._sampler.sample([seq.sampler], logits[row : row + 1])
            right = token == drafted
            accepted += right
            if not right:
                self._drop_draft(seq, cells)
            self._process_token(seq, token, now)
            if not right or seq not in self._running:
                break
            if seq.waits:
                self._drop_draft(seq, cells)
                break
        return accepted

    def _drop_draft(self, seq: Sequence, cells: Cells) -> None:
        """Drop the cells of drafted tokens that nobody has sampled."""
        if cells.ahead:
            self.streams.rollback(cells, cells.cached)
            if not cells.cached:  # its memory could not do that: the text is computed again
                seq.most_drafted = 0

    def _is_doubled(self, seq: Sequence) -> bool:
        """Whether a row that is alone in its pass must be computed as if it were not."""
        room = len(seq.tokens) < self.streams.shape.cells
        wanted = seq.reuse is Reuse.STEADY and not self._context.counts_rows and self._context.can_cut
        return wanted and room and self._context.is_lone_row_special(seq.n_cached)

    def _run_prompt(self, seq: Sequence, count: int) -> bool:
        """Compute the next tokens of a prompt, and sample if they are the last; False if the step should end."""
        if seq.decoding or seq not in self._running:  # rows are not divided, so it went farther than planned
            return True
        size = 0
        self._tell_prompt(seq)
        while count > 0 and seq.n_pending:
            span = next(iter(seq.spans_ahead), None)
            if span is not None and span.start <= seq.n_cached:
                size = self._run_media(seq, span)
            else:
                size = self._run_text(seq, count, len(seq.tokens) if span is None else span.start)
            if not size:
                return False
            self._tell_prompt(seq)
            count -= size
        if not seq.n_pending:
            seq.prompt_done = seq.prompt_done or time.perf_counter()
            rows = self._context.logits(1 if seq.prompt_logprobs is None else size)
            self._emit_prompt(seq)
            self._sample([seq], rows[-1:])
        return True

    def _tell_prompt(self, seq: Sequence) -> None:
        """Tell a client that asks for it how much of its prompt is computed."""
        if seq.progress is None:
            return
        now = time.perf_counter()
        event = seq.progress.prompt(seq.id, seq.n_cached, seq.n_reused, seq.n_prompt, seq.first_pass, now)
        if not seq.n_pending:
            seq.progress = None
        if event is not None:
            self._events.append(event)
            self._send()

    def _run_text(self, seq: Sequence, count: int, end: int) -> int:
        """One pass of a prompt's next tokens before `end`; returns how many, 0 if it did not complete."""
        start = seq.n_cached
        left = (min(seq.border, end) if start < seq.border else end) - start
        size = min(count, left, seq.n_batch or count, self._batch.capacity)
        if seq.steady:
            size = min(size, self._grid - start % self._grid)
        if seq.steady and seq.spans and not seq.n_batch and start >= seq.border:
            size = next_border(seq.tokens, start, self._grid) - start
        if seq.prompt_logprobs is not None:
            size = min(size, self._context.n_outputs)
        return size if self._has_room(seq, size) and self._run_chunk(seq, size) else 0

    def _has_room(self, seq: Sequence, count: int) -> bool:
        return seq.cells is not None and self.streams.make_room(seq.cells, count)

    def _run_chunk(self, seq: Sequence, count: int) -> bool:
        """One pass of a prompt's tokens; False if it did not complete."""
        start = seq.n_cached
        tokens = seq.tokens[start : start + count]
        self._batch.clear()
        if seq.prompt_logprobs is not None:
            self._batch.add_all(seq.slot, tokens, seq.position)
        else:
            self._batch.add(seq.slot, tokens, seq.position, output=start + count == len(seq.tokens))
        if not self._run_part(seq, self._batch):
            return False
        if seq.steady and last_border(seq.tokens, seq.n_cached, len(seq.tokens), self._grid) == seq.n_cached:
            seq.mark_on_grid(start)
        if seq.prompt_logprobs is not None:
            seq.prompt_logprobs.add(start, self._context.logits(count))
        self._checkpoint(seq)
        return True

    def _run_part(self, seq: Sequence, batch: Batch | RowsBatch) -> bool:
        """One pass of a part of a prompt; False if it did not complete."""
        start = seq.n_cached
        started = time.perf_counter()
        seq.first_pass = seq.first_pass or started
        if not self._decode([seq], batch):
            return False
        seq.advance(batch.size)
        self.prompt_tokens += batch.size
        seq.last_pass = time.perf_counter()
        if self._measures:
            self._costs.measured(PassWork.prompt(batch.size, start, self._context.n_ubatch), seq.last_pass - started)
        return True

    def _checkpoint(self, seq: Sequence) -> None:
        """Keep a copy of what has been computed of a prompt, where others may begin with just that.

        They begin where prompts part or where it ends; but those with seeds only at borders of the grid.
        """
        if self._context.can_cut_states or seq.cells is None:
            return
        end = seq.n_prompt
        if seq.reuse is Reuse.STEADY:
            end = last_border(seq.tokens, end - 1, end - 1, self._grid)
        if seq.n_cached in (seq.border, end):
            self.streams.checkpoint(seq.cells)

    def _decode(self, seqs: list[Sequence], batch: Batch | RowsBatch | None = None) -> bool:
        """Run one pass, by default of what is in the token batch; if it does not complete, undo it and return False."""
        self.steps += 1
        started = time.perf_counter()
        batch = batch or self._batch
        try:
            code = self._context.decode(batch)
        except DecodeError as error:
            code = FAILED
            self._fail(seqs, str(error))
        if code in (NO_SLOT, ABORTED):
            self._undo(seqs, code)
        seconds = time.perf_counter() - started
        if not code:
            self._context.threads.passed(seconds)
        if log.isEnabledFor(TRACE):
            decoding = sum(seq.decoding for seq in seqs)
            counts = {"decoding": decoding, "prompts": len(seqs) - decoding, "tokens": batch.size}
            counts["threads"] = self._context.threads.current
            log.log(TRACE, "pass", extra=fields(**counts, code=code, ms=seconds * 1e3))
        self._send()
        return code == 0

    # Media

    def _want_rows(self) -> None:
        """Tell the encoder which rows prompts need next; fail those whose rows cannot be made."""
        if self.encoder is None:
            return
        ahead = {seq.id: spans for seq in self._running if (spans := seq.spans_ahead[:SPANS_AHEAD])}
        self.encoder.want(ahead)
        for seq in [seq for seq in self._running if seq.id in ahead]:
            seq.first_pass = seq.first_pass or time.perf_counter()
            self._tell_prompt(seq)
            if self.encoder.has_failed(ahead[seq.id][0].key):
                self._fail([seq], "failed to process image")
        while not self.encoder.threaded and self.encoder.encode_next():
            pass

    def _awaits_rows(self, seq: Sequence) -> bool:
        """Whether the next thing to compute is a medium whose rows are not there yet."""
        return bool(seq.spans) and self._computable(seq) == seq.n_cached

    def _computable(self, seq: Sequence) -> int:
        """How far a prompt can be computed with the rows that are there."""
        for span in seq.spans_ahead:
            assert self.encoder is not None
            if self.encoder.rows(span.key) is None:
                return max(span.start, seq.n_cached)
        return len(seq.tokens)

    def _run_media(self, seq: Sequence, span: Span) -> int:
        """One pass of rows, in parts that are always the same; returns how many, 0 if it did not complete."""
        assert self.encoder is not None
        rows = self.encoder.rows(span.key)
        if rows is None:  # parts of a prompt's share may be longer than planned
            return 0
        chunk, done = span.chunk, seq.n_cached - span.start
        end = chunk.n_tokens if chunk.whole else min(done + self._context.n_ubatch, chunk.n_tokens)
        positions = chunk.positions_at(span.position)[:, done:end]
        is_last = span.start + end == len(seq.tokens)
        batch = RowsBatch(seq.slot, rows[done:end], positions, causal=not chunk.whole, output=is_last)
        if not self._has_room(seq, batch.size) or not self._run_part(seq, batch):
            return 0
        if seq.steady and end == chunk.n_tokens:
            seq.mark_on_grid(span.start)
        self._checkpoint(seq)
        return end - done

    def _send(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._emit(events)

    def _sample(self, seqs: list[Sequence], logits: Logits) -> None:
        tokens = self._sampler.sample([seq.sampler for seq in seqs], logits)
        now = time.perf_counter()
        for seq, token in zip(seqs, tokens, strict=True):
            self._process_token(seq, token, now)
        self._send()

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
        self.generated_tokens += 1
        sampler, stream = seq.sampler, seq.text
        if self._vocabulary.ends(token):
            self._end(seq, sampler.end_reason, now)
            return
        text = stream.feed((seq.preserved and seq.preserved.get(token)) or self._vocabulary.piece(token))
        if seq.logprobs is not None:
            self._emit_scored(seq, text, seq.logprobs.add(token, text, stream))
        elif text:
            self._events.append(Chunk(seq.id, text, seq.n_generated, sampler.holds_call))
        if stream.stopped or sampler.finished or (stream.looping and not sampler.leave_loop()):
            self._end(seq, sampler.end_reason, now)
        elif seq.n_generated >= seq.max_new:
            self._end(seq, "length", now)
        elif seq.wants_room:
            seq.asking = True
            self._events.append(NeedsRoom(seq.id, len(seq.tokens)))
        elif seq.full and not seq.asking:
            self._overflow(seq, now)

    def _end(self, seq: Sequence, reason: str, now: float) -> None:
        if not seq.text.stopped:
            self._emit_rest(seq)
        self._events.append(seq.done(reason, now))
        drafts = {} if seq.drafts is None else {"drafted": seq.drafts.drafted, "accepted": seq.drafts.accepted}
        log_event(seq.trace_id, "sequence ended", seq=seq.id, end=reason, tokens=seq.n_generated, **drafts)
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
        if seq.cells is not None:
            self.streams.release(seq.cells, remember=remember)
        seq.sampler.close()

    def _overflow(self, seq: Sequence, now: float) -> None:
        """Go on with a context that is full and does not grow: without its middle, or not at all."""
        if seq.shift:
            self._shift(seq)
        else:
            self._end(seq, "length", now)

    def _shift(self, seq: Sequence) -> None:
        """Context shift: drop the older half of what follows the first `n_keep` tokens."""
        log_event(seq.trace_id, "context shifted", seq=seq.id, tokens=len(seq.tokens))
        assert seq.cells is not None
        keep = seq.n_keep
        count = (seq.n_cached - keep) // 2
        if not self.streams.shift_out(seq.cells, keep, count, steady=seq.steady):
            self.streams.rollback(seq.cells, keep)
        del seq.tokens[keep : keep + count]
        if seq.drafts is not None:
            seq.drafts.lookup.forget()

    def _undo(self, seqs: list[Sequence], code: int) -> None:
        """Undo a pass that did not complete: cut what an abort left behind; suspend somebody if the cache is full."""
        if code == ABORTED:
            for seq in seqs:
                log_event(seq.trace_id, "pass aborted", seq=seq.id)
                if seq.cells is not None:
                    self.streams.rollback(seq.cells, whole_spans(seq.tokens, seq.n_cached))
        elif len(self._running) == 1:
            self._fail(self._running[:], "KV cache is full")
        else:
            self.admission.suspend(self._running[-1])

    def _fail(self, seqs: list[Sequence], detail: str, kind: Literal["request", "internal"] = "internal") -> None:
        for seq in seqs:
            log_event(seq.trace_id, "sequence failed", seq=seq.id, reason=detail)
            self._events.append(Failed(seq.id, kind, detail))
            self._finish(seq, remember=False)
