"""The vectors of a request's texts, however many there are."""

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

SLICE = 256  # texts of one message: what it brings back is some megabytes at most


async def embed(
    process: RunnerProcess, model: Model, request: EmbedRequest, options: Options, num_ctx: int
) -> tuple[list[array[float]], int]:
    """The vectors in the order of the texts, and how many tokens were evaluated for them.

    `num_ctx` is the request's context in tokens. Raises what the process answers instead, naming the text by its place
    if there are several.
    """
    assert process.loaded is not None
    longest = max_embedding_tokens(model, options, num_ctx)
    most = max(ALWAYS_TOKENIZED, max_characters(model, longest))  # what is beyond would be cut, or is refused so too
    request = replace(request, texts=[text[:most] for text in request.texts])
    normalize = request.normalize or normalizes(model.header)
    # Two names of the same weights may have different ideas of their context; the process has that of the first.
    longest = min(longest, process.loaded.n_ctx)
    options = clamped(options, MOST_TOKENS)  # how many are in a pass of texts is not theirs to say
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
