"""What a request has of the pool while it runs: a process with its model loaded, and a part of the context there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.loading.process import RunnerProcess


class Lease:
    """A process that has a request's model loaded, and `num_ctx` tokens of context that the request may use.

    They can become more, up to `most`: that is `num_ctx` where somebody has set it, else what the model was trained
    for. `change(wanted, target)` asks the pool for context and returns what may be used. Belongs to one request.
    """

    def __init__(
        self, process: RunnerProcess, num_ctx: int, most: int, change: Callable[[int, int], Awaitable[int]]
    ) -> None:
        self.process = process
        self.num_ctx = num_ctx
        self.most = most
        self._change = change

    @property
    def can_grow(self) -> bool:
        """Whether more context may be had."""
        return self.num_ctx < self.most

    async def grow(self, tokens: int) -> int:
        """Have at least so many tokens of context, or as many as there can be; returns how many that are now.

        Waits until models have made room for it. Contexts double, so that a growing answer seldom waits.
        """
        wanted = min(tokens, self.most)
        if wanted > self.num_ctx:
            target = self.num_ctx
            while target < wanted:
                target *= 2
            self.num_ctx = max(self.num_ctx, await self._change(wanted, min(target, self.most)))
        return self.num_ctx

    async def take_grown(self, tokens: int) -> None:
        """Use what the model's context has grown to by now, at most `tokens` of it. Waits for nothing else."""
        assert self.process.loaded is not None
        await self.grow(min(tokens, self.process.loaded.n_ctx))
