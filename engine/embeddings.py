"""Embeds the texts of a request, in messages of a bounded number of texts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace

from engine.api import EmbedRequest
from engine.generation import ALWAYS_TOKENIZED, clamped, max_characters, max_embedding_tokens
from engine.loading.memory import normalizes
from engine.loading.process import RunnerProcess
from engine.messages import Embed
from engine.model import Model
from modelfile.parameters import MOST_TOKENS, Options

SLICE = 256  # texts of one message, so that its answer is a few megabytes at most


async def embed(
    process: RunnerProcess, model: Model, request: EmbedRequest, options: Options, num_ctx: int
) -> tuple[list[array[float]], int]:
    """The vectors in the order of the texts, and the number of tokens that were evaluated.

    `num_ctx` is the request's context in tokens. Raises what `RunnerProcess.embed` raises; of several texts the error
    names the one at fault by its number.
    """
    assert process.loaded is not None
    longest = max_embedding_tokens(model, options, num_ctx)
    # What lies beyond is cut anyway, or the text is refused without it too.
    limit = max(ALWAYS_TOKENIZED, max_characters(model, longest))
    request = replace(request, texts=[text[:limit] for text in request.texts])
    normalize = request.normalize or normalizes(model.header)
    # Names that share weights may have different contexts; the process has that of the name it was loaded for.
    longest = min(longest, process.loaded.n_ctx)
    options = clamped(options, MOST_TOKENS)  # `num_batch` does not apply to embedding
    vectors: list[array[float]] = []
    tokens = 0
    for message in _messages(request, options, longest, normalize):
        reply = await process.embed(message)
        tokens += reply.tokens
        size = len(reply.vectors) // len(message.texts)
        vectors += (array("f", reply.vectors[at : at + size]) for at in range(0, len(reply.vectors), size))
    return vectors, tokens


def _messages(request: EmbedRequest, options: Options, num_ctx: int, normalize: bool) -> Iterator[Embed]:
    texts = request.texts
    for first in range(0, len(texts), SLICE):
        yield Embed(
            id=0,
            texts=texts[first : first + SLICE],
            num_ctx=num_ctx,
            truncate=request.truncate,
            dimensions=request.dimensions,
            normalize=normalize,
            first=first if len(texts) > 1 else None,
            num_thread=options.num_thread,
        )
