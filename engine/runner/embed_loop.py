"""The loop that pools: texts of several requests share a pass, and passes alternate with those of the answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import msgspec

from engine.embed_messages import EmbeddingSizes
from engine.messages import Failed, FromRunner, padded
from engine.runner.batch import Batch
from engine.runner.context import Context, DecodeError, ModelError
from engine.runner.embed_budget import EmbedBudget
from engine.runner.embed_context import EmbedContext
from engine.runner.embed_request import EmbedText, PoolJob
from engine.runner.log import log_event
from engine.runner.turns import Turns

NO_IDS: frozenset[int] = frozenset()

Share = tuple[PoolJob, EmbedText, int]
"""A text's part of a pass: its job, the text, and how many of its tokens."""


class EmbedLoop:
    """Owns all requests that pool and, from the first one on, their llama.cpp context. Runs on the loop thread.

    A context pools in one way. Where a model both embeds and reranks, the oldest request's kind replaces the other.

    The exceptions are `computing` (ids in the running pass) and the counters, which the channel's reader thread may
    read. `emit` is called once per step with all its events.
    """

    def __init__(self, context: Context, sizes: EmbeddingSizes, emit: Callable[[list[FromRunner]], None]) -> None:
        self._main_context = context
        self._sizes = sizes
        self._emit = emit
        self._jobs: list[PoolJob] = []
        self._turns = Turns()
        self._ranks = False  # how the context pools
        self._split_text: EmbedText | None = None  # the one text that is split over several passes
        self._rest_until = 0.0  # in time.perf_counter's seconds
        self.computing = NO_IDS
        self.steps = self.tokens = 0

    @cached_property
    def _context(self) -> EmbedContext:
        return EmbedContext(self._main_context, self._sizes, ranks=self._ranks)

    @cached_property
    def _batch(self) -> Batch:
        return Batch(self._context.capacity)

    @cached_property
    def _budget(self) -> EmbedBudget:
        return EmbedBudget(self._sizes.batch)

    @cached_property
    def _slots(self) -> list[int]:
        return list(range(self._context.sequences))

    @property
    def busy(self) -> int:
        """Number of requests without their vectors."""
        return len(self._jobs)

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._jobs

    def ready(self, *, crowded: bool) -> bool:
        """Whether to step now: beside answers (`crowded`), only after they had as long as the last pass took."""
        return not self.idle and not (crowded and time.perf_counter() < self._rest_until)

    def submit(self, job: PoolJob) -> None:
        """Queue a request. A text may be longer than those before: the context has grown."""
        longest = max((len(text.tokens) for text in job.texts), default=0)
        if longest > self._sizes.longest and not self.resize(padded(longest)):
            self._emit([Failed(job.id, "internal", "no memory for so long a text")])
            return
        self._jobs.append(job)
        _log(job, "texts queued", texts=len(job.texts), tokens=sum(len(text.tokens) for text in job.texts))

    def cancel(self, request_id: int) -> None:
        """Drop a request. An unknown id is one that has just ended: nothing happens."""
        for job in [job for job in self._jobs if job.id == request_id]:
            _log(job, "texts cancelled")
            self._drop(job)

    def resize(self, longest: int) -> bool:
        """Take texts of so many tokens from now on; those that are half done begin again.

        False without memory for that: then all is as before.
        """
        self._begin_again()
        before, self._sizes = self._sizes, msgspec.structs.replace(self._sizes, longest=longest)
        try:
            _ = self._context  # at once, so that it shows whether there is memory
        except ModelError:
            self._sizes = before
            return False
        return True

    def step(self, *, crowded: bool) -> None:
        """Fill and compute one pass and answer completed requests; `crowded`: answers wait for its end."""
        try:
            self._take_turns()
            shares = self._fill(self._budget.tokens(crowded=crowded))
            self.computing = frozenset(job.id for job, _, _ in shares)
            events = self._compute(shares)
        except ModelError as error:
            events = [self._fail(job, "internal", str(error)) for job in list(self._jobs)]
        self.computing = NO_IDS
        if events:
            self._emit(events)

    def close(self) -> None:
        """Free the context, if one was made; a later step makes another."""
        if "_context" in vars(self):
            self._context.close()
        for name in ("_context", "_batch", "_slots"):
            vars(self).pop(name, None)

    def _take_turns(self) -> None:
        """Let the oldest request say how the context pools, unless a text is half done."""
        ranks = min(self._jobs, key=lambda job: job.id).ranks
        if ranks == self._ranks or self._split_text is not None:
            return
        self._begin_again()  # an aborted pass leaves some with a slot
        self._ranks = ranks

    def _fill(self, budget: int) -> list[Share]:
        """Fill the batch with at most `budget` tokens of texts: clients take turns, and their requests do."""
        self._batch.clear()
        shares: list[Share] = []
        jobs = [job for job in self._jobs if job.ranks == self._ranks]
        for job in sorted(jobs, key=lambda job: (*self._turns.rank(job.request.client), job.last_pass)):
            for text in job.pending:
                count = self._share(text, shares, budget - self._batch.size)
                if not count:
                    break
                self._add(text, count)
                shares.append((job, text, count))
        for job in _jobs(shares):
            job.last_pass = self.steps + 1
            self._turns.serve(job.request.client)
        return shares

    def _share(self, text: EmbedText, shares: list[Share], room: int) -> int:
        """How many of a text's tokens may join the pass, of which `room` tokens are free."""
        if shares and (text.alone or shares[0][1].alone or len(shares) == self._context.sequences):
            return 0
        if text.n_left <= room:
            return text.n_left
        if not self._context.splits:
            return 0 if shares else text.n_left
        if self._split_text not in (None, text):
            return 0
        self._split_text = text
        return room

    def _add(self, text: EmbedText, count: int) -> None:
        if text.slot < 0:
            text.slot = self._slots.pop()
        start = text.n_done
        self._batch.add_all(text.slot, text.tokens[start : start + count], start)

    def _compute(self, shares: list[Share]) -> list[FromRunner]:
        """Run the pass; returns its events."""
        default_threads = self._context.threads.use(job.request.num_thread for job, _, _ in shares)
        started = time.perf_counter()
        try:
            complete = self._context.compute(self._batch)
        except DecodeError as error:
            return [self._fail(job, "internal", str(error)) for job in _jobs(shares)]
        finally:
            self.steps += 1
        if not complete:
            if not self._main_context.can_cut:
                self._start_over()
            return []
        now = time.perf_counter()
        self._context.threads.passed(now - started)
        self.tokens += self._batch.size
        if default_threads:
            self._budget.measured(self._batch.size, now - started)
        self._rest_until = now + now - started
        return self._process_outputs(shares)

    def _process_outputs(self, shares: list[Share]) -> list[FromRunner]:
        """Record the vectors of a pass and answer completed requests."""
        for _, text, count in shares:
            text.add(self._context.vector(text.slot), count, mean=self._context.mean)
        not_finite = [(job, text) for job, text, _ in shares if not text.is_finite]
        if not_finite and len(shares) == 1:
            return [self._fail(job, "request", job.not_finite(text)) for job, text in not_finite]
        for _, text in not_finite:
            # NaN spreads to every text of the pass: which one causes it shows only when it runs alone.
            text.alone = True
            text.restart()
        for _, text, _ in shares:
            if not text.n_left:
                self._release(text)
        if not_finite:
            self._start_over()
        return [self._answer(job) for job in _jobs(shares) if not job.pending]

    def _begin_again(self) -> None:
        """Make another context for all that has no vector yet."""
        self._restart_all()
        self.close()

    def _start_over(self) -> None:
        """Wipe the memory: it holds NaN, or a state that cannot be cut after an abort."""
        self._restart_all()
        self._context.wipe()

    def _restart_all(self) -> None:
        """Begin unfinished texts anew."""
        for text in (text for job in self._jobs for text in job.pending):
            self._release(text)
            text.restart()

    def _release(self, text: EmbedText) -> None:
        if text.slot >= 0:
            self._context.forget(text.slot)
            self._slots.append(text.slot)
            text.slot = -1
        if text is self._split_text:
            self._split_text = None

    def _answer(self, job: PoolJob) -> FromRunner:
        self._jobs.remove(job)
        _log(job, "documents ranked" if job.ranks else "texts embedded")
        return job.answer()

    def _fail(self, job: PoolJob, kind: Literal["request", "internal"], detail: str) -> FromRunner:
        _log(job, "texts failed", reason=detail)
        self._drop(job)
        return Failed(job.id, kind, detail)

    def _drop(self, job: PoolJob) -> None:
        self._jobs.remove(job)
        for text in job.texts:
            self._release(text)


def _log(job: PoolJob, message: str, **values: Any) -> None:
    log_event(job.request.trace_id, message, job=job.id, **values)


def _jobs(shares: list[Share]) -> list[PoolJob]:
    return list(dict.fromkeys(job for job, _, _ in shares))
