"""Requests that pool: their tokenised texts; and the answer to those for embeddings, made of their vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from engine.embed_messages import Embed, Embedded, Rerank
from engine.messages import FromRunner
from engine.runner.embed_context import Vector
from engine.runner.preprocess import PromptRejected
from engine.runner.vocabulary import Vocabulary

TOO_LONG = "the input length exceeds the context length"
NO_ROOM = "input after truncation exceeds maximum context length"
NOT_FINITE = "embedding contains NaN or Inf values"


@dataclass(slots=True, eq=False)
class EmbedText:
    """One text. Its first `n_done` tokens were computed and gave `vector`, for a mean a weighted sum so far.

    `slot` is its llama.cpp sequence id, -1 for none. `alone`: it must not share a pass, after one that gave NaN.
    """

    tokens: array[int]
    n_done: int = 0
    slot: int = -1
    vector: Vector | None = None
    alone: bool = False

    @property
    def n_left(self) -> int:
        """Tokens still to be computed."""
        return len(self.tokens) - self.n_done

    @property
    def is_finite(self) -> bool:
        """Whether its vector holds neither NaN nor infinity."""
        return self.vector is not None and bool(np.isfinite(self.vector).all())

    def add(self, vector: Vector, count: int, *, mean: bool) -> None:
        """Record the pass output `vector` of the next `count` tokens."""
        if mean:
            weighted = vector * np.float32(count / len(self.tokens))
            self.vector = weighted if self.vector is None else self.vector + weighted
        else:
            self.vector = vector
        self.n_done += count

    def restart(self) -> None:
        """Forget all that was computed."""
        self.n_done, self.vector = 0, None


@dataclass(slots=True, eq=False)
class PoolJob(ABC):
    """A request and its texts. Owned by the loop thread once it is made. `ranks`: its vectors are a classifier's.

    `last_pass`: the number of the pass that had a part of it last, 0 for none.
    """

    ranks: ClassVar[bool] = False
    request: Embed | Rerank
    texts: list[EmbedText]
    last_pass: int = field(default=0, init=False)

    @property
    def id(self) -> int:
        """The request's id."""
        return self.request.id

    @property
    def pending(self) -> list[EmbedText]:
        """The texts that have no vector yet."""
        return [text for text in self.texts if text.n_left]

    @abstractmethod
    def answer(self) -> FromRunner:
        """The reply. Every text must have its vector."""

    @abstractmethod
    def not_finite(self, text: EmbedText) -> str:
        """The error for a text whose vector is not finite."""


@dataclass(slots=True, eq=False)
class EmbedJob(PoolJob):
    """A request for vectors."""

    request: Embed

    def answer(self) -> Embedded:
        """The reply with all vectors, cut to `dimensions` and normalised as asked. Every text must have its vector."""
        vectors = np.stack([text.vector for text in self.texts if text.vector is not None])
        if 0 < self.request.dimensions < vectors.shape[1]:
            vectors = vectors[:, : self.request.dimensions]
        if self.request.normalize:
            vectors = _normalized(vectors)
        return Embedded(self.id, vectors.astype(np.float32).tobytes(), sum(len(p.tokens) for p in self.texts))

    def not_finite(self, text: EmbedText) -> str:
        """An error that names the text's index in the request."""
        return _located(NOT_FINITE, self.request, self.texts.index(text))


def make_job(vocabulary: Vocabulary, request: Embed) -> EmbedJob:
    """Tokenise the texts, cutting those that are too long. Raises PromptRejected. Safe from any thread."""
    divided = [vocabulary.tokenize(text, add_special=True) for text in request.texts]
    longest = max(map(len, divided), default=0)
    if request.grows and longest > request.num_ctx:
        raise PromptRejected(TOO_LONG, longest, request.num_ctx)
    texts = []
    for index, tokens in enumerate(divided):
        try:
            texts.append(EmbedText(_fitting(vocabulary, tokens, request)))
        except PromptRejected as error:
            raise PromptRejected(_located(str(error), request, index), error.tokens, error.limit) from None
    return EmbedJob(request, texts)


def _fitting(vocabulary: Vocabulary, tokens: array[int], request: Embed) -> array[int]:
    if len(tokens) > request.num_ctx:
        if not request.truncate:
            raise PromptRejected(TOO_LONG, limit=request.num_ctx)  # the text may have been cut already
        return _cut(vocabulary, tokens, request.num_ctx)
    return tokens or array("i", [vocabulary.end])


def _cut(vocabulary: Vocabulary, tokens: array[int], limit: int) -> array[int]:
    """The first tokens of a text, with those that the tokenizer puts before and behind every text."""
    around = len(vocabulary.tokenize("", add_special=True))
    if around >= limit:
        raise PromptRejected(NO_ROOM)
    behind = around - vocabulary.adds_bos
    return tokens[: limit - behind] + tokens[len(tokens) - behind :]


def _located(error: str, request: Embed, index: int) -> str:
    return error if request.first is None else f"{error}: input[{request.first + index}]"


def _normalized(vectors: Vector) -> Vector:
    """Vectors of L2 norm 1; zero vectors stay."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    shaped: Vector = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return shaped
