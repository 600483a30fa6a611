"""What a request has of the pool while it runs: a process with its model loaded, and a part of the context there."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from engine.errors import AnswerUnread
from engine.loading.process import RunnerProcess
from engine.progress import Watch


class Lease:
    """A process that has a request's model loaded, and `num_ctx` tokens of context that the request may use.

    They can become more, up to `most`: that is `num_ctx` where somebody has set it, else what the model was trained
    for. `change(wanted, target)` asks the pool for context and returns what may be used, 0 from a process that has
    died. `stop_answer` ends the answer that runs. Belongs to one request, which has `waited` so many seconds for it and
    whose client looks at its `watch`.
    """

    def __init__(
        self,
        process: RunnerProcess,
        num_ctx: int,
        most: int,
        change: Callable[[int, int], Awaitable[int]],
        waited: float,
        watch: Watch,
    ) -> None:
        self.process = process
        self.num_ctx = num_ctx
        self.most = most
        self.waited = waited
        self.watch = watch
        self.stop_answer: Callable[[], None] = lambda: None
        self._change = change
        self._handed_over = math.inf  # when something was, and its reader has not come back yet
        self._unread = 0.0

    @property
    def can_grow(self) -> bool:
        """Whether more context may be had."""
        return self.num_ctx < self.most

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Around each piece of an answer that is handed to its reader. Raises AnswerUnread if it was given up there."""
        self._handed_over = time.monotonic()
        yield
        self._handed_over = math.inf
        if self._unread:
            raise AnswerUnread(self._unread)

    def unread(self, now: float) -> float:
        """For how many seconds its reader has taken nothing; 0 if it waits for more, or was given up."""
        return 0.0 if self._unread else max(0.0, now - self._handed_over)

    def give_up(self, now: float) -> None:
        """End the answer: its reader gets an error, if it ever comes back."""
        self._unread = self.unread(now)
        self.stop_answer()

    async def grow(self, tokens: int) -> int:
        """Have at least so many tokens of context, or as many as there can be; returns how many that are now.

        Waits until models have made room for it. Contexts double, so that a growing answer seldom waits.
        """
        wanted = min(tokens, self.most)
        if wanted > self.num_ctx:
            await self._have(wanted, wanted)
        return self.num_ctx

    async def take_grown(self, tokens: int) -> None:
        """Use what the model's context has grown to by now, if `tokens` may need it. Nothing is changed for that."""
        assert self.process.loaded is not None
        if min(tokens, self.most, self.process.loaded.n_ctx) > self.num_ctx:
            await self._have(self.num_ctx, min(tokens, self.most))

    async def _have(self, wanted: int, enough: int) -> None:
        target = self.num_ctx
        while target < enough:
            target *= 2
        num_ctx = await self._change(wanted, min(target, self.most))
        self.num_ctx = max(self.num_ctx, num_ctx)
