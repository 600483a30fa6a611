"""Ranks the documents of a request by a query, in messages of a bounded number of documents."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from engine.api import Ranked, RerankRequest
from engine.embed_messages import Rerank
from engine.embeddings import SLICE, Room
from engine.errors import ContextExceeded
from engine.generation import ALWAYS_TOKENIZED, clamped, max_characters
from engine.loading.lease import Lease
from engine.model import Model
from modelfile.parameters import MOST_TOKENS, Options

PROBABILITIES = ("qwen3", "qwen3vl")
"""Architectures whose scores are a softmax over the classifier's labels; those of all others are logits."""


async def rerank(lease: Lease, model: Model, request: RerankRequest, options: Options, load_duration: int) -> Ranked:
    """The scores of the documents; `load_duration` is in nanoseconds.

    Raises ContextExceeded for a query that is too long, and what `RunnerProcess.rerank` raises.
    """
    room = Room(lease, model, options)
    limit = max(ALWAYS_TOKENIZED, max_characters(model, room.most))
    if len(request.query) > limit:
        raise ContextExceeded(f"the query is too long: {len(request.query)} characters, at most {limit}")
    options = clamped(options, MOST_TOKENS)  # `num_batch` does not apply
    scores: list[float] = []
    cut: set[int] = set()
    tokens = 0
    for message in _messages(model, request, options, limit):
        reply = await room.compute(lease.process.rerank, message)
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


def _messages(model: Model, request: RerankRequest, options: Options, limit: int) -> Iterator[Rerank]:
    """`limit`: characters of a document; what lies beyond is cut anyway, or the document is refused without it too."""
    for first in range(0, len(request.documents), SLICE):
        yield Rerank(
            id=0,
            query=request.query,
            documents=[document[:limit] for document in request.documents[first : first + SLICE]],
            num_ctx=0,  # as `Room.compute` says
            truncate=request.truncate,
            document_limit=request.document_limit,
            template=model.rerank_template,
            first=first,
            num_thread=options.num_thread,
        )
