"""Embeds the texts of a request, in messages of a bounded number of texts. The context grows for long ones."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import msgspec

from engine.api import EmbedRequest
from engine.embed_messages import Embed, Embedded, Rerank, Reranked
from engine.errors import ContextExceeded
from engine.generation import ALWAYS_TOKENIZED, clamped, max_characters, max_embedding_tokens
from engine.loading.lease import Lease
from engine.loading.memory import normalizes
from engine.model import Model
from modelfile.parameters import MOST_TOKENS, Options

SLICE = 256  # texts of one message, so that its answer is a few megabytes at most


Texts = TypeVar("Texts", Embed, Rerank)
Vectors = TypeVar("Vectors", Embedded, Reranked)


class Room:
    """How long the texts of a request for vectors or scores may be: `longest` tokens, as far as its context has grown.

    It grows for longer texts, up to `most`.
    """

    def __init__(self, lease: Lease, model: Model, options: Options) -> None:
        self._lease = lease
        # Where a model also generates, embedding has a cache of its own, which stays as it is.
        self.most = max_embedding_tokens(model, options, lease.num_ctx if model.generates else lease.most)

    @property
    def longest(self) -> int:
        """Tokens of a text, by now."""
        loaded = self._lease.process.loaded
        assert loaded is not None
        # Names that share weights may have different contexts; the process has that of the name it was loaded for.
        return min(self.most, self._lease.num_ctx, loaded.n_ctx)

    async def compute(self, send: Callable[[Texts], Awaitable[Vectors]], message: Texts) -> Vectors:
        """Send a message; if it has a text that is too long, again with as much context as can be had for that."""
        grows = self.longest < self.most
        try:
            return await send(msgspec.structs.replace(message, num_ctx=self.longest, grows=grows))
        except ContextExceeded as error:
            if not grows or not error.tokens:
                raise
            await self._lease.grow(error.tokens)
            return await send(msgspec.structs.replace(message, num_ctx=self.longest))


async def embed(lease: Lease, model: Model, request: EmbedRequest, options: Options) -> tuple[list[array[float]], int]:
    """The vectors in the order of the texts, and the number of tokens that were evaluated.

    Raises what `RunnerProcess.embed` raises; of several texts the error names the one at fault by its number.
    """
    room = Room(lease, model, options)
    # What lies beyond is cut anyway, or the text is refused without it too.
    limit = max(ALWAYS_TOKENIZED, max_characters(model, room.most))
    request = replace(request, texts=[text[:limit] for text in request.texts])
    normalize = request.normalize or normalizes(model.header)
    options = clamped(options, MOST_TOKENS)  # `num_batch` does not apply to embedding
    vectors: list[array[float]] = []
    tokens = 0
    for message in _messages(request, options, normalize):
        reply = await room.compute(lease.process.embed, message)
        tokens += reply.tokens
        size = len(reply.vectors) // len(message.texts)
        vectors += (array("f", reply.vectors[at : at + size]) for at in range(0, len(reply.vectors), size))
    return vectors, tokens


def _messages(request: EmbedRequest, options: Options, normalize: bool) -> Iterator[Embed]:
    texts = request.texts
    for first in range(0, len(texts), SLICE):
        yield Embed(
            id=0,
            texts=texts[first : first + SLICE],
            num_ctx=0,  # as `Room.compute` says
            truncate=request.truncate,
            dimensions=request.dimensions,
            normalize=normalize,
            first=first if len(texts) > 1 else None,
            num_thread=options.num_thread,
        )
