"""Texts become vectors: many of several requests in a pass, one pass between two steps of the answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Literal

from engine.messages import EmbeddingSizes, Failed, FromRunner
from engine.runner.batch import Batch
from engine.runner.context import Context, DecodeError, ModelError
from engine.runner.embed_context import Embedder
from engine.runner.embed_request import EmbedJob, EmbedText
from engine.runner.prefill_budget import PrefillBudget

SHARED_GOAL = 0.1  # seconds of a pass while answers wait for its end
NO_NUMBERS = "embedding contains NaN or Inf values"
NO_IDS: frozenset[int] = frozenset()

Share = tuple[EmbedJob, EmbedText, int]
"""A text in a pass, and how many of its tokens are in it."""


class Embedding:
    """Owns all requests for vectors and, from the first of them on, the context for them. All on the loop thread.

    The exceptions are `computing`, which ids are in the pass that runs, and the counters: the mailbox' thread may read
    them. `emit` is called once per step with all that the step produced.
    """

    def __init__(self, context: Context, sizes: EmbeddingSizes, emit: Callable[[list[FromRunner]], None]) -> None:
        self._context = context
        self._sizes = sizes
        self._emit = emit
        self._jobs: deque[EmbedJob] = deque()
        self._spread: EmbedText | None = None  # the one text that is spread over passes
        self._rest_until = 0.0  # in time.perf_counter's seconds
        self.computing = NO_IDS
        self.steps = 0

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self._context, self._sizes)

    @cached_property
    def _batch(self) -> Batch:
        return Batch(self._embedder.capacity)

    @cached_property
    def _pace(self) -> PrefillBudget:
        return PrefillBudget(self._sizes.batch, SHARED_GOAL)

    @cached_property
    def _slots(self) -> list[int]:
        return list(range(self._embedder.sequences))

    @property
    def busy(self) -> int:
        """Number of requests that wait for their vectors."""
        return len(self._jobs)

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._jobs

    def ready(self, *, crowded: bool) -> bool:
        """Whether to step now: beside answers (`crowded`) no sooner than they have had as long as the last pass."""
        return not self.idle and not (crowded and time.perf_counter() < self._rest_until)

    def submit(self, job: EmbedJob) -> None:
        """Queue a request."""
        self._jobs.append(job)

    def cancel(self, id: int) -> None:
        """Drop a request; unknown ids are those that have just ended."""
        for job in [job for job in self._jobs if job.id == id]:
            self._drop(job)

    def step(self, *, crowded: bool) -> None:
        """Fill a pass, compute it, and answer whose texts are all done; `crowded` when answers wait for its end."""
        try:
            shares = self._fill(self._pace.chunk(crowded=crowded))
            self.computing = frozenset(job.id for job, _, _ in shares)
            events = self._compute(shares)
        except ModelError as error:
            events = [self._fail(job, "internal", str(error)) for job in list(self._jobs)]
        self.computing = NO_IDS
        if events:
            self._emit(events)

    def close(self) -> None:
        """Free the context, if there is one. Nothing may be called afterwards."""
        if "_embedder" in vars(self):
            self._embedder.close()

    def _fill(self, budget: int) -> list[Share]:
        """Texts for the next pass, first those of the request whose turn it is."""
        self._batch.clear()
        shares: list[Share] = []
        for job in self._jobs:
            for text in job.pending:
                count = self._share(text, shares, budget - self._batch.size)
                if not count:
                    break
                self._add(text, count)
                shares.append((job, text, count))
        self._jobs.rotate(-1)
        return shares

    def _share(self, text: EmbedText, shares: list[Share], room: int) -> int:
        """How many of a text's tokens may join what is in the pass already."""
        if shares and (text.alone or shares[0][1].alone or len(shares) == self._embedder.sequences):
            return 0
        if text.n_left <= room:
            return text.n_left
        if not self._embedder.splits:
            return 0 if shares else text.n_left
        if self._spread not in (None, text):
            return 0
        self._spread = text
        return room

    def _add(self, text: EmbedText, count: int) -> None:
        if text.slot < 0:
            text.slot = self._slots.pop()
        start = text.n_done
        self._batch.add_all(text.slot, text.tokens[start : start + count], start)

    def _compute(self, shares: list[Share]) -> list[FromRunner]:
        usual = self._embedder.threads.use(job.request.num_thread for job, _, _ in shares)
        started = time.perf_counter()
        try:
            complete = self._embedder.compute(self._batch)
        except DecodeError as error:
            return [self._fail(job, "internal", str(error)) for job in _jobs(shares)]
        finally:
            self.steps += 1
        if not complete:
            if not self._context.can_cut:
                self._start_over()
            return []
        now = time.perf_counter()
        if usual:
            self._pace.measured(self._batch.size, now - started)
        self._rest_until = now + now - started
        return self._advance(shares)

    def _advance(self, shares: list[Share]) -> list[FromRunner]:
        for _, text, count in shares:
            text.add(self._embedder.vector(text.slot), count, mean=self._embedder.mean)
        unsound = [(job, text) for job, text, _ in shares if not text.sound]
        if unsound and len(shares) == 1:
            return [self._fail(job, "request", job.named(NO_NUMBERS, text)) for job, text in unsound]
        for _, text in unsound:
            # What is no number makes none of all that shares its pass: whose fault it is shows only when it is alone.
            text.alone = True
            text.restart()
        for _, text, _ in shares:
            if not text.n_left:
                self._release(text)
        if unsound:
            self._start_over()
        return [self._answer(job) for job in _jobs(shares) if not job.pending]

    def _start_over(self) -> None:
        """Forget how far unfinished texts have come: what they left behind cannot be trusted, or not be cut."""
        for text in (text for job in self._jobs for text in job.pending):
            self._release(text)
            text.restart()
        self._embedder.wipe()

    def _release(self, text: EmbedText) -> None:
        if text.slot >= 0:
            self._embedder.forget(text.slot)
            self._slots.append(text.slot)
            text.slot = -1
        if text is self._spread:
            self._spread = None

    def _answer(self, job: EmbedJob) -> FromRunner:
        self._jobs.remove(job)
        return job.answer()

    def _fail(self, job: EmbedJob, kind: Literal["request", "internal"], detail: str) -> FromRunner:
        self._drop(job)
        return Failed(job.id, kind, detail)

    def _drop(self, job: EmbedJob) -> None:
        self._jobs.remove(job)
        for text in job.texts:
            self._release(text)


def _jobs(shares: list[Share]) -> list[EmbedJob]:
    return list(dict.fromkeys(job for job, _, _ in shares))
