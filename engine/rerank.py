"""Ranks the documents of a request by a query, in messages of a bounded number of documents."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from engine.api import Ranked, RerankRequest
from engine.embeddings import SLICE
from engine.errors import ContextExceeded
from engine.generation import ALWAYS_TOKENIZED, clamped, max_characters, max_embedding_tokens
from engine.loading.process import RunnerProcess
from engine.messages import Rerank
from engine.model import Model
from modelfile.parameters import MOST_TOKENS, Options

PROBABILITIES = ("qwen3", "qwen3vl")
"""Architectures whose scores are a softmax over the classifier's labels; those of all others are logits."""


async def rerank(
    process: RunnerProcess, model: Model, request: RerankRequest, options: Options, num_ctx: int, load_duration: int
) -> Ranked:
    """The scores of the documents. `num_ctx` is the request's context in tokens, `load_duration` in nanoseconds.

    Raises ContextExceeded for a query that is too long, and what `RunnerProcess.rerank` raises.
    """
    assert process.loaded is not None
    longest = max_embedding_tokens(model, options, num_ctx)
    limit = max(ALWAYS_TOKENIZED, max_characters(model, longest))
    if len(request.query) > limit:
        raise ContextExceeded(f"the query is too long: {len(request.query)} characters, at most {limit}")
    longest = min(longest, process.loaded.n_ctx)
    options = clamped(options, MOST_TOKENS)  # `num_batch` does not apply
    scores: list[float] = []
    cut: set[int] = set()
    tokens = 0
    for message in _messages(model, request, options, longest, limit):
        reply = await process.rerank(message)
        scores += array("f", reply.scores)
        cut.update(message.first + place for place in reply.cut)
        tokens += reply.tokens
    return Ranked(
        scores=scores,
        probabilities=model.header.architecture in PROBABILITIES,
        cut=frozenset(cut),
        prompt_eval_count=tokens,
        load_duration=load_duration,
    )


def _messages(model: Model, request: RerankRequest, options: Options, num_ctx: int, limit: int) -> Iterator[Rerank]:
    """`limit`: characters of a document; what lies beyond is cut anyway, or the document is refused without it too."""
    for first in range(0, len(request.documents), SLICE):
        yield Rerank(
            id=0,
            query=request.query,
            documents=[document[:limit] for document in request.documents[first : first + SLICE]],
            num_ctx=num_ctx,
            truncate=request.truncate,
            document_limit=request.document_limit,
            template=model.rerank_template,
            first=first,
            num_thread=options.num_thread,
        )
