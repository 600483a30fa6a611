"""All that a child has to do: answers and vectors, a pass of each in turn."""

from __future__ import annotations

from engine.runner.embedding import Embedding
from engine.runner.loop import Loop
from engine.runner.passage import EmbedJob
from engine.runner.sequence import Sequence


class Work:
    """What runs and what waits, of both kinds. Owned by the loop thread; the mailbox' thread may read the counters."""

    def __init__(self, loop: Loop, embedding: Embedding) -> None:
        self.loop = loop
        self.embedding = embedding

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.loop.idle and self.embedding.idle

    @property
    def interruptible(self) -> frozenset[int]:
        """The ids for whose end the pass that runs is worth aborting: what it computes for them is long."""
        return self.loop.prefilling | self.embedding.computing

    @property
    def steps(self) -> int:
        """Passes since the load."""
        return self.loop.steps + self.embedding.steps

    @property
    def busy(self) -> int:
        """Number of requests that are being answered."""
        return self.loop.busy + self.embedding.busy

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a place."""
        return self.loop.waiting

    @property
    def cached_tokens(self) -> int:
        """Tokens of finished answers that can still be reused."""
        return self.loop.cached_tokens

    def submit(self, item: Sequence | EmbedJob) -> None:
        """Queue a request."""
        if isinstance(item, EmbedJob):
            self.embedding.submit(item)
        else:
            self.loop.submit(item)

    def cancel(self, id: int) -> None:
        """Drop a request wherever it is; unknown ids are those that have just ended."""
        self.loop.cancel(id)
        self.embedding.cancel(id)
